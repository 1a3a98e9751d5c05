"""What README and the documentation show is true: code and commands run, recipes validate, links lead somewhere, and
the generated reference covers every component."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from polymodal.cli.commands import app
from polymodal.core.registry import components
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.shipped import shipped_recipes

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FUSION = DOCS / "explanation" / "fusion.md"
CHINESE = sorted((DOCS / "zh").rglob("*.md"))
#: Pages whose code and commands run. A Chinese page has the code of its English page, which runs.
PAGES = [
    ROOT / "README.md",
    DOCS / "index.md",
    *sorted((DOCS / "tutorials").glob("*.md")),
    *sorted((DOCS / "how-to").glob("*.md")),
    DOCS / "explanation" / "media.md",
]
#: Every page that is not generated.
WRITTEN = [*ROOT.glob("*.md"), *sorted(page for page in DOCS.rglob("*.md") if page.parent.name != "reference")]
ROWS = 64
#: Commands in blocks of bash that are not Polymodal's; what they do is tested elsewhere.
OTHERS = ("make", "pip", "git", "cd", "python -m")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. A comment `<!-- not run: reason -->` in the line above keeps it from being run."""

    page: Path
    line: int
    language: str
    text: str
    run: bool

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    start = 0
    for number, line in enumerate(lines, start=1):
        if not line.startswith("```"):
            continue
        if start:
            above = lines[start - 2] if start > 1 else ""
            text = "\n".join(lines[start : number - 1])
            run = not re.match(r"<!-- not run: .+ -->", above)
            found.append(Block(page, start, lines[start - 1][3:].strip(), text, run))
        start = 0 if start else number
    assert not start, f"{page}: a block is not closed"
    return found


def load_script(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Runs of one epoch in fp32 on one thread, whatever the page says: the pages are about what happens, not how
    well."""
    from polymodal.experiments.plan import complete_schedule

    def shortened(recipe: Recipe, training_rows: int) -> Recipe:
        whole = complete_schedule(recipe, training_rows)
        short = {"epochs": min(1, whole.training.epochs or 0), "precision": "fp32", "num_threads": 1}
        return whole.model_copy(
            update={
                "training": whole.training.model_copy(update=short),
                "evaluation": whole.evaluation.model_copy(update={"bootstrap_samples": 20}),
            }
        )

    with pytest.MonkeyPatch.context() as patch:
        for name in ("experiments.plan", "tuning.trial", "tuning.refit"):
            patch.setattr(importlib.import_module(f"polymodal.{name}"), "complete_schedule", shortened)
        yield


@pytest.fixture(autouse=True)
def timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed models are timed in one round: the pages are about what is compressed, not how fast."""
    monkeypatch.setattr("polymodal.applications.measurement.TIMING_ROUNDS", 1)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "example"
    load_script("example_data").write_example(folder, ROWS)
    return folder


@pytest.fixture(scope="module")
def first(quick: None, example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model `runs/first` of the tutorial, which other pages go on from."""
    import polymodal

    folder = tmp_path_factory.mktemp("docs") / "first"
    polymodal.fit(example / "table.csv", target="answer", settings=["evaluation.unimodal_scores=mask"], out=folder)
    return folder


def run_command(line: str, place: str) -> None:
    words = shlex.split(line, comments=True)
    if words[:2] == ["python", "docs/example_data.py"]:
        return  # the fixture wrote it
    assert words[0] == "polymodal", f"{place}: what is {line!r}?"
    result = CliRunner().invoke(app, words[1:])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"{place}: {line}: {result.exception}") from result.exception
    assert result.exit_code == 0, f"{place}: {line}: {result.output}"


def commands(text: str) -> list[str]:
    joined = text.replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", *OTHERS))]


@pytest.mark.filterwarnings("ignore::polymodal.data.table.cell_errors.BadCellsWarning")
@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_code_and_commands_run(
    page: Path, quick: None, example: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(example, tmp_path / "example")
    text = page.read_text(encoding="utf-8")
    if "--out runs/first" not in text and 'out="runs/first"' not in text:
        shutil.copytree(first, tmp_path / "runs" / "first")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "docs"}
    for block in blocks(page):
        if not block.run:
            continue
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
        elif block.language == "bash":
            for line in commands(block.text):
                run_command(line, block.place)


@pytest.mark.parametrize(
    "page", [*PAGES, DOCS / "explanation" / "fusion.md", DOCS / "explanation" / "design.md"], ids=page_name
)
def test_recipes_validate(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml":
            values = yaml.safe_load(block.text)
            assert isinstance(values, dict), block.place
            Recipe.read(values).with_size_defaults().check_components()


def test_both_readmes_have_the_same_code() -> None:
    """Comments may differ."""
    english, chinese = (
        [(block.language, block.run, without_comments(block.text)) for block in blocks(ROOT / name)]
        for name in ("README.md", "README.zh.md")
    )
    assert english == chinese
    assert len(english) >= 5


def test_both_readmes_link_to_the_same_pages() -> None:
    """The Chinese one may link to the Chinese page."""
    english, chinese = (
        {link.replace("docs/zh/", "docs/") for link in links(ROOT / name) if "README" not in link}
        for name in ("README.md", "README.zh.md")
    )
    assert english == chinese


def test_both_readmes_have_the_same_numbers() -> None:
    """Measured values, counts and sizes, wherever they stand in a sentence."""
    english, chinese = (
        set(re.findall(r"\d[\d.,]*\d|\d", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
        for text in ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
    )
    assert english == chinese


def test_readme_is_short() -> None:
    for name in ("README.md", "README.zh.md"):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 180, name


def links(page: Path) -> list[str]:
    """Targets of links within the repository, outside of code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in found if not target.startswith(("http:", "https:", "mailto:"))]


@pytest.mark.parametrize("page", WRITTEN, ids=page_name)
def test_links_lead_to_files(page: Path, reference: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file.is_relative_to(DOCS / "reference"):
            file = reference / file.relative_to(DOCS / "reference")
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of headings, and labels such as `(name)=`."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    labels = set(re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE))
    return labels | {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", CHINESE, ids=page_name)
def test_a_chinese_page_has_the_code_of_its_english_page(page: Path) -> None:
    """Comments may differ: `# text` at the end or on a line of its own."""
    english = DOCS / page.relative_to(DOCS / "zh")
    assert english.exists(), f"{page_name(page)} translates no page"

    def code(of: Path) -> list[tuple[str, list[str]]]:
        shown = [block for block in blocks(of) if block.language in ("bash", "python", "yaml")]
        return [(block.language, without_comments(block.text)) for block in shown]

    if page.name != "index.md":
        assert code(page) == code(english)


def without_comments(text: str) -> list[str]:
    lines = [re.sub(r"(^|\s+)# .*$", "", line).rstrip() for line in text.splitlines()]
    return [line for line in lines if line]


def test_fusion_page_names_every_method() -> None:
    named = set(re.findall(r"^### `(\w+)`", FUSION.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert named == set(components("fusion"))


def test_readmes_count_the_components() -> None:
    kinds = ("modality", "encoder", "fusion", "decoder", "task", "objective", "estimator")
    expected = [*(len(components(kind)) for kind in kinds), len(shipped_recipes())]
    for name in ("README.md", "README.zh.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        counts = re.findall(r"^\| [^|]+ \| (\d+) \|", text, flags=re.MULTILINE)
        assert [int(count) for count in counts] == expected, name
