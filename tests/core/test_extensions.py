"""Components of another installed package: named in a recipe, listed with where they come from, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "extend.md").read_text(encoding="utf-8")
SQUARES = PAGE.partition("```python\n")[2].partition("```")[0]
DECLARED = tomllib.loads(PAGE.partition("```toml\n")[2].partition("```")[0])
POINTS = DECLARED["project"]["entry-points"]["polymodal.components"]
TABLE = {"a": [0.1, 0.9] * 20, "b": ["x", "y"] * 20, "answer": ["no", "yes"] * 20}
FIT = f"""
import polymodal
table = {TABLE!r}
model = polymodal.fit(table, "answer", recipe={{"fusion": {{"name": "squares", "bias": False}}}}, out="model",
                      settings=["training.epochs=1", "evaluation.bootstrap_samples=10"])
print(type(model.network.fusion).__module__)
"""
LOAD = f"""
import polymodal
model = polymodal.Model.load("model")
print(len(model.predict({{name: cells[:3] for name, cells in {TABLE!r}.items()}})))
"""


def install(site: Path, package: str, code: str, points: dict[str, str]) -> None:
    """A package with a module `fusion`, as an installer leaves it in a folder of the module path."""
    (site / package).mkdir(parents=True)
    (site / package / "__init__.py").touch()
    (site / package / "fusion.py").write_text(code, encoding="utf-8")
    info = site / f"{package}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n", encoding="utf-8")
    lines = [f"{name} = {value}" for name, value in points.items()]
    text = "\n".join(["[polymodal.components]", *lines, ""])
    (info / "entry_points.txt").write_text(text, encoding="utf-8")


def python(site: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(__file__).parents[2] / "src")
    path = os.pathsep.join([source, *([str(site)] if site is not None else [])])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def listed(site: Path | None, *arguments: str) -> dict[tuple[str, str], dict[str, str]]:
    run = python(site, "-m", "polymodal", "list", *arguments, "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    return {(row["kind"], row["name"]): row for row in json.loads(run.stdout)["components"]}


def test_a_fusion_of_another_package_is_trained_saved_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install(tmp_path / "site", "my_package", SQUARES, POINTS)
    fitted = python(tmp_path / "site", "-c", FIT)
    assert fitted.stdout.splitlines()[-1:] == ["my_package.fusion"], fitted.stderr
    loaded = python(tmp_path / "site", "-c", LOAD)
    assert loaded.stdout == "3\n", loaded.stderr
    without = python(None, "-m", "polymodal", "predict", "model", '{"a": 0.1, "b": "x"}')
    assert without.returncode == 2
    message = " ".join(without.stderr.split())
    assert "fusion: there is no fusion 'squares'" in message
    assert "or install the package that provides it" in message


def test_the_list_gives_the_package_of_components(tmp_path: Path) -> None:
    install(tmp_path / "site", "my_package", SQUARES, POINTS)
    found = listed(tmp_path / "site")
    assert found["fusion", "squares"]["package"] == "my_package 1.2"
    summary = "The square of the sum of the present inputs; it contains their products."
    assert found["fusion", "squares"]["summary"] == summary
    assert found["fusion", "gated"]["package"].startswith("polymodal ")
    assert {name for _, name in listed(None, "fusion", "co*")} == {"concat", "coattention"}
    assert {kind for kind, _ in listed(None, "co*")} > {"fusion"}
    unknown = python(None, "-m", "polymodal", "list", "fusoin")
    assert (unknown.returncode, "did you mean 'fusion'?" in unknown.stderr) == (2, True)


def test_a_broken_package_fails_only_when_it_is_used(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "broken_package", "import nowhere_to_be_found", {"fusion.broken": "broken_package.fusion:Broken"})
    install(
        site,
        "odd_package",
        "value = 3",
        {"fusion.odd": "odd_package.fusion:value", "fusions.x": "odd_package.fusion:value"},
    )
    found = listed(site)
    assert "ModuleNotFoundError: No module named 'nowhere_to_be_found'" in found["fusion", "broken"]["problem"]
    assert "@register" in found["fusion", "odd"]["problem"]
    assert "did you mean 'fusion'?" in found["fusions", "x"]["problem"]
    assert found["fusion", "gated"]["problem"] is None
    code = "from polymodal import Recipe; Recipe.read({'fusion': 'gated'}); Recipe.read({'fusion': 'broken'})"
    asked = python(site, "-c", code)
    assert (
        "RecipeError: fusion: fusion 'broken' cannot be used: package broken_package 1.2, entry point" in asked.stderr
    )
    assert "No module named 'nowhere_to_be_found'" in asked.stderr


@pytest.mark.parametrize("name", ["gated", "squares"])
def test_a_name_of_two_packages_is_refused(tmp_path: Path, name: str) -> None:
    site = tmp_path / "site"
    install(site, "my_package", SQUARES, POINTS)
    again = SQUARES.replace('"squares"', f'"{name}"')
    install(site, "taken_package", again, {f"fusion.{name}": "taken_package.fusion:Squares"})
    asked = python(site, "-c", f"from polymodal import Recipe; Recipe.read({{'fusion': {name!r}}})")
    assert "taken_package.fusion.Squares of taken_package 1.2" in asked.stderr
    first = {
        "gated": "polymodal.nn.fusion.gated.Gated of polymodal ",
        "squares": "my_package.fusion.Squares of my_package",
    }
    assert first[name] in asked.stderr
    imported = python(site, "-c", "import taken_package.fusion")
    assert ("ValueError" in imported.stderr) == (name == "gated")
