"""The command `init`: a short recipe to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from command_line import run_command
from polymodal.experiments.starting_recipe import OTHER_KEYS
from polymodal.recipe.recipe import Recipe
from polymodal.workflows.fit import plan_fit


def table() -> dict[str, list[Any]]:
    """Columns of several kinds, with names and cells that YAML quotes."""
    return {
        "size: cm": [0.5 * (one % 17) for one in range(60)],
        "weight #2": [1.5 * (one % 13) for one in range(60)],
        "yes": ["true story", "- no", "{maybe}"] * 20,
        "note": [f"a text: of {one} words, 'quoted'" for one in range(60)],
        "key": [f"K-{one:04}" for one in range(60)],
        "kind\n": ["a", "b"] * 30,
        "price": [float(one % 7) for one in range(60)],
    }


@pytest.mark.parametrize("quality", [None, "fast"])
def test_the_recipe_gives_the_plan_of_the_table_alone(tmp_path: Path, quality: Any) -> None:
    rows = [dict(zip(table(), row, strict=True)) for row in zip(*table().values(), strict=True)]
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--quality", quality] if quality else []
    targets = ["--target", "kind\n", "--target", "price"]
    done = run_command("init", "table.jsonl", *targets, *words, "--out", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recipe = Recipe.read(tmp_path / "recipe.yaml")
    file = str(tmp_path / "table.jsonl")
    alone, again = plan_fit(file, ["kind\n", "price"], quality=quality)[0], plan_fit(file, recipe=recipe)[0]
    assert again.recipe == alone.recipe
    assert "# key: identifiers" in " ".join((tmp_path / "recipe.yaml").read_text().replace("#   ", "# ").split("\n"))


def test_a_recipe_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("x,y\n" + "".join(f"{one}.5,{'ab'[one % 2]}\n" for one in range(40)))
    words = ["init", "table.csv", "--target", "y", "--out", "recipe.yaml"]
    assert run_command(*words, cwd=tmp_path).returncode == 0
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    assert run_command(*words, cwd=tmp_path).returncode == 2
    assert (tmp_path / "recipe.yaml").read_text() == "seed: 1\n"
    assert run_command(*words, "--overwrite", cwd=tmp_path).returncode == 0


def test_the_keys_that_are_commented_out_exist() -> None:
    lines = [line.removeprefix("# ") for line in OTHER_KEYS.splitlines() if line not in ("", "#")]
    keys = yaml.safe_load("\n".join(line for line in lines if not line.startswith("One network")))
    assert {"data", "seed", "members", "fusion", "size", "training"} == set(keys)
    Recipe.read(keys)
