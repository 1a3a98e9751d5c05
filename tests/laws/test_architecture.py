"""The law of architecture: the source keeps to the plan of `docs/explanation/design.md`, which both read as one list.

The checks are in `architecture.py`. What breaks a law today is listed here by name; the lists only become shorter.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import polymodal
from laws import architecture
from laws.architecture import Finding, Tree
from polymodal.cli.commands import app
from polymodal.datasets.planted import make_exclusive_or

ROOT = Path(__file__).parents[2]
DESIGN = (ROOT / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")
PLAN = architecture.read_plan(DESIGN)


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(ROOT / "src")


def hold(findings: list[Finding]) -> None:
    """Fail with every finding, one a line."""
    assert not findings, "\n" + "\n".join(map(str, sorted(findings)))


def test_imports_run_downward_only(tree: Tree) -> None:
    hold(architecture.upward_imports(tree, PLAN))


def test_no_files_import_each_other(tree: Tree) -> None:
    hold(architecture.circles(tree))


def test_the_network_knows_no_tables_and_no_training(tree: Tree) -> None:
    hold(architecture.network_knows(tree))


def test_every_package_is_planned_and_every_planned_package_exists(tree: Tree) -> None:
    hold(architecture.strays(tree, PLAN))


def test_files_that_the_plan_names_exist(tree: Tree) -> None:
    named = set(re.findall(r"(?<![\w/])((?:\w+/)+\w+\.py)\b", DESIGN))
    missing = [
        one for one in sorted(named) if not any((base / one).is_file() for base in (ROOT, tree.root / "polymodal"))
    ]
    assert not missing, f"docs/explanation/design.md names files that do not exist: {', '.join(missing)}"


def test_files_hold_one_idea(tree: Tree) -> None:
    hold(architecture.lengths(tree))


def test_functions_have_few_parameters(tree: Tree) -> None:
    hold(architecture.many_parameters(tree, public_faces()))


def test_devices_are_named_in_one_place(tree: Tree) -> None:
    hold(architecture.devices(tree))


def test_tests_lie_as_packages_do(tree: Tree) -> None:
    hold(architecture.unmirrored_tests(ROOT / "tests", tree))


def public_faces() -> set[tuple[str, int]]:
    """File and first line of what users call: public functions, the public methods and `__init__` of public classes,
    and commands."""
    found = {(one.__code__.co_filename, one.__code__.co_firstlineno) for one in commands(app)}
    for public in polymodal.__all__:
        thing = getattr(polymodal, public)
        owners = thing.__mro__ if inspect.isclass(thing) else ()
        members = {public: thing} if not owners else {n: m for one in owners for n, m in vars(one).items()}
        for name, member in members.items():
            function = getattr(member, "__func__", member)
            if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
                code = inspect.unwrap(function).__code__
                found.add((code.co_filename, code.co_firstlineno))
    return found


def commands(group: typer.Typer) -> list[Any]:
    """The functions of all commands of a group and of the groups in it."""
    groups = [inner.typer_instance for inner in group.registered_groups if inner.typer_instance is not None]
    found = [one.callback for one in [*group.registered_commands, group.registered_callback] if one is not None]
    return [*filter(None, found), *(one for inner in groups for one in commands(inner))]


PLANTED_PLAN = """
| layer | package | holds |
|---|---|---|
| 3 | `top` | what users call |
| 2 | `nn`, `side` | the network, and its neighbour |
| 1 | `data`, `training` | tables |

| layer | package | holds |
|---|---|---|
| 2 | `nn/network` | the whole |
| 1 | `nn/layers` | blocks |
"""
LONG_ENOUGH = "\n" * 30
PLANTED = {
    "__init__.py": "from polymodal.top.a import A",
    "top/__init__.py": "",
    "top/a.py": "class A: ...",
    "nn/__init__.py": "",
    "nn/network.py": "from polymodal.nn.layers import block",
    "nn/layers/__init__.py": "",
    "nn/layers/block.py": "",
    "side/__init__.py": "",
    "data/__init__.py": "",
    "data/table.py": "",
    "training/__init__.py": "",
}


def plant(folder: Path, changes: dict[str, str]) -> Tree:
    """A small tree that breaks no law, with these files in it or in place of its own."""
    for name, text in (PLANTED | changes).items():
        file = folder / "polymodal" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + ("" if name in changes or file.name == "__init__.py" else LONG_ENOUGH))
    return Tree(folder)


def all_findings(tree: Tree) -> list[str]:
    plan = architecture.read_plan(PLANTED_PLAN)
    found = [*architecture.upward_imports(tree, plan), *architecture.circles(tree), *architecture.strays(tree, plan)]
    found += [*architecture.network_knows(tree), *architecture.lengths(tree), *architecture.many_parameters(tree)]
    return [str(one) for one in [*found, *architecture.devices(tree)]]


def test_a_tree_that_keeps_the_plan_has_no_findings(tmp_path: Path) -> None:
    assert all_findings(plant(tmp_path, {})) == []


@pytest.mark.parametrize(
    ("file", "text", "line", "says"),
    [
        ("nn/layers/block.py", "def f():\n    from polymodal.top.a import A", 2, "nn (layer 2) imports top (layer 3)"),
        ("nn/layers/block.py", "import polymodal.top.a", 1, "nn (layer 2) imports top (layer 3)"),
        ("nn/layers/block.py", "from ...top import a", 1, "nn (layer 2) imports top (layer 3)"),
        ("nn/layers/block.py", "x = import_module('polymodal.top.a')", 1, "nn (layer 2) imports top (layer 3)"),
        ("side/a.py", "from polymodal.nn import network", 1, "side (layer 2) imports nn (layer 2)"),
        (
            "nn/layers/block.py",
            "from polymodal.nn.network import N",
            1,
            "nn.layers (layer 1) imports nn.network (layer 2)",
        ),
        ("top/b.py", "from polymodal import A", 1, "imports polymodal itself"),
        ("nn/network.py", "\nimport polymodal.data.table", 2, "it knows no tables"),
        ("nn/other.py", "", 1, "nn.other stands in no table"),
        ("stray/__init__.py", "", 1, "stray stands in no table"),
        ("loose.py", "", 1, "a loose file"),
        ("side/long.py", "\n" * 401, 401, "401 lines, at most 400"),
        ("side/short.py", "\n" * 19, 19, "19 lines, at least 20"),
        ("side/a.py", "\ndef f(a, b, c, d, e, f, /, g, *, h, i): ...", 2, "f has 9 parameters"),
        ("side/a.py", "x = torch.zeros(3, device='cuda:1')", 1, '"cuda:1" is named outside runtime'),
        ("side/a.py", "with torch.random.fork_rng(devices=[]):\n    pass", 1, "fork_rng(devices=[])"),
    ],
)
def test_a_planted_breach_is_found(tmp_path: Path, file: str, text: str, line: int, says: str) -> None:
    tree = plant(tmp_path, {file: text if file.startswith(("side/long", "side/short")) else text + LONG_ENOUGH})
    [found] = [one for one in all_findings(tree) if says in one]
    place = file.removesuffix("/__init__.py")
    assert found.startswith((f"src/polymodal/{place}:{line}: ", f"src/polymodal/{place.removesuffix('.py')}:{line}: "))


def test_a_circle_in_types_alone_is_found(tmp_path: Path) -> None:
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from polymodal.top.b import B" + LONG_ENOUGH
    lazy = "def f():\n    from polymodal.top.a import A" + LONG_ENOUGH
    [found] = all_findings(plant(tmp_path, {"top/a.py": typed, "top/b.py": lazy}))
    assert found.startswith("src/polymodal/top/a.py:3: a circle of polymodal.top.a, polymodal.top.b")
    assert "src/polymodal/top/b.py:2" in found


def test_a_planned_package_that_is_missing_is_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, {})
    [found] = architecture.strays(tree, architecture.read_plan(PLANTED_PLAN.replace("`side`", "`side`, `explain`")))
    assert "explain is planned" in str(found)


def test_tests_of_no_package_are_found(tmp_path: Path) -> None:
    tree = plant(tmp_path / "src", {})
    for folder in ("nn/layers", "laws", "fusion"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / "test_a.py").write_text("")
    assert [one.file for one in architecture.unmirrored_tests(tmp_path / "tests", tree)] == ["tests/fusion"]


class Reached(Exception):
    """The first encoder ran."""


def test_few_frames_lie_between_fit_and_the_first_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of our own code from `fit` to the encoder's `forward`, both counted; torch's own are not."""
    bound = 9
    package = str(Path(polymodal.__file__).parent)
    frames: list[str] = []

    def stop(self: torch.nn.Module, *_: Any) -> None:
        frame = inspect.currentframe()
        while frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(package):
                frames.insert(0, f"{Path(code.co_filename).stem}.{code.co_qualname}")
            frame = frame.f_back
        raise Reached

    from polymodal.nn.encoders.linear import LinearColumns

    monkeypatch.setattr(LinearColumns, "forward", stop)
    settings = ["training.precision=fp32", "training.num_threads=1", "training.epochs=1", "fusion=concat"]
    with pytest.raises(Reached):
        polymodal.fit(make_exclusive_or(32, 0), "target", settings=settings, out=tmp_path / "run", progress=False)
    frames = [*frames[frames.index("fit.fit") :], "linear.LinearColumns.forward"]
    assert len(frames) <= bound, "\n".join(frames)
