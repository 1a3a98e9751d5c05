"""Checks of the layout of the source: which package may import which, how long files are, where devices are named.

The plan is read from the tables of `docs/explanation/design.md` with the header `| layer | package | holds |`: a
package of a higher layer may import those of lower layers, and packages of one layer do not import each other. Every
check takes a `Tree`, so that it can be tried on a small one, and returns findings with file, line and what to do.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

PACKAGE = "polymodal"
#: The only files that lie at the root of the package.
LOOSE = ("__init__.py", "__main__.py", "_version.py")
SHORTEST, LONGEST, MOST_PARAMETERS = 20, 400, 8
#: Parts of the package that the network must not know.
UNKNOWN_TO_NETWORK = ("data.table", "training", "model", "preparation", "inference")
#: The page that holds the plan.
DESIGN = "docs/explanation/design.md"
#: Folders of tests that belong to no package.
OTHER_TESTS = ("laws", "bad_input", "docs", "benchmarks", "deploy")


@dataclass(frozen=True, order=True)
class Finding:
    """A breach of a law. `key` names it without the line, so that it can be listed while the code moves."""

    file: str
    line: int
    what: str
    key: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


@dataclass(frozen=True)
class Import:
    """Module `source` imports module `target` in this line of `file`: at the top, inside a function, or for types."""

    source: str
    target: str
    file: str
    line: int


class Tree:
    """The modules of a package below `root` (the folder `src`) and all imports among them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {self._name(path): path for path in sorted((root / PACKAGE).rglob("*.py"))}
        self.syntax = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}
        self.imports = [found for name in self.files for found in self._imports(name)]

    def place(self, name: str) -> str:
        """The file of a module as a reader would look for it."""
        return (PurePosixPath("src") / self.files[name].relative_to(self.root).as_posix()).as_posix()

    def _name(self, path: Path) -> str:
        return ".".join(path.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__")

    def _imports(self, name: str) -> Iterator[Import]:
        for node in ast.walk(self.syntax[name]):
            for target in self._targets(name, node):
                if target.split(".")[0] == PACKAGE and target != name:
                    yield Import(name, target, self.place(name), getattr(node, "lineno", 1))

    def _targets(self, name: str, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                is_package = self.files[name].name == "__init__.py"
                above = name.split(".")[: len(name.split(".")) - node.level + is_package]
                origin = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                whole = f"{origin}.{alias.name}"
                yield whole if whole in self.files else origin
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "import_module" and isinstance(node.args[0].value, str):
                yield node.args[0].value


def read_plan(markdown: str) -> dict[str, int]:
    """The layer of each package, as `{"nn": 10, "nn.layers": 1, ...}`, by the tables of the design page.

    Parts of a package are numbered among themselves.
    """
    plan: dict[str, int] = {}
    inside = False
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[:3] == ["layer", "package", "holds"]:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and cells[0].isdigit():
            for name in re.findall(r"`([\w/]+)`", cells[1]):
                assert name.replace("/", ".") not in plan, f"{DESIGN}: {name} stands in the tables twice"
                plan[name.replace("/", ".")] = int(cells[0])
    return plan


def upward_imports(tree: Tree, plan: dict[str, int]) -> list[Finding]:
    """Imports that do not run to a lower layer: of packages, and of the parts of a package that the plan lists."""
    findings = []
    for one in tree.imports:
        source, target = _inner(one.source), _inner(one.target)
        key = f"{one.source} -> {one.target}"
        if source in ("", "__main__") or target == "_version":
            continue
        if target == "":
            what = f"{one.source} imports {PACKAGE} itself; import the module that defines the name"
            findings.append(Finding(one.file, one.line, what, key))
            continue
        differing = _differing(source, target, plan)
        if differing is None or plan[differing[0]] > plan[differing[1]]:
            continue
        first, second = differing
        what = (
            f"{first} (layer {plan[first]}) imports {second} (layer {plan[second]}); imports run downward only: move "
            "what is shared to a lower layer, pass it in from above, or type it by a Protocol"
        )
        findings.append(Finding(one.file, one.line, what, key))
    return findings


def _differing(source: str, target: str, plan: dict[str, int]) -> tuple[str, str] | None:
    """The outermost planned parts in which two modules differ; None where they lie in one part."""
    ways = (source.split("."), target.split("."))
    for depth in range(1, min(map(len, ways)) + 1):
        first, second = (".".join(way[:depth]) for way in ways)
        if first not in plan or second not in plan:
            return None
        if first != second:
            return first, second
    return None


def circles(tree: Tree) -> list[Finding]:
    """Files that import each other, directly or through others, in whatever way."""
    edges: dict[str, set[str]] = {name: set() for name in tree.files}
    for one in tree.imports:
        if one.target in tree.files and one.source != PACKAGE and one.target != PACKAGE:
            edges[one.source].add(one.target)
    findings = []
    for members in _components(edges):
        first = min(members)
        inside = [one for one in tree.imports if one.source in members and one.target in members]
        lines = dict.fromkeys(f"{one.file}:{one.line}" for one in inside)
        what = f"a circle of {', '.join(sorted(members))} by the imports {', '.join(lines)}; break one of them"
        line = next(one.line for one in inside if one.source == first)
        findings.append(Finding(tree.place(first), line, what, " ".join(sorted(members))))
    return findings


def _components(edges: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected parts of a graph that have two or more members."""
    reached = {name: _reachable(name, edges) for name in edges}
    found: list[set[str]] = []
    for name in edges:
        members = {other for other in reached[name] if name in reached[other]} | {name}
        if len(members) > 1 and members not in found:
            found.append(members)
    return found


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = list(edges[start])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += edges[name]
    return seen


def strays(tree: Tree, plan: dict[str, int]) -> list[Finding]:
    """Packages (and parts of a planned package) that the plan does not list or that do not exist; loose files."""
    findings = []
    root = tree.root / PACKAGE
    inner = {name.split(".")[0] for name in plan if "." in name}
    for folder in (root, *(root / name for name in sorted(inner))):
        above = "" if folder == root else f"{folder.name}."
        there = {f"{above}{path.stem}" for path in folder.iterdir() if _is_part(path, loose=bool(above))}
        planned = {name for name in plan if name.rpartition(".")[0] == above.rstrip(".")}
        for name in sorted(there - planned):
            what = f"{name} stands in no table of {DESIGN}: add it at its layer, or move it into a package"
            findings.append(Finding(f"src/{PACKAGE}/{name.replace('.', '/')}", 1, what, name))
        for name in sorted(planned - there):
            what = f"{name} is planned in {DESIGN} and does not exist: delete its row or build it"
            findings.append(Finding(DESIGN, 1, what, name))
    for path in sorted(root.glob("*.py")):
        if path.name not in LOOSE:
            what = f"a loose file at the root of the package; only {', '.join(LOOSE)} are: move it into a package"
            findings.append(Finding(f"src/{PACKAGE}/{path.name}", 1, what, path.stem))
    return findings


def _is_part(path: Path, *, loose: bool) -> bool:
    if path.is_dir():
        return any(path.rglob("*.py"))
    return loose and path.suffix == ".py" and path.name != "__init__.py"


def network_knows(tree: Tree) -> list[Finding]:
    """Imports by which the network would know tables or training."""
    return [
        Finding(
            one.file,
            one.line,
            f"the network imports {one.target}: it knows no tables and no training; pass in tensors or a Protocol",
            f"{one.source} -> {one.target}",
        )
        for one in tree.imports
        if _within(_inner(one.source), "nn") and any(_within(_inner(one.target), name) for name in UNKNOWN_TO_NETWORK)
    ]


def lengths(tree: Tree) -> list[Finding]:
    """Files that are too long or too short."""
    findings = []
    for name, path in tree.files.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST:
            what = f"{lines} lines, at most {LONGEST}: give the second idea a file of its own"
            findings.append(Finding(tree.place(name), lines, what, name))
        elif lines < SHORTEST and path.name not in LOOSE:
            what = f"{lines} lines, at least {SHORTEST}: put it where it is used"
            findings.append(Finding(tree.place(name), lines, what, name))
    return findings


def many_parameters(tree: Tree, faces: Collection[tuple[str, int]] = ()) -> list[Finding]:
    """Functions of more than eight parameters (`self`, `*args` and `**kwargs` do not count) that are not among
    `faces`: file and first line of the functions that users call."""
    findings = []
    for name, syntax in tree.syntax.items():
        for node in ast.walk(syntax):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([one for one in named if one.arg not in ("self", "cls")])
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if count <= MOST_PARAMETERS or (str(tree.files[name]), first) in faces:
                continue
            what = f"{node.name} has {count} parameters, at most {MOST_PARAMETERS}: group them in an object"
            findings.append(Finding(tree.place(name), node.lineno, what, f"{name}.{node.name}"))
    return findings


def devices(tree: Tree) -> list[Finding]:
    """Devices named outside `runtime` and `recipe`, and random states forked for the CPU alone."""
    findings = []
    for name, syntax in tree.syntax.items():
        for node in ast.walk(syntax):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = node.value.split(":")[0] in ("cpu", "cuda") and len(node.value) < 8
                if named and not any(_within(_inner(name), one) for one in ("runtime", "recipe")):
                    what = f'"{node.value}" is named outside runtime: ask the compute configuration'
                    findings.append(Finding(tree.place(name), node.lineno, what, name))
            elif isinstance(node, ast.Call) and _forks_cpu_alone(node):
                what = "fork_rng(devices=[]) leaves the accelerator's random state changed: use that of runtime"
                findings.append(Finding(tree.place(name), node.lineno, what, name))
    return findings


def _forks_cpu_alone(node: ast.Call) -> bool:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return called == "fork_rng" and any(
        one.arg == "devices" and isinstance(one.value, ast.List | ast.Tuple) and not one.value.elts
        for one in node.keywords
    )


def unmirrored_tests(tests: Path, tree: Tree) -> list[Finding]:
    """Folders of tests to which no package corresponds."""
    findings = []
    for folder in sorted(path for path in tests.rglob("*") if path.is_dir() and any(path.glob("test_*.py"))):
        below = folder.relative_to(tests)
        if below.parts[0] not in OTHER_TESTS and not (tree.root / PACKAGE / below).is_dir():
            what = f"there is no package {below.as_posix()}: tests lie in the folder of the package that they test"
            findings.append(Finding(f"tests/{below.as_posix()}", 1, what, below.as_posix()))
    return findings


def _inner(module: str) -> str:
    return module.removeprefix(PACKAGE).lstrip(".")


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
