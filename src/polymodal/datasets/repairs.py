"""Broken programs with their error messages, and programs to generate tests for.

A mutant is a program with one small mistake. Most are made by the classical operators of mutation testing: another
comparison, another operator, a constant off by one, another name, a missing condition (Jia and Harman, "An Analysis and
Survey of the Development of Mutation Testing", IEEE Transactions on Software Engineering, 2011). The others are typing
errors: a missing colon or bracket, `=` for `==`, a misspelled name, a wrong indentation of `return`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import numpy as np

from polymodal.datasets.functions import function
from polymodal.datasets.planted import Columns
from polymodal.metrics.code_eval.program_cells import program_cell, suite_cell
from polymodal.metrics.code_eval.sandbox import Program, run

#: Largest number of mutants to score generated tests with.
PLANTED = 6
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Gt: ast.GtE,
    ast.Lt: ast.LtE,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Pow: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
_METHODS = {"upper": "lower", "endswith": "startswith", "append": "extend"}
_TYPING = (
    ("colon", re.compile(r":$", re.MULTILINE), ""),
    ("bracket", re.compile(r"\)(?=:?$)", re.MULTILINE), ""),
    ("equals", re.compile(r"=="), "="),
    ("spelling", re.compile(r"(?<=[ (])result(?= [=+]|\.)"), "reslut"),
    ("spelling", re.compile(r"(?<=[ (])text(?=[.:])"), "txet"),
    ("spelling", re.compile(r"(?<=in )numbers"), "number"),
    ("indentation", re.compile(r"^    (?=return|result)", re.MULTILINE), ""),
    ("return", re.compile(r"^    return", re.MULTILINE), "        return"),
)


def mutants(program: str) -> list[tuple[str, str]]:
    """All mutants of a program as (kind of mistake, program), without duplicates and without the program itself."""
    found = {program: ""}
    for kind, mutant in (*mistaken(program), *_mistyped(program)):
        found.setdefault(mutant, kind)
    del found[program]
    return [(kind, mutant) for mutant, kind in found.items()]


def mistaken(program: str) -> Iterator[tuple[str, str]]:
    """Mutants in valid Python, by the classical operators. The program must be formatted as by `ast.unparse`."""
    tree = ast.parse(program)
    for node in list(ast.walk(tree)):
        right = dict(vars(node))
        for variant in (0, 1):
            kind = _changed(node, variant)
            if kind:
                yield kind, ast.unparse(tree)
                vars(node).update(right)


def make_repairs(rows: int = 100, seed: int = 0) -> Columns:
    """Programs with one mistake each, and their error messages. The programs run in a sandbox.

    Mutants that pass all tests are left out.

    Columns: `broken`; `message`, the first test that fails or the exception; the right `program`; `tests`; `kind` of
    the mistake; `answer`, the target cell of the program and its tests (`polymodal.metrics.code_eval.program_cells`);
    `combination`, by which to split.

        >>> list(make_repairs(1))
        ['broken', 'message', 'program', 'tests', 'kind', 'answer', 'combination']
    """
    generator = np.random.default_rng(seed)
    columns: Columns = {name: [] for name in ("broken", "message", "program", "tests", "kind", "answer", "combination")}
    while len(columns["broken"]) < rows:
        drawn = []
        for _ in range(rows - len(columns["broken"])):
            made = function(generator)
            choices = mutants(made.program)
            wanted = generator.choice(sorted({kind for kind, _ in choices}))  # rare kinds are as likely as common ones
            of_kind = [mutant for kind, mutant in choices if kind == wanted]
            drawn.append((made, str(wanted), of_kind[generator.integers(len(of_kind))]))
        outcomes = run([Program(broken, made.tests) for made, _, broken in drawn])
        for (made, kind, broken), outcome in zip(drawn, outcomes, strict=True):
            if outcome.result in ("failed", "error"):
                row = {"broken": broken, "message": outcome.detail, "program": made.program, "tests": made.tests}
                row |= {"kind": kind, "combination": made.combination}
                for name, cell in row.items():
                    columns[name].append(cell)
                columns["answer"].append(program_cell(made.program, made.tests))
    return columns


def make_test_suites(rows: int = 100, seed: int = 0) -> Columns:
    """Programs to generate tests for, which must fail on mutants. The programs run in a sandbox.

    Columns: `description`; `program`; `tests`, a reference answer; `answer`, the target cell of tests, with the program
    and up to six mutants that these tests catch (`polymodal.metrics.code_eval.program_cells`); `combination`, by which
    to split.

        >>> list(make_test_suites(1))
        ['description', 'program', 'tests', 'answer', 'combination']
    """
    generator = np.random.default_rng(seed)
    made = [function(generator) for _ in range(rows)]
    planted = [sorted({mutant for _, mutant in mistaken(one.program)} - {one.program}) for one in made]
    flat = [Program(mutant, one.tests) for one, many in zip(made, planted, strict=True) for mutant in many]
    caught = iter(outcome.result in ("failed", "error") for outcome in run(flat))
    answers = []
    for one, many in zip(made, planted, strict=True):
        known = [mutant for mutant in many if next(caught)]
        chosen = sorted(generator.permutation(len(known))[:PLANTED].tolist())
        answers.append(suite_cell(one.tests, one.program, [known[index] for index in chosen]))
    return {
        "description": [one.description for one in made],
        "program": [one.program for one in made],
        "tests": [one.tests for one in made],
        "answer": answers,
        "combination": [one.combination for one in made],
    }


def _changed(node: ast.AST, variant: int) -> str:
    """Make mistake number `variant` at this node, in place; returns its kind, or "" if there is no such mistake."""
    match node:
        case ast.Compare() if variant == 0 and type(node.ops[0]) in _COMPARISONS:
            node.ops = [_COMPARISONS[type(node.ops[0])]()]
            return "comparison"
        case ast.BinOp() | ast.AugAssign() if variant == 0 and type(node.op) in _OPERATORS:
            node.op = _OPERATORS[type(node.op)]()
            return "operator"
        case ast.Constant(value=int(value)) if variant < 2 and not isinstance(value, bool):
            node.value = value + (1, -1)[variant]
            return "constant"
        case ast.Return(value=ast.Name(id="result")) if variant == 0:
            node.value = ast.Name("x")
            return "name"
        case ast.Attribute(attr=name) if variant == 0 and name in _METHODS:
            node.attr = _METHODS[name]
            return "method"
        case ast.For(body=[ast.If() as condition]) if variant == 0:
            node.body = condition.body
            return "condition"
    return ""


def _mistyped(program: str) -> Iterator[tuple[str, str]]:
    for kind, pattern, typed in _TYPING:
        for hit in pattern.finditer(program):
            yield kind, program[: hit.start()] + typed + program[hit.end() :]
