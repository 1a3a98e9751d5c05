"""The work of one process that prepares shards: load the preparation and the frozen layers once, then prepare rows."""

from __future__ import annotations

from polymodal.core.errors import ArtifactError
from polymodal.core.paths import cache_folder
from polymodal.data.objects import as_root
from polymodal.data.shard_folder import ShardFolder
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.row_range import RowRange
from polymodal.data.table.table import Table, open_table
from polymodal.engines.shards import Shard
from polymodal.experiments.initial_network import initial_network
from polymodal.experiments.stored_features import stored_features, with_features
from polymodal.nn.encoders.base import Encoder
from polymodal.preparation.preparation import Preparation
from polymodal.preparation.prepared_shard import PreparedShardWriter
from polymodal.preparation.prepared_store import StoredPreparation
from polymodal.runtime.compute import resolve_device
from polymodal.runtime.random_state import isolated_random_state


class PreparationWork:
    """Writes prepared shards into a folder. A shard that is there already is not prepared again.

    encoders: encoders whose frozen layers compute the features of their input
    group_rows: rows of a row group
    """

    def __init__(
        self,
        preparation: Preparation,
        encoders: dict[str, Encoder],
        table: Table,
        folder: ShardFolder,
        group_rows: int,
    ) -> None:
        self.preparation, self.encoders, self.table, self.folder = preparation, encoders, table, folder
        self.group_rows = group_rows

    def run(self, shard: Shard) -> None:
        if self.folder.has(shard.name):
            return
        recipe = self.preparation.recipe
        errors = CellErrors(recipe.data.strict)
        with self.folder.writing(shard.name) as part, PreparedShardWriter(part.parent) as writer:
            for start in range(shard.start, shard.stop, self.group_rows):
                rows = RowRange(self.table, start, min(start + self.group_rows, shard.stop))
                prepared = self.preparation.prepare(rows, errors, folder=None, cache=None)
                writer.add(with_features(prepared, self.encoders, self.preparation, recipe))
            writer.finish(part, errors)


def open_work(*, data: str, root: str | None, out: str) -> PreparationWork:
    """The work on the table at `data` for the store in the folder `out`, which holds the preparation."""
    address = as_root(out)
    assert address is not None
    folder = ShardFolder(address)
    stored = StoredPreparation.read(folder)
    facts, recipe = stored.facts(), stored.recipe()
    preparation = stored.load(recipe)
    table = open_table(data, root=as_root(root), cache=cache_folder() / "tables")
    encoders: dict[str, Encoder] = {}
    if facts.features:
        with isolated_random_state():
            network, _ = initial_network(recipe, preparation)
        network.to(resolve_device(recipe.training.device))
        if stored_features(network, preparation) != facts.features:
            raise ArtifactError(
                f"the frozen layers on this machine are not those with which the store {out} was begun: another "
                "checkpoint is in their place, or the processors have another number format. Prepare the table again, "
                "with overwrite"
            )
        encoders = {name: encoder for name, encoder in network.encoders().items() if name in facts.features}
    return PreparationWork(preparation, encoders, table, folder, facts.group_rows)
