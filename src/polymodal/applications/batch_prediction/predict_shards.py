"""`predict_shards`: the predictions of a large table as one file for each shard, on any engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polymodal._version import __version__
from polymodal.applications.batch_prediction.work import open_work
from polymodal.applications.few_shot.loading import load_predictor
from polymodal.applications.shard_output import ShardOutput, content_name, delete_unfinished
from polymodal.checkpoint.directory_kinds import ENSEMBLE, FEW_SHOT, MODEL
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import RecipeError
from polymodal.core.progress import Progress
from polymodal.data.shard_folder import ShardFolder
from polymodal.data.table.locations import absolute_source
from polymodal.engines.choose import EngineName, make_engine
from polymodal.engines.shards import ArrayShare, Shard, WorkSpec
from polymodal.model.prediction_columns import prediction_columns
from polymodal.model.prediction_files import read_prediction_shard

#: Rows of a shard, if a shard has no other number.
SHARD_ROWS = 100_000
#: The files beside the shards: what they hold, and the cells that could not be used.
MANIFEST, CELL_ERRORS = "shards.json", "cell_errors.jsonl"
OUTPUT = ShardOutput("predictions", ".parquet", (MANIFEST, CELL_ERRORS), "model, table or number of rows")
#: Part of the name of every shard: increase it when the content changes.
_VERSION = 1


@dataclass(frozen=True)
class ShardedPredictions:
    """What a call of `predict_shards` found and did.

    shards: number of shards of the table
    computed: number of those that this call computed; the others were there, or belong to other jobs
    complete: whether all shards are there, so that the manifest was written
    rows, cell_errors: rows of the table, and cells that could not be used; 0 if not complete
    """

    out: str
    shards: int
    computed: int
    complete: bool
    rows: int
    cell_errors: int


@check_arguments
def predict_shards(
    model: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    engine: EngineName = "local",
    workers: int | None = None,
    shards: str | None = None,
    shard_rows: int = SHARD_ROWS,
    probabilities: bool = False,
    root: Path | str | None = None,
    strict: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> ShardedPredictions:
    """Predict a table shard by shard. Each shard is a Parquet file in `out`, named by its number and by a hash of the
    model, the table and the rows, and written whole or not at all. A second call computes only what is missing.

    model: directory of a model, an ensemble or a few-shot classifier
    data: path or address of a table
    out: folder on this machine or in an object store
    engine: `local`, or `ray` for the Ray cluster at `RAY_ADDRESS` (without the variable, Ray on this machine)
    workers: number of processes; default: one for `local`, and as many as fit into the cluster for `ray`
    shards: `INDEX/COUNT`, if this process is one of the jobs of an array: it computes every COUNT-th shard from INDEX
    shard_rows: rows of a shard at most; a shard begins with a row group of a Parquet file where it can
    probabilities: with the probability of each class
    root: base folder of media paths in cells
    strict: stop at the first unusable cell
    overwrite: delete shards in `out` of another model, table or number of rows

    When all shards are there, `shards.json` lists them, and `cell_errors.jsonl` the cells that could not be used.

    Raises:
        DataError, ArtifactError: the table or the model cannot be read.
        RecipeError: an argument is not valid.
        OutputError: `out` holds other files, or shards of another model or table and `overwrite` is not set.
        PolymodalError: a process was killed several times by the same shard.

    Example:
        >>> import polymodal
        >>> rows = {"length": [1.0, 1.2, 5.0, 5.1] * 5, "kind": ["short", "short", "long", "long"] * 5}
        >>> settings = ["training.epochs=1", "evaluation.bootstrap_samples=0"]
        >>> model = polymodal.fit(rows, "kind", settings=settings, out="model")
        >>> _ = Path("new.csv").write_text("length\\n1\\n2\\n6\\n")
        >>> done = polymodal.predict_shards("model", "new.csv", "answers", shard_rows=2)
        >>> done.shards, done.rows, polymodal.predict_shards("model", "new.csv", "answers", shard_rows=2).computed
        (2, 3, 0)
    """
    if shard_rows < 1:
        raise RecipeError("shard_rows", f"must be at least 1, not {shard_rows}")
    chosen, share = make_engine(engine, workers), ArrayShare() if shards is None else ArrayShare.parse(shards)
    folder = OUTPUT.folder(out)
    source, base = absolute_source(data), None if root is None else absolute_source(root)
    loaded = load_predictor(model)
    table, columns = loaded.open(source, base), prediction_columns(loaded.tasks, probabilities=probabilities)
    del loaded  # each process of the engine loads its own
    key = f"{_VERSION} {model_key(Path(model))} {table.source_key()} {base} {probabilities}"
    wanted = OUTPUT.shards(table, shard_rows, key)
    present = OUTPUT.check(folder, wanted, overwrite)
    missing = [shard for shard in share.of(wanted) if shard.name not in present]
    arguments: dict[str, Any] = {"model": str(Path(model).resolve()), "data": source, "root": base}
    arguments |= {"out": folder.address, "probabilities": probabilities, "strict": strict}
    with Progress(progress).task("predict", sum(shard.stop - shard.start for shard in missing)) as advance:
        chosen.run(WorkSpec(open_work.__module__, arguments), missing, lambda shard: advance(shard.stop - shard.start))
    return _finish(folder, wanted, len(missing), list(columns.values()), alone=share.count == 1)


def model_key(folder: Path) -> str:
    """A hash of the manifests of a model directory, which hold the checksums of all other files."""
    names = (MODEL.manifest, ENSEMBLE.manifest, FEW_SHOT.manifest)
    return content_name(
        " ".join((folder / name).read_text(encoding="utf-8") for name in names if (folder / name).is_file())
    )


def _finish(
    folder: ShardFolder, wanted: Sequence[Shard], computed: int, columns: list[str], *, alone: bool
) -> ShardedPredictions:
    """Write the manifest and the cell errors if all shards are there."""
    out, names = str(folder.root), set(folder.names())
    if any(shard.name not in names for shard in wanted):
        return ShardedPredictions(out, len(wanted), computed, False, 0, 0)
    found = [(shard, *read_prediction_shard(folder.open, shard.name)) for shard in wanted]
    errors = [line for _, _, lines in found for line in lines]
    folder.write_text(CELL_ERRORS, "".join(errors))
    shards = [{**asdict(shard), "rows": rows, "cell_errors": len(lines)} for shard, rows, lines in found]
    rows = sum(count for _, count, _ in found)
    facts = {"kind": "predictions", "polymodal": __version__, "columns": columns, "rows": rows}
    manifest = {**facts, "cell_errors": len(errors), "shards": shards}
    folder.write_text(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    if alone:
        delete_unfinished(folder)
    return ShardedPredictions(out, len(wanted), computed, True, rows, len(errors))
