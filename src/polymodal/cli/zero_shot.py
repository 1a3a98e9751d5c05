"""The command `zero-shot`: classification by the names of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from polymodal.cli.inputs import media_root
from polymodal.cli.options import Json, OverwriteFile, Root, Strict
from polymodal.cli.output import output_file, print_note, print_result, rows_table, scores_table, write_jsonl
from polymodal.core.formatting import count_noun


def zero_shot(
    model_dir: Annotated[Path, typer.Argument(help="A model directory with a text input aligned by `pretrain`.")],
    data: Annotated[str, typer.Argument(help='A table, or a row as JSON: \'{"image": "a.png"}\'.')],
    classes: Annotated[
        list[str] | None,
        typer.Option("--classes", "-c", help='Class names, separated by commas: "cat,dog"; or repeat.'),
    ] = None,
    classes_file: Annotated[
        Path | None,
        typer.Option(
            help="File with one class name per line; or .yaml or .json with a list of names, or descriptions by name."
        ),
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help='Prompt template such as "a photo of {}"; repeat for several.')
    ] = None,
    input: Annotated[str | None, typer.Option(help="Input to classify, if several are aligned with texts.")] = None,
    text: Annotated[str | None, typer.Option(help="The aligned text input, if there are several.")] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Column with the true class, to score the predictions.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, .jsonl: one line for each row.")
    ] = None,
    overwrite: OverwriteFile = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Classify each row by the class name with the most similar text embedding, without labels."""
    from polymodal.applications.few_shot.zero_shot import ZeroShot

    if (not classes) == (classes_file is None):
        raise typer.BadParameter("give --classes or --classes-file", param_hint="--classes")
    file = output_file(out, overwrite, [data, classes_file], what="names", endings=(".jsonl",))
    named = read_classes(classes_file) if classes_file else [one.strip() for one in ",".join(classes or []).split(",")]
    classifier = ZeroShot(model_dir, named, input=input, text=text, templates=template, target=target or "class")
    table = classifier.open(data, media_root(data, root), targets=target is not None)
    probabilities = classifier.predict_proba(table, strict=strict)
    rows: list[dict[str, Any]] = [
        {"row": row, "class": name, "probability": None if name is None else float(own.max())}
        for row, (name, own) in enumerate(zip(classifier.task.predict(probabilities), probabilities, strict=True))
    ]
    value: dict[str, Any] = {"rows": len(rows), "input": classifier.input, "text": classifier.text}
    shown: list[Any] = []
    if file is None:
        value["classes"] = rows
        shown.append(rows_table(rows))
    else:
        write_jsonl(iter(rows), file)
        value["out"] = str(out)
        shown.append(f"classes of {count_noun(len(rows), 'row')} in {out}")
    if target is not None:
        value["scores"] = classifier.score(probabilities, table, strict=strict)
        shown += ["", scores_table(value["scores"]), "", accuracy_sentence(value["scores"][target]["accuracy"])]
    print_result(value, shown, as_json=as_json)
    unseen = sum(one["class"] is None for one in rows)
    if unseen and not as_json:
        print_note(f"{count_noun(unseen, 'row')} without the input {classifier.input!r}: no class is predicted")


def accuracy_sentence(accuracy: dict[str, Any]) -> str:
    """The number of correct predictions, and the probability of as many by chance."""
    return (
        f"{accuracy['correct']} of {count_noun(accuracy['rows'], 'row')} correct; chance is "
        f"{accuracy['chance_level']:.1%} (exact binomial test, p = {accuracy['p_value']:.2g})"
    )


def read_classes(path: Path) -> list[str] | dict[str, list[str]]:
    """Classes from a file: one name per line, or the list or mapping of a YAML or JSON file.

    Raises:
        RecipeError: the file cannot be read.
    """
    from polymodal.core.errors import RecipeError
    from polymodal.core.yaml_json import TextFormatError, read_json, read_yaml

    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix not in (".yaml", ".yml", ".json"):
            return [line.strip() for line in text.splitlines() if line.strip()]
        found = read_json(text) if path.suffix == ".json" else read_yaml(text)
    except (OSError, UnicodeDecodeError, TextFormatError) as error:
        raise RecipeError("classes", f"the file {path} cannot be read: {error}") from None
    if not isinstance(found, list | dict):
        raise RecipeError("classes", f"the file {path} must hold a list of names, or descriptions by name")
    return found
