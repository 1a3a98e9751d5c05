"""The package speaks the language of its field: no class name has two meanings, and the words of the former dialect and
British spellings do not come back."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "polymodal").rglob("*.py"))
#: Pages that are generated from run records, which keep the words of their time.
RECORDED = ROOT / "docs" / "explanation" / "results"
PAGES = [
    path
    for path in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    if RECORDED not in path.parents and path.stem != "results" and "zh" not in path.name and "zh" not in path.parts
]
#: Words and phrases that an engineer of the field would have to learn first, with the words to use.
DIALECT = {
    r"\b[Ss]ilent: ": "Default:",
    r"\bsettle[ds]?\b": "freeze, encode",
    r"\banew\b": "again",
    r"\b(goes|gone|go) on from\b": "continue, start from",
    r"\bof whom\b|\bof whose\b": "a sentence of its own",
    r"\bmakes? of (it|them|each|the)\b": "give, return",
    r"\bso many (tokens|rows|epochs|steps|numbers|seconds|texts|layers)\b": "this many, n",
    r"\bfaults?\b": "error, cell that cannot be used",
    r"\bhonest floors?\b": "baseline",
    r"\bartefacts?\b": "artifact",
    r"\b(perceptron)s?\b": "MLP",
}
BRITISH = re.compile(
    r"\b\w*((optim|normal|initial|recogn|factor|regular|standard|token|summar|general|quant|vector|random|serial|visual)"
    r"is(e|es|ed|er|ing|ation|ations)\b|colour|behaviour|neighbour|favour|labelled|labelling|modelling|cancelled|"
    r"catalogue|licence|\bgrey)\w*",
    re.IGNORECASE,
)
#: Titles of papers, names of files and of other libraries' options, which are quoted as they are.
QUOTED = re.compile(r'"[^"\n]*"|`[^`\n]*`')


def test_no_class_name_is_used_twice() -> None:
    modules: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                modules[node.name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}


def test_no_module_docstring_begins_with_what() -> None:
    docstrings = {path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert [path for path, text in docstrings.items() if (text or "").startswith("What ")] == []


@pytest.mark.parametrize("pattern", DIALECT)
def test_words_of_the_dialect_are_gone(pattern: str) -> None:
    found = [line for path in [*SOURCES, *PAGES] for line in lines_with(re.compile(pattern), path)]
    assert found == [], f"write {DIALECT[pattern]!r} instead"


def test_spelling_is_american() -> None:
    assert [line for path in [*SOURCES, *PAGES] for line in lines_with(BRITISH, path, unquoted=True)] == []


def lines_with(pattern: re.Pattern[str], path: Path, *, unquoted: bool = False) -> list[str]:
    """The lines that match, with file and number."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if pattern.search(QUOTED.sub("", line) if unquoted else line):
            found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


def test_the_check_finds_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    page = tmp_path / "page.md"
    lines = ["Silent: as many as fit.", "Optimised colours.", 'A paper, "Optimised", and `colour`.']
    page.write_text("\n".join(lines), encoding="utf-8")
    assert len(lines_with(re.compile(r"\b[Ss]ilent: "), page)) == 1
    assert [line.split(":")[1] for line in lines_with(BRITISH, page, unquoted=True)] == ["2"]
