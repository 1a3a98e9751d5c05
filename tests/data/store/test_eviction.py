"""Size limit of the media cache: the least recently used pack is evicted first, and never one in use by a process."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from polymodal.cli import commands
from polymodal.core.errors import PolymodalError
from polymodal.core.paths import CacheWarning
from polymodal.data.store import eviction
from polymodal.data.store.eviction import cache_budget, evict, list_packs, usage
from polymodal.data.store.store import MediaStore, content_key

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks, so nothing is evicted")

RECORDS = 1000
PACK = 4 * RECORDS + 24 + 24
FIELDS = {"values": ("float32", ())}


def key(name: str) -> bytes:
    return content_key(name.encode())


def values(name: str) -> np.ndarray:
    return np.full(RECORDS, float(len(name)) + ord(name[0]), np.float32)


def store(folder: Path, kind: str = "time_series") -> MediaStore:
    return MediaStore(folder, FIELDS, "x", ragged=True, kind=kind)


def fill(folder: Path, *names: str, kind: str = "time_series") -> None:
    """One pack for each name, the first used longest ago; nothing stays open."""
    for age, name in enumerate(reversed(names)):
        one = store(folder, kind)
        one.add([key(name)], [{"values": values(name)}])
        os.utime(one.folder / f"{one._packs[-1].name}.keys", times=(0, time.time() - 100 * (age + 1)))
        del one
    gc.collect()


def left(folder: Path, *names: str, kind: str = "time_series") -> str:
    one = store(folder, kind)
    return "".join(name for name in names if one.contains([key(name)]).all())


def test_the_least_recently_used_goes_first_in_any_store(tmp_path: Path) -> None:
    fill(tmp_path, "b", "d", kind="video")
    fill(tmp_path, "a")
    newest = list_packs(tmp_path)
    assert {pack.media for pack in newest} == {"video", "time_series"}
    assert evict(tmp_path, 2 * PACK) == 2 * PACK
    assert left(tmp_path, "b", "d", kind="video") + left(tmp_path, "a") == "da"
    assert evict(tmp_path, 10 * PACK) == 2 * PACK


def test_opening_is_use(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "c")
    store(tmp_path).open([key("a")])
    gc.collect()
    evict(tmp_path, 2 * PACK)
    assert left(tmp_path, "a", "b", "c") == "ac"


def test_adding_keeps_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE_GIB", str(2.5 * PACK / 2**30))
    fill(tmp_path, "a", "b", "c", "d")
    fill(tmp_path, "e", kind="audio")
    assert sum(pack.size for pack in list_packs(tmp_path)) <= 2.5 * PACK
    assert left(tmp_path, "e", kind="audio") == "e"


def test_what_this_process_uses_stays_and_it_warns_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE_GIB", str(1.5 * PACK / 2**30))
    monkeypatch.setattr(eviction, "_warned", set())
    one = store(tmp_path)
    one.add([key("a")], [{"values": values("a")}])
    with pytest.warns(CacheWarning, match="over the cache limit of"):
        one.add([key("b")], [{"values": values("b")}])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.add([key("c")], [{"values": values("c")}])
    items = one.open([key("c"), key("a"), key("b")])
    del one
    gc.collect()
    assert evict(tmp_path, 0) == 3 * PACK
    assert items.take(np.arange(3))["values"][:, 0].tolist() == [values(name)[0] for name in "cab"]
    del items
    gc.collect()
    assert evict(tmp_path, 0) == 0


_HOLD = """
import sys
sys.path.insert(0, sys.argv[2])
from test_eviction import *
items = store(Path(sys.argv[1])).open([key("a")])
print("open", flush=True)
sys.stdin.readline()
assert items.take(np.array([0]))["values"][0].tolist() == values("a").tolist()
"""


def test_what_another_process_uses_stays_until_it_ends(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    command = [sys.executable, "-c", _HOLD, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        assert evict(tmp_path, 0) == PACK
        assert left(tmp_path, "a", "b") == "a"
        holder.communicate("\n")
    assert holder.returncode == 0
    gc.collect()
    assert evict(tmp_path, 0) == 0


def test_an_evicted_pack_is_not_known_to_those_who_had_listed_it(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    other = store(tmp_path)
    other.contains([key("b")])
    evict(tmp_path, 0)
    assert other.contains([key("a"), key("b")]).tolist() == [False, True]
    other.add([key("a")], [{"values": values("a")}])
    assert other.open([key("a")]).take(np.array([0]))["values"][0].tolist() == values("a").tolist()


_CHURN = """
import sys
sys.path.insert(0, sys.argv[2])
from test_eviction import *
warnings.simplefilter("ignore")
for number in range(60):
    one = store(Path(sys.argv[1]))
    names = [chr(97 + (number + step) % 9) for step in range(3)]
    missing = [name for name, known in zip(names, one.contains([key(name) for name in names])) if not known]
    for name in missing:
        one.add([key(name)], [{"values": values(name)}])
    taken = one.open([key(name) for name in names]).take(np.arange(3))["values"]
    assert taken[:, -1].tolist() == [values(name)[0] for name in names]
"""


def test_processes_that_add_and_evict_at_the_same_time_always_find_what_they_use(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CHURN, str(tmp_path), str(Path(__file__).parent)]
    environment = os.environ | {"POLYMODAL_CACHE_GIB": str(4 * PACK / 2**30)}
    runs = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert not [pack for pack in list_packs(tmp_path) if pack.keys is None]


def test_what_an_interrupted_process_left_goes_after_an_hour(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    folder = store(tmp_path).folder
    (folder / "old.values.raw").write_bytes(b"x" * 50)
    (folder / "new.values.raw.partial").write_bytes(b"x" * 50)
    (folder / "notes.txt").write_bytes(b"somebody's own")
    for name in ("old.values.raw", "notes.txt"):
        os.utime(folder / name, times=(0, time.time() - eviction.ABANDONED_SECONDS - 1))
    assert evict(tmp_path, PACK + 60) == PACK + 50
    assert evict(tmp_path, 0) == 50
    assert sorted(path.name for path in folder.iterdir()) == ["new.values.raw.partial", "notes.txt"]


def test_stores_of_earlier_versions_are_evicted_too(tmp_path: Path) -> None:
    old = tmp_path / "0123456789abcdef"
    old.mkdir()
    for suffix in ("u8", "keys"):
        (old / f"f00.{suffix}").write_bytes(b"x" * 16)
    assert [(pack.media, pack.size) for pack in list_packs(tmp_path)] == [("other", 32)]
    assert evict(tmp_path, 0) == 0
    assert list(old.iterdir()) == []


def test_the_budget_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLYMODAL_CACHE_GIB", raising=False)
    assert cache_budget() == 20 * 2**30
    monkeypatch.setenv("POLYMODAL_CACHE_GIB", "0.5")
    assert cache_budget() == 2**29


@pytest.mark.parametrize("text", ["0", "-1", "much", "nan", "inf"])
def test_another_budget_is_refused(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE_GIB", text)
    with pytest.raises(PolymodalError, match="POLYMODAL_CACHE_GIB must be a positive number"):
        store(tmp_path)


def test_the_command_shows_and_empties_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path))
    monkeypatch.setenv("POLYMODAL_CACHE_GIB", "1")

    def run(*arguments: str) -> dict[str, object]:
        found = CliRunner().invoke(commands.app, ["cache", "--json", *arguments])
        assert found.exit_code == 0, found.output
        return json.loads(found.output)

    assert run() == {"folder": str(tmp_path / "media"), "budget": 2**30, "size": 0, "kinds": {}}
    fill(tmp_path / "media", "a", "b", kind="audio")
    fill(tmp_path / "media", "c", "d", kind="video")
    one = {"items": 2, "size": 2 * PACK}
    assert run()["kinds"] == {"audio": one, "video": one}
    assert run("--keep", str(3 * PACK / 2**30))["size"] == 3 * PACK
    held = store(tmp_path / "media", "video").open([key("d")])
    assert run("--clear")["kinds"] == {"video": {"items": 1, "size": PACK}}
    del held
    gc.collect()
    assert run("--clear")["kinds"] == {}
    assert usage(tmp_path / "media") == {}
