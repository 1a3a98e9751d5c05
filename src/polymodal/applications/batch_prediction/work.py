"""The work of one process in a batch prediction: load the model once, then predict shards."""

from __future__ import annotations

from polymodal.applications.few_shot.loading import load_predictor
from polymodal.data.objects import as_root
from polymodal.data.shard_folder import ShardFolder
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.row_range import RowRange
from polymodal.data.table.table import Table
from polymodal.engines.shards import Shard
from polymodal.model.prediction_files import write_prediction_shard
from polymodal.model.protocol import PredictsRows


class PredictionWork:
    """Writes the predictions of shards into a folder. A shard that is there already is not computed again."""

    def __init__(
        self, model: PredictsRows, table: Table, folder: ShardFolder, *, probabilities: bool, strict: bool
    ) -> None:
        self.model, self.table, self.folder = model, table, folder
        self.probabilities, self.strict = probabilities, strict

    def run(self, shard: Shard) -> None:
        if self.folder.has(shard.name):
            return
        rows = RowRange(self.table, shard.start, shard.stop)
        with self.folder.writing(shard.name) as part:
            write_prediction_shard(self.model, rows, CellErrors(self.strict), part, probabilities=self.probabilities)


def open_work(
    *, model: str, data: str, root: str | None, out: str, probabilities: bool, strict: bool
) -> PredictionWork:
    """The work on the model in the directory `model` and the table at `data`."""
    loaded = load_predictor(model)
    folder = as_root(out)
    assert folder is not None
    return PredictionWork(
        loaded, loaded.open(data, root), ShardFolder(folder), probabilities=probabilities, strict=strict
    )
