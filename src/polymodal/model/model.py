"""A trained model: rows in, predictions out. What `fit` returns and `load` reads back."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polymodal.checkpoint.model_directory import verify_model_files, read_json, read_weights, write_model_files, write_json
from polymodal.checkpoint.weight_format import WeightFormat
from polymodal.core.errors import ArtifactError, PolymodalError, RecipeError, did_you_mean
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.generation.output import GenerationOutput
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.inference.embedding import alignment_of
from polymodal.inference.predictor import Predictor
from polymodal.model import text_generation
from polymodal.model.distributions import unwrap_single_output
from polymodal.model.rows import open_rows
from polymodal.model.run_record import RunRecord
from polymodal.nn.layers.embedding_head import unit
from polymodal.nn.network import Network
from polymodal.nn.objectives.alignment import Alignment
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import ComputeConfig, network_device, resolve_device
from polymodal.tasks.base import Task
from polymodal.training.decoder_weights import load_initial_weights

if TYPE_CHECKING:
    from polymodal.evaluation.robustness import Robustness
    from polymodal.model.transcription import TranscriptSegment


@dataclass
class Model:
    """A recipe, what its preparation learned, and trained weights.

    metrics: scores by part, output and metric, as in `metrics.json`
    run: how it was made: versions, fingerprints, column roles, history, faults, as in `run.json`
    form: how the weights are kept and computed with
    """

    recipe: Recipe
    preparation: Preparation
    network: Network
    metrics: dict[str, Any] = field(default_factory=dict)
    run: RunRecord = field(default_factory=RunRecord)
    weight_format: WeightFormat = field(default_factory=WeightFormat)

    def predict(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """The answer for each row of `data`, in the order of the rows.

        data: anything `open_table` reads, or one row as a dict of cells
        root: the folder that media paths in cells start from (by default that of the table's file)
        strict: refuse the data at the first cell that cannot be used; else such a cell counts as missing, and a
            `BadCellsWarning` lists it

        Returns a list (one answer per row, as the training table wrote them); with several outputs, a dict of lists.

        Raises:
            DataError: an input column is not there, or (strict) a cell cannot be used.
        """
        answers: dict[str, list[Any]] = {name: [] for name in self.recipe.outputs}
        for block in self._warned(data, root, strict):
            for name, distribution in block.items():
                answers[name] += self.preparation.tasks[name].predict(distribution)
        return unwrap_single_output(answers)

    def predict_proba(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """Probabilities `[rows, k]` in the order of `classes` (numbers in the user's units for regression).

        With several outputs, a dict of arrays. Arguments and errors are those of `predict`.
        """
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.recipe.outputs}
        for block in self._warned(data, root, strict):
            for name, distribution in block.items():
                parts[name].append(distribution)
        return unwrap_single_output({name: np.concatenate(arrays) for name, arrays in parts.items()})

    @property
    def classes(self) -> Any:
        """Names of the columns of `predict_proba`; with several outputs, a dict of lists."""
        return unwrap_single_output({name: task.classes for name, task in self.preparation.tasks.items()})

    def evaluate(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> dict[str, Any]:
        """Scores on rows whose targets are known, by output and metric: `value`, `low`, `high`, the score of the
        best constant answer (`majority`), and the score with only one input shown (`alone`). Of objectives the loss,
        and of aligned inputs how well one is found by another, beside chance.

        Raises:
            DataError: an input or target column is not there, or (strict) a cell cannot be used.
        """
        from polymodal.evaluation.evaluate import evaluate
        from polymodal.evaluation.objective_scores import score_objectives

        options = self.recipe.evaluation
        if options.unimodal_scores == "train":  # a saved model has no training rows; hiding inputs is what it can do
            options = options.model_copy(update={"unimodal_scores": "mask"})
        with self._prepared(data, root, strict) as split:
            scores, _ = evaluate(self.predictor, split, options, seed=self.recipe.seed)
            return scores | score_objectives(self.predictor, split, self.recipe)

    def robustness(
        self, data: Any, *, root: Path | str | None = None, strict: bool = False, progress: bool = False
    ) -> dict[str, Robustness]:
        """How the score of each output holds as each input is removed, and as each is damaged in growing steps.

        Arguments and errors are those of `evaluate`; `progress` shows a bar on standard error.
        """
        from polymodal.evaluation.robustness import measure_robustness, count_passes

        with (
            self._prepared(data, root, strict) as split,
            Progress(progress).task("remove and damage inputs", count_passes(self.preparation)) as advance,
        ):
            return measure_robustness(
                self.predictor, split, self.recipe.evaluation, seed=self.recipe.seed, advance=advance
            )

    @contextmanager
    def _prepared(self, data: Any, root: Path | str | None, strict: bool) -> Iterator[Split[PreparedTable]]:
        """Rows with their targets, prepared; cells that cannot be used are warned of at the end."""
        table = self.open(data, root, targets=True)
        cell_errors = CellErrors(strict)
        with scratch_folder() as folder:
            yield Split.all_rows(self.preparation.prepare(table, cell_errors, folder=folder, cache=media_cache_folder()))
        warn_cell_errors(cell_errors.found)

    def stream(self, table: Table, cell_errors: CellErrors) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Predict block by block, so that memory does not grow with the table: row numbers and, by output, their
        distributions `[rows, k]`. Cells that cannot be used go to `faults`.

        Raises:
            PolymodalError: the model has no output.
        """
        if not self.recipe.outputs:
            raise PolymodalError("this model predicts nothing: embed its rows, or fit a model that goes on from it")
        predictor, tasks = self.predictor, self.preparation.tasks
        for block in self.preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE):
            predicted = predictor.predict(Split.all_rows(self.preparation.prepare_block(block)), row_numbers=block.rows)
            yield block.rows, {name: tasks[name].distribution(one.values) for name, one in predicted.items()}

    def embed(
        self,
        data: Any,
        *,
        input: str | None = None,
        size: int | None = None,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> np.ndarray:
        """The embedding of each row of `data`: float32 `[rows, size]` of unit length, NaN in rows that lack it.

        input: embed this input alone; aligned inputs (`alignment`) lie in one space, where the embedding of a text can
            be compared with that of an image. Only its columns are read. Silent: embed the whole row.
        size: the first so many numbers, of unit length again; worth it where the model was trained with such `sizes`

        The other arguments and errors are those of `predict`.

        Raises:
            RecipeError: there is no such input, or an embedding has fewer numbers than `size`.
        """
        names = None if input is None else [input]
        if input is not None and input not in self.recipe.inputs:
            raise RecipeError("input", f"there is no input {input!r}; {did_you_mean(input, self.recipe.inputs)}")
        predictor = self.predictor if names is None else self.predictor.for_inputs(names)
        preparation = predictor.preparation
        cell_errors = CellErrors(strict)
        parts: list[np.ndarray] = []
        for block in preparation.blocks(self.open_columns(data, root, preparation.input_columns), cell_errors):
            parts += predictor.embed(Split.all_rows(preparation.prepare_block(block)), names).values()
        warn_cell_errors(cell_errors.found)
        vectors = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
        if size is None or not len(vectors):
            return vectors
        if not 1 <= size <= vectors.shape[1]:
            raise RecipeError("size", f"an embedding has {vectors.shape[1]} numbers, and {size} are asked for")
        shorter: np.ndarray = unit(torch.from_numpy(vectors[:, :size])).numpy()
        return shorter

    def generate(
        self,
        data: Any,
        *,
        output: str | None = None,
        root: Path | str | None = None,
        strict: bool = False,
        **changes: Any,
    ) -> list[list[GenerationOutput]]:
        """Write texts for each row of `data`, and tell what the model thought of them.

        output: the text output to write; silent where there is only one
        changes: options of `generation.config.Writing` (`beams`, `temperature`, `samples`, `regex` ...) on top of
            those of the recipe
        data, root, strict: as in `predict`

        Returns `samples` texts for each row; none for a row whose prompt cannot be used.

        Raises:
            RecipeError: there is no such text output, or no such option.
            DataError: a column is not there, or (strict) a cell cannot be used.
        """
        cell_errors = CellErrors(strict)
        blocks = self.stream_texts(self.open(data, root), cell_errors, output=output, **changes)
        found = [texts for block in blocks for texts in block]
        warn_cell_errors(cell_errors.found)
        return found

    def stream_texts(
        self, table: Table, cell_errors: CellErrors, *, output: str | None = None, **changes: Any
    ) -> Iterator[list[list[GenerationOutput]]]:
        """`generate` block by block, so that memory does not grow with the table."""
        return text_generation.stream_texts(self.predictor, table, cell_errors, output, changes)

    def stream_tokens(
        self, row: Any, *, output: str | None = None, root: Path | str | None = None, **changes: Any
    ) -> Iterator[str]:
        """Write the text of one row, and give its pieces as they are written; together they are what `generate` gives.

        row: a dict of cells, or a table of one row; `output`, `root` and `changes` are those of `generate`

        Raises:
            RecipeError: as `generate`, and where several texts or beams are asked for.
            DataError: a column is not there, there is not exactly one row, or a cell of it cannot be used.
        """
        return text_generation.stream_tokens(self.predictor, self.open(row, root), output, changes)

    def transcribe(
        self,
        data: Any,
        *,
        input: str | None = None,
        output: str | None = None,
        window: float | None = None,
        root: Path | str | None = None,
        strict: bool = False,
        **changes: Any,
    ) -> list[list[TranscriptSegment]]:
        """Write the text of sounds of any length, and of the sound of clips, with the times of its parts.

        A sound is cut in its pauses into windows of at most `window` seconds, and each is written by itself; see
        `model.transcription.transcribe`, which says what `input`, `output` and `window` are silently. Other arguments
        and errors are those of `generate`.

        Returns the segments of each row in the order of time; none where the sound is missing or quiet.
        """
        from polymodal.model.transcription import transcribe  # it reads sounds, which most models do without

        cell_errors = CellErrors(strict)
        table = self.open(data, root)
        found = transcribe(self.predictor, table, cell_errors, input=input, output=output, window=window, **changes)
        warn_cell_errors(cell_errors.found)
        return found

    @property
    def alignment(self) -> Alignment | None:
        """The objective in whose space inputs can be compared with each other; None for a model without."""
        return alignment_of(self.network)

    @property
    def tasks(self) -> dict[str, Task]:
        """The task of each output."""
        return self.preparation.tasks

    @property
    def predictor(self) -> Predictor:
        """The network, its preparation, and how to compute: what runs prepared rows through the network."""
        return Predictor(self.network, self.preparation, self.compute)

    @property
    def compute(self) -> ComputeConfig:
        """How predictions are computed: as the recipe's resolved `precision` and `threads` say, on the device of the
        network."""
        options = self.recipe.training
        precision = "fp32" if options.precision == "auto" else options.precision
        threads = torch.get_num_threads() if options.num_threads == "auto" else options.num_threads
        return ComputeConfig(precision, min(threads, torch.get_num_threads()), device=network_device(self.network))

    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table and check that it has the columns of the inputs (and targets).

        Raises:
            DataError: a column is not there; the message gives the nearest.
        """
        wanted = self.preparation.input_columns + (self.preparation.target_columns if targets else [])
        return self.open_columns(data, root, wanted)

    def open_columns(self, data: Any, root: Path | str | None, wanted: list[str]) -> Table:
        """Open `data` as `open` does, and check that it has the columns `wanted` alone."""
        return open_rows(data, root, wanted)

    def save(self, folder: Path | str) -> Path:
        """Write the model directory (`checkpoint.model_directory`); existing files of a model there are replaced."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = self.preparation.save(folder / "preparation")
        weights = self.weight_format.to_file(self.network.state_dict())
        write_model_files(folder, weights, self.recipe.to_yaml(), state, self.weight_format.model_dump())
        write_json(folder / "metrics.json", self.metrics)
        self.run.write(folder)
        return folder

    @classmethod
    def load(cls, folder: Path | str, *, device: str = "auto") -> Model:
        """Read a model directory; nothing else is needed, and no network.

        device: where to predict: `cpu`, `cuda` (or `cuda:1`, ...), `mps`; `auto` takes an accelerator if there is one

        Raises:
            ArtifactError: a file is missing, altered, or of a later format, or `run.json` has an unknown key.
            RecipeError: there is no such device.
        """
        folder = Path(folder)
        weight_format = WeightFormat(**verify_model_files(folder))
        recipe = Recipe.read(folder / "recipe.yaml")
        preparation = Preparation(recipe)
        preparation.load(folder / "preparation", read_json(folder / "preparation.json"))
        network = make_network(recipe, preparation)
        try:
            network.load_state_dict(weight_format.from_file(read_weights(folder)))
        except RuntimeError as error:
            raise ArtifactError(f"the weights in {folder} do not fit its recipe: {error}") from None
        network.eval()
        weight_format.apply_to(network)
        network.to(resolve_device(device, "device"))
        scores = folder / "metrics.json"
        metrics = read_json(scores) if scores.is_file() else {}
        return cls(recipe, preparation, network, metrics, RunRecord.read(folder), weight_format)

    def _warned(self, data: Any, root: Path | str | None, strict: bool) -> Iterator[dict[str, np.ndarray]]:
        cell_errors = CellErrors(strict)
        for _, block in self.stream(self.open(data, root), cell_errors):
            yield block
        warn_cell_errors(cell_errors.found)


def make_network(
    recipe: Recipe, preparation: Preparation, *, pretrained: bool = False, known: Collection[str] = ()
) -> Network:
    """The untrained network of a complete recipe and a fitted preparation, weights drawn from torch's generator.

    pretrained: then take over the weights of checkpoints; a network that is read back has no need of them
    known: inputs and outputs, by recipe path, that have no need of them either
    """
    outputs = {name: task.output_shape for name, task in preparation.tasks.items()}
    network = Network(recipe, shapes=preparation.shapes(), outputs=outputs)
    if pretrained:
        for name, encoder in network.encoders().items():
            if f"inputs.{name}" in known:
                continue
            try:
                encoder.load_pretrained()
            except RecipeError as error:
                raise error.with_prefix(f"inputs.{name}.encoder") from None
        for name, decoders in network.decoders.items():
            if f"outputs.{name}" in known:
                continue
            try:
                for decoder in decoders.values():
                    load_initial_weights(decoder)
            except RecipeError as error:
                raise error.with_prefix(f"outputs.{name}.decoder") from None
    return network
