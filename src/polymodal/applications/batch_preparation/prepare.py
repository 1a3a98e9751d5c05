"""`prepare`: a store of prepared rows of a large table, from which `fit` trains without decoding."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polymodal._version import __version__
from polymodal.applications.batch_preparation.work import open_work
from polymodal.applications.shard_output import ShardOutput, content_name, delete_unfinished
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import OutputError, RecipeError
from polymodal.core.progress import Progress
from polymodal.data.group_file import GroupFile
from polymodal.data.shard_folder import ShardFolder
from polymodal.data.table.locations import absolute_source
from polymodal.engines.choose import EngineName, make_engine
from polymodal.engines.shards import ArrayShare, Shard, WorkSpec
from polymodal.experiments.arguments import (
    RecipeLike,
    Tables,
    TargetLike,
    as_targets,
    open_tables,
    with_init_from,
    with_objectives,
)
from polymodal.experiments.initial_network import initial_network
from polymodal.experiments.stored_features import stored_features
from polymodal.preparation.preparation import BLOCK_ROWS, MIN_BLOCK_ROWS, Preparation
from polymodal.preparation.prepared_shard import PreparedShard
from polymodal.preparation.prepared_store import (
    CELL_ERRORS,
    MANIFEST,
    PREPARATION,
    StoredPreparation,
    StoreFacts,
    hash_rows,
)
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import resolve_device
from polymodal.runtime.random_state import isolated_random_state
from polymodal.training.source_model import SourceModel
from polymodal.workflows.fit import plan_run

#: Rows of a shard, and training rows to which the inputs are fitted, if the user names no other numbers.
SHARD_ROWS, FIT_ROWS = 100_000, 100_000
#: Bytes of prepared items of maximum size in a row group.
GROUP_BYTES = 64 * 2**20
OUTPUT = ShardOutput(
    "prepared rows", ".safetensors", (MANIFEST, CELL_ERRORS), "recipe, table or number of rows", (PREPARATION,)
)
#: Part of the name of every shard: increase it when the content changes.
_VERSION = 1


@dataclass(frozen=True)
class PreparedShards:
    """What a call of `prepare` found and did.

    shards: number of shards of the table
    computed: number of those that this call prepared; the others were there, or belong to other jobs
    complete: whether all shards are there, so that `fit` can train from the store
    rows, bytes, cell_errors: rows of the table, size of the shards, and cells that could not be used; 0 if not complete
    """

    out: str
    shards: int
    computed: int
    complete: bool
    rows: int
    bytes: int
    cell_errors: int


@check_arguments
def prepare(
    data: Path | str,
    target: TargetLike = None,
    *,
    out: Path | str,
    objectives: str | list[str] | None = None,
    recipe: RecipeLike = None,
    settings: list[str] | Mapping[str, Any] | None = None,
    init_from: Path | str | None = None,
    engine: EngineName = "local",
    workers: int | None = None,
    shards: str | None = None,
    shard_rows: int = SHARD_ROWS,
    group_rows: int | None = None,
    fit_rows: int = FIT_ROWS,
    root: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> PreparedShards:
    """Prepare a table for training, shard by shard: decode, tokenize, and compute the features of frozen layers. Then
    `fit(data, prepared=out)` trains from the store `out` as it would from the table; with objectives, `pretrain`.

    data: path or address of a table
    target, recipe, settings, init_from: as for `fit`
    out: folder on this machine or in an object store
    objectives: objectives of pretraining, as for `pretrain`: the store is for `pretrain`, and the table needs no target
    engine: `local`, or `ray` for the Ray cluster at `RAY_ADDRESS` (without the variable, Ray on this machine)
    workers: number of processes; default: one for `local`, and as many as fit into the cluster for `ray`
    shards: `INDEX/COUNT`, if this process is one of the jobs of an array: it prepares every COUNT-th shard from INDEX
    shard_rows: rows of a shard at most; a shard begins with a row group of a Parquet file where it can
    group_rows: rows of a row group of the store, which `fit` reads at once; default: by the size of the items
    fit_rows: training rows to which the inputs are fitted (vocabularies, statistics), evenly spread; targets are
        fitted to all training rows
    root: base folder of media paths in cells
    overwrite: delete what is in `out` if it is a store of another recipe, table or number of rows

    The first call writes `preparation.zip`: the complete recipe and the fitted preparation. Each shard is a safetensors
    file, named by its number and by a hash of the preparation, the table and the rows, and written whole or not at all.
    A second call computes only what is missing. When all shards are there, `shards.json` lists them, and
    `cell_errors.jsonl` the cells that could not be used.

    Raises:
        RecipeError, DataError, ArtifactError: as `fit`, or an argument is not valid.
        OutputError: `out` holds other files, or another store and `overwrite` is not set.
        PolymodalError: a process was killed several times by the same shard.

    Example:
        >>> import polymodal
        >>> lines = ["length,kind", *(f"{one},{kind}" for one, kind in [(1, "short"), (5, "long")] * 10)]
        >>> _ = Path("train.csv").write_text("\\n".join(lines))
        >>> done = polymodal.prepare("train.csv", "kind", out="store", shard_rows=8)
        >>> done.shards, done.rows, polymodal.prepare("train.csv", "kind", out="store", shard_rows=8).computed
        (3, 20, 0)
        >>> model = polymodal.fit("train.csv", prepared="store")
        >>> model.predict({"length": [1.0, 5.0]})
        ['short', 'long']
    """
    for name, number in {"shard_rows": shard_rows, "group_rows": group_rows, "fit_rows": fit_rows}.items():
        if number is not None and number < 1:
            raise RecipeError(name, f"must be at least 1, not {number}")
    chosen, share = make_engine(engine, workers), ArrayShare() if shards is None else ArrayShare.parse(shards)
    folder = OUTPUT.folder(out)
    source, base = absolute_source(data), None if root is None else absolute_source(root)
    given = with_init_from(with_objectives(recipe, settings, objectives), init_from)
    tables, targets = open_tables(source, root=base), as_targets(target)
    if objectives is not None and targets:
        raise RecipeError("objectives", "a store with objectives is for `pretrain`, which has no target; remove one")
    key = f"{_VERSION} {tables.train.source_key()} {base}"
    request = content_name(f"{key} {given.to_yaml()} {targets} {objectives is not None} {group_rows} {fit_rows}")
    OUTPUT.check_foreign(folder)
    if not _has_preparation(folder, request, overwrite):
        with Progress(progress).task("fit the preparation", None):
            wish = _PreparationRequest(given, targets, request, group_rows, fit_rows, objectives is not None)
            made = wish.fit(tables)
        with folder.writing(PREPARATION) as part:
            part.write_bytes(made.content)
    stored = StoredPreparation.read(folder)
    wanted = OUTPUT.shards(tables.train, shard_rows, f"{key} {stored.checksum}")
    present = OUTPUT.check(folder, wanted, overwrite)
    missing = [shard for shard in share.of(wanted) if shard.name not in present]
    arguments: dict[str, Any] = {"data": source, "root": base, "out": folder.address}
    with Progress(progress).task("prepare", sum(shard.stop - shard.start for shard in missing)) as advance:
        chosen.run(WorkSpec(open_work.__module__, arguments), missing, lambda shard: advance(shard.stop - shard.start))
    return _finish(folder, wanted, len(missing), alone=share.count == 1)


@dataclass(frozen=True)
class _PreparationRequest:
    """How the preparation of a store is made; see `prepare`.

    pretraining: whether the store is for `pretrain`
    """

    recipe: Recipe
    targets: list[str]
    request: str
    group_rows: int | None
    fit_rows: int
    pretraining: bool

    def fit(self, tables: Tables) -> StoredPreparation:
        """Plan the recipe, and fit the preparation to the training rows."""
        plan, splits = plan_run(self.recipe, tables, self.targets, pretraining=self.pretraining, is_stored=True)
        recipe, train = plan.recipe, splits["train"]
        preparation, start = Preparation(recipe), SourceModel.from_recipe(recipe)
        known = start.load_modalities(preparation) if start is not None else []
        some = train.rows
        if len(some) > self.fit_rows:
            some = some[np.linspace(0, len(some) - 1, self.fit_rows).astype(np.int64)]
        preparation.fit(train.table, train.rows, input_rows=some, known=known)
        if start is not None:
            start.load_tasks(preparation)
        features: dict[str, str] = {}
        if not recipe.members:
            with isolated_random_state():
                network, _ = initial_network(recipe, preparation)
            features = stored_features(network.to(resolve_device(recipe.training.device)), preparation)
        facts = StoreFacts(
            request=self.request,
            table=train.table.name,
            source=train.table.source_key(),
            rows=len(train.table),
            training_rows=hash_rows(train.rows),
            fitted_rows=len(some),
            group_rows=self.group_rows or _group_rows(preparation),
            features=features,
        )
        return StoredPreparation.of(preparation, facts)


def _group_rows(preparation: Preparation) -> int:
    row = sum(modality.row_bytes() for modality in preparation.modalities.values())
    return int(np.clip(GROUP_BYTES / max(row, 1.0), MIN_BLOCK_ROWS, BLOCK_ROWS))


def _has_preparation(folder: ShardFolder, request: str, overwrite: bool) -> bool:
    """Whether the folder holds the preparation of this request. Another store is deleted with `overwrite`.

    Raises:
        OutputError: it holds another store, and `overwrite` is not set.
    """
    if not folder.has(PREPARATION):
        return False
    if StoredPreparation.read(folder).facts().request == request:
        return True
    if not overwrite:
        raise OutputError(
            f"{folder.root} holds a store of another recipe, table or number of rows: set overwrite (--overwrite) to "
            "delete it, or choose another directory"
        )
    for name in folder.names():
        folder.delete(name)
    return False


def _finish(folder: ShardFolder, wanted: Sequence[Shard], computed: int, *, alone: bool) -> PreparedShards:
    """Write the manifest and the cell errors if all shards are there."""
    out, names = str(folder.root), set(folder.names())
    if any(shard.name not in names for shard in wanted):
        return PreparedShards(out, len(wanted), computed, False, 0, 0, 0)
    entries, errors = [], []
    for shard in wanted:
        written = PreparedShard(GroupFile.open(folder, shard.name))
        if written.num_cell_errors:
            errors += written.row_arrays().cell_error_lines()
        facts = {"rows": written.rows, "bytes": written.file.size, "cell_errors": written.num_cell_errors}
        entries.append({**asdict(shard), **facts, "hash": written.checksum})
    rows, size = sum(entry["rows"] for entry in entries), sum(entry["bytes"] for entry in entries)
    totals = {"kind": "prepared rows", "polymodal": __version__, "rows": rows, "bytes": size}
    folder.write_text(CELL_ERRORS, "".join(errors))
    manifest = {**totals, "cell_errors": len(errors), "shards": entries}
    folder.write_text(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    if alone:
        delete_unfinished(folder)
    return PreparedShards(out, len(wanted), computed, True, rows, size, len(errors))
