"""An option that is a recipe key is refused with the way to set it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from polymodal.cli.commands import app


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--device", "--set training.device=VALUE"),
        ("--learning-rate=1", "--set training.learning_rate=VALUE"),
        ("--fusion", "--set fusion=VALUE"),
        ("--targt", "--target"),
    ],
)
def test_an_unknown_option_says_what_to_write(option: str, said: str) -> None:
    done = CliRunner().invoke(app, ["fit", "table.csv", "--out", "model", option], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())
