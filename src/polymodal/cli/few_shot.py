"""The command `few-shot`: classes from a few labeled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from polymodal.cli.options import Json, Overwrite, Root, Strict
from polymodal.cli.output import print_result, scores_table
from polymodal.cli.zero_shot import accuracy_sentence, read_classes
from polymodal.core.formatting import count_noun
from polymodal.core.terminal import labeled_lines

Kind = Literal["prototypes", "linear", "tip"]


def few_shot(
    model_dir: Annotated[Path, typer.Argument(help="A model directory written by `fit` or `pretrain`.")],
    data: Annotated[str, typer.Argument(help="A table with a few labeled rows.")],
    target: Annotated[str, typer.Option("--target", "-t", help="Column with the class.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write; `predict` and `evaluate` take it.")],
    head: Annotated[
        Kind,
        typer.Option(
            help="prototypes: class means; linear: logistic regression; tip: Tip-Adapter over zero-shot classes."
        ),
    ] = "prototypes",
    input: Annotated[str | None, typer.Option(help="Input to classify by. Default: the whole row.")] = None,
    descriptions: Annotated[
        Path | None, typer.Option(help="For tip: a .yaml or .json file with descriptions of each class.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help='For tip: prompt template such as "a photo of {}"; repeat for several.'),
    ] = None,
    test: Annotated[str | None, typer.Option(help="Table to score the head on.")] = None,
    overwrite: Overwrite = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Train a classifier for new classes from a few labeled rows, on the embeddings of a frozen model."""
    from polymodal.applications.few_shot.few_shot import FewShot
    from polymodal.checkpoint.directory_kinds import FEW_SHOT
    from polymodal.checkpoint.output_directory import OutputDirectory
    from polymodal.checkpoint.output_file import paths_in

    inputs = paths_in(model_dir, data, descriptions, test)
    OutputDirectory(out, FEW_SHOT, overwrite, inputs=inputs).check()
    texts = read_classes(descriptions) if descriptions else None
    if texts is not None and not isinstance(texts, dict):
        raise typer.BadParameter("the file must map class names to descriptions", param_hint="--descriptions")
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
    fitted.save(out, overwrite=overwrite)
    chosen = fitted.head.state()[1]
    value: dict[str, Any] = {"out": str(out), "head": head, "classes": fitted.classes, "chosen": chosen}
    numbers = ", ".join(f"{name} {number:.4g}" for name, number in chosen.items())
    classes = count_noun(len(fitted.classes), "class", "classes")
    shown: list[Any] = [
        labeled_lines([("classifier", str(out)), (head, f"{classes}, {numbers}" if numbers else classes)])
    ]
    if test is not None:
        value["scores"] = fitted.evaluate(test, root=root, strict=strict)
        shown += ["", scores_table(value["scores"]), "", accuracy_sentence(value["scores"][target]["accuracy"])]
    print_result(value, shown, as_json=as_json, then=[["predict", str(out), "NEW_ROWS", "--out", "predictions.csv"]])
