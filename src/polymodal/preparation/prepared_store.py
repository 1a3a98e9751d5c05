"""A store of prepared rows: a folder with a fitted preparation and shards of rows that it has prepared."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xxhash

from polymodal.core.errors import ArtifactError, DataError
from polymodal.core.record import read_record
from polymodal.data.group_file import GroupFile
from polymodal.data.group_sampler import RowGroups
from polymodal.data.objects import as_root
from polymodal.data.partition import groups_of
from polymodal.data.shard_folder import ShardFolder
from polymodal.data.store.item_arrays import GroupedItems
from polymodal.data.store.items import PreparedInput
from polymodal.data.store.writer import PreparedWriter
from polymodal.data.table.cell_errors import CellError
from polymodal.data.table.table import Table
from polymodal.preparation.feature_cache import FeatureItems
from polymodal.preparation.group_reader import GroupReader
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.preparation.prepared_shard import PreparedShard, ShardRows
from polymodal.preparation.row_arrays import from_row_arrays
from polymodal.preparation.saved_state import FILE, FOLDER
from polymodal.recipe.recipe import Recipe

#: The files of a store beside its shards: the fitted preparation, the list of the shards, and the bad cells.
PREPARATION, MANIFEST, CELL_ERRORS = "preparation.zip", "shards.json", "cell_errors.jsonl"
RECIPE, FACTS = "recipe.yaml", "store.json"
#: Headers of shards that are read at once.
READERS = 16


@dataclass(frozen=True)
class StoreFacts:
    """What a store was made from.

    request: a hash of the arguments that decide what the preparation is
    table: the name of the table
    source: `Table.source_key` of the table
    rows: its number of rows
    training_rows: a hash of the numbers of the training rows, to which the preparation is fitted
    fitted_rows: the number of training rows to which the inputs are fitted
    group_rows: rows of a row group
    features: the inputs that are stored as features of frozen layers, with a hash of these layers
    """

    request: str
    table: str
    source: str
    rows: int
    training_rows: str
    fitted_rows: int
    group_rows: int
    features: dict[str, str]


def hash_rows(rows: np.ndarray) -> str:
    """A hash of row numbers."""
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(rows, dtype=np.int64).tobytes())


@dataclass(frozen=True)
class StoredPreparation:
    """The file `preparation.zip` of a store: the complete recipe, the fitted preparation, and the facts.

    content: its bytes
    """

    content: bytes

    @classmethod
    def of(cls, preparation: Preparation, facts: StoreFacts) -> StoredPreparation:
        """The file of a fitted preparation. Equal preparations give equal bytes."""
        with TemporaryDirectory(prefix="polymodal-") as name:
            folder, file = Path(name) / "content", Path(name) / PREPARATION
            (folder / FOLDER).mkdir(parents=True)
            state = preparation.save(folder / FOLDER)
            (folder / FILE).write_text(json.dumps(state, indent=1), encoding="utf-8")
            (folder / RECIPE).write_text(preparation.recipe.to_yaml(), encoding="utf-8")
            (folder / FACTS).write_text(json.dumps(asdict(facts), indent=1), encoding="utf-8")
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for one in sorted(path for path in folder.rglob("*") if path.is_file()):
                    archive.writestr(zipfile.ZipInfo(one.relative_to(folder).as_posix()), one.read_bytes())
            return cls(file.read_bytes())

    @classmethod
    def read(cls, folder: ShardFolder) -> StoredPreparation:
        """Read the file in the folder of a store.

        Raises:
            DataError: there is none.
        """
        try:
            with folder.open(PREPARATION) as file:
                return cls(file.read())
        except FileNotFoundError:
            shown = folder.path(PREPARATION).shown
            raise DataError("there is no store of prepared rows; run `polymodal prepare`", file=shown) from None

    @property
    def checksum(self) -> str:
        """A hash of the content."""
        return xxhash.xxh3_128_hexdigest(self.content)

    def facts(self) -> StoreFacts:
        """What the store was made from.

        Raises:
            ArtifactError: the file is damaged.
        """
        return read_record(StoreFacts, json.loads(self._text(FACTS)), Path(PREPARATION))

    def recipe(self) -> Recipe:
        """The complete recipe with which the store was made.

        Raises:
            ArtifactError: the file is damaged.
        """
        with TemporaryDirectory(prefix="polymodal-") as name:
            file = Path(name) / RECIPE
            file.write_text(self._text(RECIPE), encoding="utf-8")
            return Recipe.read(file)

    def load(self, recipe: Recipe) -> Preparation:
        """The fitted preparation, for a recipe that prepares rows in the same way.

        Raises:
            ArtifactError: the file is damaged.
        """
        with TemporaryDirectory(prefix="polymodal-") as name, self._archive() as archive:
            archive.extractall(name)
            preparation = Preparation(recipe)
            preparation.load(Path(name))
        return preparation

    def _text(self, name: str) -> str:
        with self._archive() as archive:
            return archive.read(name).decode()

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(io.BytesIO(self.content))
        except zipfile.BadZipFile as error:
            raise ArtifactError(f"{PREPARATION} is damaged ({error}): run `polymodal prepare` with overwrite") from None


class PreparedStore:
    """A complete store.

    Its rows are loaded as a whole, or they are streamed: read when a batch needs them.
    """

    def __init__(self, folder: ShardFolder, preparation: StoredPreparation, shards: Sequence[PreparedShard]) -> None:
        self.folder, self.preparation, self.shards = folder, preparation, shards
        self.facts = preparation.facts()

    @classmethod
    def open(cls, source: Path | str) -> PreparedStore:
        """Open the store in a folder of this machine or in an object store. Only headers are read.

        Raises:
            DataError: there is no store, it is not complete, or a file is damaged.
        """
        root = as_root(source)
        assert root is not None
        folder = ShardFolder(root)
        preparation = StoredPreparation.read(folder)
        try:
            names = [shard["name"] for shard in json.loads(folder.read_text(MANIFEST))["shards"]]
        except FileNotFoundError:
            problem = "the store is not complete; run `polymodal prepare` again until all shards are there"
            raise DataError(problem, file=folder.path(MANIFEST).shown) from None
        with ThreadPoolExecutor(max(1, min(READERS, len(names)))) as threads:
            files = list(threads.map(partial(GroupFile.open, folder), names))
        return cls(folder, preparation, [PreparedShard(file) for file in files])

    @property
    def num_groups(self) -> int:
        """The number of row groups of all shards."""
        return sum(len(shard.group_rows) for shard in self.shards)

    def cell_errors(self) -> list[CellError]:
        """The bad cells of all rows."""
        text = self.folder.read_text(CELL_ERRORS)
        return [CellError(**json.loads(line)) for line in text.splitlines()]

    def load(self, preparation: Preparation, table: Table, folder: Path | None) -> PreparedTable:
        """All rows, as `Preparation.prepare` gives them. Items with equal content become one item.

        folder: folder of memory-mapped files with the items; None keeps the items in memory

        Raises:
            DataError: a file cannot be read, or is damaged.
        """
        names = list(preparation.modalities)
        writers = {
            name: PreparedWriter(folder / f"input{number}" if folder else None) for number, name in enumerate(names)
        }
        rows = []
        for shard in self.shards:
            rows.append(shard.row_arrays())
            for group, own in enumerate(rows[-1].group_inputs()):
                items = shard.items(group)
                for name in names:
                    writers[name].append(PreparedInput(own[name].index, items[name], own[name].content_keys))
        inputs = {name: self._with_features(name, writer.finish()) for name, writer in writers.items()}
        return self._table(inputs, rows, preparation, table)

    def stream(self, preparation: Preparation, table: Table, open_groups: int) -> PreparedTable:
        """All rows, whose items are read by row groups when a batch needs them. The index of the rows, their targets
        and the lengths of their items are in memory. Items of different row groups are different items.

        open_groups: row groups that are open at once; as many more are read in advance

        Raises:
            DataError: a file cannot be read, or is damaged.
        """
        reader = GroupReader(self.shards, open_groups)
        rows = [shard.row_arrays() for shard in self.shards]
        inputs = {}
        for name in preparation.modalities:
            parts = [own[name] for one in rows for own in one.group_inputs()]
            starts = np.cumsum([0, *(part.items for part in parts)])
            index = [
                np.where(part.index >= 0, part.index + start, -1) for part, start in zip(parts, starts, strict=False)
            ]
            lengths = [part.lengths for part in parts if part.lengths is not None]
            size = sum(part.size for part in parts) / max(1, int(starts[-1]))
            grouped = GroupedItems(
                starts, partial(reader.items, name), np.concatenate(lengths) if lengths else None, size
            )
            inputs[name] = self._with_features(name, PreparedInput(np.concatenate(index), grouped))
        found = self._table(inputs, rows, preparation, table)
        starts = np.cumsum([0, *(count for shard in self.shards for count in shard.group_rows)])
        return replace(found, row_groups=RowGroups(starts, open_groups, reader.expect))

    def _with_features(self, name: str, source: PreparedInput) -> PreparedInput:
        """The input with its items as features of frozen layers, if they are such."""
        features = self.shards[0].inputs(0)[name].features
        if features is None:
            return source
        fields, layers = tuple(features["per_item_fields"]), self.facts.features[name]
        found = FeatureItems(source.items, None, 0, features["dtype"], fields, layers)
        return replace(source, items=found)

    def _table(
        self, inputs: dict[str, PreparedInput], rows: Sequence[ShardRows], preparation: Preparation, table: Table
    ) -> PreparedTable:
        arrays = {name: np.concatenate([one.arrays[name] for one in rows]) for name in _shared_names(rows)}
        found = from_row_arrays(arrays, list(preparation.tasks), self.facts.rows)
        groups = groups_of(preparation.recipe, table.read_with(preparation.column_kinds))
        return replace(found, inputs=inputs, data_set=table.data_set, groups=groups)


def _shared_names(rows: Sequence[ShardRows]) -> Iterator[str]:
    """The names of the arrays of targets, prompts and weights."""
    return (name for name in rows[0].arrays if not name.startswith("input"))
