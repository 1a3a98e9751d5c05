"""The command that learns classes from a few labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from polymodal.cli.options import Json, Root, Strict
from polymodal.cli.output import print_result, scores_table
from polymodal.cli.zero_shot import accuracy_sentence, read_classes

Kind = Literal["prototypes", "linear", "tip"]


def few_shot(
    model_dir: Annotated[Path, typer.Argument(help="A model directory, as `fit` or `pretrain` leaves it.")],
    data: Annotated[str, typer.Argument(help="A table with a few labelled rows.")],
    target: Annotated[str, typer.Option("--target", "-t", help="Column with the class.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write; `predict` and `evaluate` take it.")],
    head: Annotated[
        Kind, typer.Option(help="prototypes: class means; linear: logistic regression; tip: beside zero-shot classes.")
    ] = "prototypes",
    input: Annotated[str | None, typer.Option(help="The input to read; default: the whole row.")] = None,
    descriptions: Annotated[
        Path | None, typer.Option(help="For tip: .yaml or .json with descriptions of the classes by name.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help='For tip: a text with {} for the name, "a photo of {}"; repeat for several.'),
    ] = None,
    test: Annotated[str | None, typer.Option(help="Table to score the head on.")] = None,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Learn classes from a few labelled rows on the embeddings of a model that stays as it is."""
    from polymodal.applications.few_shot import FewShot

    texts = read_classes(descriptions) if descriptions else None
    if texts is not None and not isinstance(texts, dict):
        raise typer.BadParameter("it must hold descriptions by name", param_hint="--descriptions")
    fitted = FewShot.fit(
        model_dir,
        data,
        target,
        head,
        input,
        descriptions=texts,
        templates=template,
        root=root,
        strict=strict,
    )
    fitted.save(out)
    chosen = fitted.head.state()[1]
    value: dict[str, Any] = {"out": str(out), "head": head, "classes": fitted.classes, "chosen": chosen}
    numbers = ", ".join(f"{name} {number:.4g}" for name, number in chosen.items())
    shown: list[Any] = [f"{head} of {len(fitted.classes)} classes in {out} ({numbers})"]
    if test is not None:
        value["scores"] = fitted.evaluate(test, root=root, strict=strict)
        shown += [scores_table(value["scores"]), accuracy_sentence(value["scores"][target]["accuracy"])]
    print_result(value, shown, as_json=as_json)
