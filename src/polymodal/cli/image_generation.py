"""The command `generate` for a model that generates images: a grid as PNG, or lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from polymodal.cli.output import print_cell_errors, print_result, write_jsonl
from polymodal.core.formatting import count_noun

if TYPE_CHECKING:
    import numpy as np

    from polymodal.checkpoint.output_file import OutputFile
    from polymodal.data.table.cell_errors import CellErrors
    from polymodal.data.table.table import Table
    from polymodal.model.model import Model

#: Images of a grid.
MAX_GRID_IMAGES = 1_000


def generates_images(model: Model, output: str | None) -> bool:
    """Whether the output to generate is an image: the output of this name, or the only generated one."""
    if output is not None:
        return output in model.tasks and model.tasks[output].space == "image"
    spaces = {task.space for task in model.tasks.values() if task.is_generative}
    return spaces == {"image"}


def write_images(
    model: Model,
    table: Table,
    errors: CellErrors,
    output: str | None,
    changes: dict[str, Any],
    *,
    file: OutputFile | None,
    as_json: bool,
) -> None:
    """Generate the images of each row: a grid with a line of images for each row (.png), or the images of each row as
    PNG files in `data:` addresses (.jsonl, or --json without a file).

    Raises:
        typer.BadParameter: there is no file, or the grid would have more than `MAX_GRID_IMAGES` images.
    """
    if file is None and not as_json:
        raise typer.BadParameter("images are written into a file: give --out grid.png or --out images.jsonl")
    from polymodal.model.image_generation import image_sampling

    samples = image_sampling(model.preparation, output, changes).num_return_sequences
    is_grid = file is not None and file.path.suffix == ".png"
    if is_grid and len(table) * samples > MAX_GRID_IMAGES:
        asked = f"{count_noun(len(table), 'row')} with {count_noun(samples, 'image')} each"
        raise typer.BadParameter(
            f"a grid holds at most {MAX_GRID_IMAGES:,} images, not {asked}; write a .jsonl file", param_hint="--out"
        )
    blocks = model.stream_images(table, errors, output=output, **changes)
    if file is None:
        rows = list(_records(blocks))
        value: dict[str, Any] = {"rows": len(rows), "images": rows}
    else:
        count = _write_grid(blocks, file) if is_grid else write_jsonl(_records(blocks), file)
        value = {"rows": count, "out": str(file.path)}
    value["cell_errors"] = [vars(error) for error in errors.errors]
    where = "" if file is None else f" in {file.path}"
    print_result(value, [f"images of {count_noun(value['rows'], 'row')}{where}"], as_json=as_json)
    print_cell_errors(errors.errors, as_json=as_json)


def _write_grid(blocks: Iterator[np.ndarray], file: OutputFile) -> int:
    import numpy as np
    from PIL import Image

    images = np.concatenate(list(blocks))  # [rows, samples, size, size, 3]
    rows, samples, size = images.shape[:3]
    with file.writing() as part:
        grid = Image.fromarray(images.transpose(0, 2, 1, 3, 4).reshape(rows * size, samples * size, 3))
        grid.save(part, "PNG")
    return rows


def _records(blocks: Iterator[np.ndarray]) -> Iterator[dict[str, Any]]:
    """A JSON-ready record of each row, with its number and images."""
    from PIL import Image

    from polymodal.tasks.image_generation import png_address

    number = 0
    for block in blocks:
        for images in block:
            yield {"row": number, "images": [png_address(Image.fromarray(image)) for image in images]}
            number += 1
