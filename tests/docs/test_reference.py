"""The generated reference has every component, option, command and public name, and says what each is."""

from __future__ import annotations

import importlib
import itertools
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from polymodal.cli.commands import app
from polymodal.core.option_docs import documented_fields
from polymodal.core.registry import KINDS, components


def test_the_reference_is_deterministic(generator: ModuleType, reference: Path) -> None:
    files = generator.reference_files()
    assert files == {path.name: path.read_text(encoding="utf-8") for path in reference.iterdir()}


def test_the_reference_is_written_in_place(generator: ModuleType, tmp_path: Path) -> None:
    generator.write_reference(tmp_path)
    (tmp_path / "stale.md").write_text("# A page that is no longer generated\n")
    (tmp_path / "errors.md").write_text("changed")
    kept = (tmp_path / "recipe.md").stat().st_mtime_ns
    generator.write_reference(tmp_path)
    assert not (tmp_path / "stale.md").exists()
    assert (tmp_path / "errors.md").read_text(encoding="utf-8").startswith("# Errors")
    assert (tmp_path / "recipe.md").stat().st_mtime_ns == kept, "an unchanged file keeps its modification time"


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_has_every_component_and_option(kind: str, generator: ModuleType, reference: Path) -> None:
    page = (reference / f"{generator.TITLES[kind][0]}.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL))
    assert sorted(sections) == sorted(components(kind))
    for name, component in components(kind).items():
        for option, field in documented_fields(component.Options).items():
            if option != "name":
                assert f"| `{option}` |" in sections[name], f"{kind} {name} {option}"
                assert field.description, f"{kind} {name} {option} has no documentation"


def test_the_reference_has_every_command_and_public_name(reference: Path) -> None:
    import polymodal

    commands_page = (reference / "commands.md").read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        section = commands_page.split(f"## polymodal {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            for flag in (flag for flag in parameter.opts if flag.startswith("-") and flag != "--help"):
                assert f"`{flag}`" in section, f"{name} {flag}"
    python_page = (reference / "python.md").read_text(encoding="utf-8")
    for name in polymodal.__all__:
        assert name == "__version__" or f"\n## {name}\n" in python_page


def test_every_option_of_the_reference_has_type_default_and_effect(reference: Path) -> None:
    rows = 0
    for path in sorted(reference.glob("*.md")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if line != "| option | type and range | default | effect |":
                continue
            for row in itertools.takewhile(lambda text: text.startswith("|"), lines[number + 2 :]):
                cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
                assert len(cells) == 4, f"{path.name}: {row}"
                assert all(cells), f"{path.name}: {row}"
                rows += 1
    assert rows > 400


def test_the_python_reference_begins_with_what_a_reader_needs_first(reference: Path) -> None:
    page = (reference / "python.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, flags=re.MULTILINE)[:3] == ["fit", "load", "Model"]


def test_docstrings_become_markdown(generator: ModuleType) -> None:
    markdown = importlib.import_module(f"{generator.__name__}.markdown")

    def documented(data: str, size: int) -> None:
        """Do it (Doe and Roe, "How to", 2024). More <than> one sentence.

            z = a | b

        data, size: what to do it with,
            and how

        Raises:
            ValueError: it cannot be done.

        Example:
            >>> documented("a", 1)

        The end.
        """

    assert markdown.first_sentence(documented) == "Do it."
    assert markdown.docstring(documented).splitlines() == [
        'Do it (Doe and Roe, "How to", 2024). More &lt;than> one sentence.',
        "",
        "    z = a | b",
        "",
        "- **data, size**: what to do it with, and how",
        "",
        "**Raises**",
        "",
        "- ValueError: it cannot be done.",
        "",
        "**Example**",
        "",
        "```pycon",
        '>>> documented("a", 1)',
        "```",
        "",
        "The end.",
    ]
