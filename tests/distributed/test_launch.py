"""The real launcher: restart after a kill, errors, the commands; and what happens without it."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distributed.fit_script import RECIPE, table
from distributed.launch import environment, start, torchrun
from polymodal.data.sampler import divide_rows
from polymodal.distributed.launch import is_first_process, num_processes, num_restarts
from polymodal.model.model import Model

SCRIPT = str(Path(__file__).with_name("fit_script.py"))
#: The step at which process 1 is killed: in the second epoch, one step after a checkpoint.
KILLED, NEVER = 9, -1


def test_a_killed_process_is_restarted_and_the_model_is_the_same(tmp_path: Path) -> None:
    """D4 and D11."""
    runs = {"whole": (NEVER, "none"), "killed": (KILLED, "none"), "sharded": (KILLED, "full")}
    for name, (killed, sharding) in runs.items():
        arguments = [SCRIPT, str(tmp_path / name), str(killed), sharding]
        done = torchrun(2, arguments, "--max-restarts", "1", POLYMODAL_CACHE=str(tmp_path / f"cache-{name}"))
        assert done.returncode == 0, done.stderr[-4000:]
    weights, again, sharded = [load_file(tmp_path / name / "model.safetensors") for name in runs]
    assert all(torch.equal(one, again[name]) for name, one in weights.items())
    assert sharded.keys() == weights.keys()
    assert all(torch.allclose(one, sharded[name], rtol=1e-4, atol=1e-5) for name, one in weights.items())
    assert not (tmp_path / "sharded" / "checkpoint").exists()
    model = Model.load(tmp_path / "killed")
    assert model.predict(table(4))
    run = json.loads((tmp_path / "killed" / "run.json").read_text())
    assert "2 processes" in run["compute"]["reason"]
    assert run["steps"] == json.loads((tmp_path / "whole" / "run.json").read_text())["steps"]
    assert not (tmp_path / "killed" / "checkpoint.safetensors").exists()
    recipes = [(tmp_path / name / "recipe.yaml").read_text() for name in ("whole", "killed")]
    assert recipes[0] == recipes[1]
    assert "process" not in recipes[0]


def write_table(file: Path) -> None:
    columns = table()
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def test_the_command_prints_once_and_an_error_ends_all_processes(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({**RECIPE, "training": {**RECIPE["training"], "epochs": 1}}))  # type: ignore[dict-item]
    command = ["-m", "polymodal", "fit", str(tmp_path / "table.csv"), "--recipe", str(recipe), "--json"]
    ended = []
    for _ in range(2):
        processes = start(2, [*command, "--out", str(tmp_path / "model")], apart=True)
        ended.append([(*one.communicate(timeout=120), one.returncode) for one in processes])
    (first, second), again = ended
    assert [first[2], second[2]] == [0, 0], first[1] + second[1]
    assert json.loads(first[0])["metrics"]["validation"]
    assert second[0] == ""
    assert [status for _, _, status in again] == [2, 2]  # the directory is not empty
    assert all("is not empty" in output + errors for output, errors, _ in again)


def test_an_interrupted_launch_leaves_no_process(tmp_path: Path) -> None:
    """D11: Ctrl-C ends every process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", SCRIPT]
    marked = environment(POLYMODAL_TEST_MARK=str(tmp_path))
    launcher = subprocess.Popen([*command, str(tmp_path / "model"), str(NEVER)], env=marked, start_new_session=True)
    # torchrun forgets processes that it is just starting, so the interrupt comes when both run the script
    wait_until(lambda: len(list(tmp_path.glob("started-*"))) == 2)
    assert len(processes_of(tmp_path)) >= 3
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(timeout=300) != 0
    wait_until(lambda: not processes_of(tmp_path))


def wait_until(is_true: Callable[[], bool], seconds: float = 300) -> None:
    """Return once it is true, or fail."""
    until = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.2)


def processes_of(mark: Path) -> list[int]:
    """The processes whose environment has the mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"POLYMODAL_TEST_MARK={mark}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it has just ended, or belongs to another user
            continue
    return found


def test_without_a_launcher_no_process_group_is_touched(tmp_path: Path) -> None:
    """D10."""
    code = (
        "import sys, polymodal\n"
        "names = {'polymodal.distributed', 'torch.distributed', 'torch'}\n"
        "assert not names & set(sys.modules), names & set(sys.modules)\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from distributed.fit_script import BRIEF, RECIPE, table\n"
        "polymodal.fit(table(40), recipe=RECIPE, settings=BRIEF)\n"
        "import torch.distributed\n"
        "assert not torch.distributed.is_initialized()\n"
        "assert 'polymodal.distributed.process_group' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_other_commands_refuse_several_processes() -> None:
    (process,) = start(1, ["-m", "polymodal", "evaluate", "model", "table.csv"], WORLD_SIZE="2")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 2
    assert "evaluate runs in one process, and the launcher has started 2" in output


def test_the_launch_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (num_processes(), is_first_process(), num_restarts()) == (1, True, 0)
    launch = {"RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1", "TORCHELASTIC_RESTART_COUNT": "2"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    assert (num_processes(), is_first_process(), num_restarts()) == (1, True, 2)  # a launch of one process
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (num_processes(), is_first_process(), num_restarts()) == (4, False, 2)
    monkeypatch.delenv("MASTER_ADDR")  # a variable of another program, such as Slurm
    assert num_processes() == 1


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_rows_are_divided_once_and_evenly_with_groups_together(parts: int) -> None:
    """D6."""
    draw = np.random.default_rng(parts)
    for count in (0, 1, 4, 37):
        rows = draw.permutation(1000)[:count]
        plain = divide_rows(rows, None, parts)
        group = draw.integers(-1, 6, count)
        together = divide_rows(rows, group, parts)
        for found in (plain, together):
            assert len(found) == parts
            assert sorted(np.concatenate(found).tolist()) == sorted(rows.tolist())
        assert max(map(len, plain)) - min(map(len, plain)) <= 1
        for number in set(group[group >= 0].tolist()):
            own = set(rows[group == number].tolist())
            assert sum(bool(own & set(part.tolist())) for part in together) == 1
        most = int(np.bincount(group[group >= 0], minlength=1).max())
        assert max(map(len, together)) - min(map(len, together)) <= max(1, most)
