"""Sample data of every modality and task, and ways from a recipe to prepared rows, networks and models."""

from __future__ import annotations

import datetime
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from laws.checkpoints import checkpoint
from laws.lm_checkpoints import language_model
from laws.seq2seq_checkpoints import seq2seq_checkpoint
from polymodal.core.paths import cache_folder
from polymodal.core.progress import Progress
from polymodal.core.registry import components
from polymodal.core.types import Batch
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table, open_table
from polymodal.datasets.planted import make_planted_images
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.live_options import check_live_options
from polymodal.experiments.plan import complete_schedule, make_plan
from polymodal.experiments.train import train_model
from polymodal.model.make_network import make_network
from polymodal.model.model import Model
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.run_context import RunContext

Columns = dict[str, list[Any]]

WORDS = ["Amber", "birch", "cloud", "Drift", "ember", "frost", "grove", "haze"]
FIXED = {"precision": "fp32", "num_threads": 1}


def texts(rows: int, draw: np.random.Generator) -> Columns:
    return {"text": [" ".join(draw.choice(WORDS, draw.integers(1, 9)).tolist()) for _ in range(rows)]}


def images(rows: int, draw: np.random.Generator) -> Columns:
    """Rectangular images, each shared by up to three rows."""
    pictures = make_planted_images((rows + 2) // 3, int(draw.integers(1000)), size=64)["image"]
    return {"image": [pictures[row // 3].resize((64, 80)) for row in range(rows)]}


def numbers(rows: int, draw: np.random.Generator) -> Columns:
    """A symmetric column with gaps, the same with one outlier, and a skewed one."""
    plain = draw.normal(size=rows).tolist()
    plain[1::4] = [None] * len(plain[1::4])
    skewed = draw.lognormal(0, 1.5, rows).tolist()
    return {"plain": plain, "outlier": [40.0, *plain[1:]], "skewed": skewed}


def categories(rows: int, draw: np.random.Generator) -> Columns:
    """Labels of very different frequency, and labels with gaps."""
    often = np.where(draw.random(rows) < 0.9, "usual", "seldom").tolist()
    some = draw.choice(["p", "q", "r"], rows).tolist()
    some[1::4] = [None] * len(some[1::4])
    return {"often": ["once", "twice", "twice", *often[3:]], "some": some}


def moments(rows: int, draw: np.random.Generator) -> Columns:
    """Dates, timestamps with the day first and with gaps, times of day, and durations with a heavy tail. Row 20 has a
    date that is a whole number."""
    days = draw.integers(0, 1000, rows).tolist()
    ordered = [str(datetime.date(2024, 1, 1) + datetime.timedelta(day)) for day in days]
    sent = [f"{25 - row % 25}/2/2026 {row % 24}:30" for row in range(rows)]
    sent[20:21] = ["20260302"] * len(sent[20:21])
    return {
        "ordered": ordered,
        "sent": [None if row % 4 == 1 else cell for row, cell in enumerate(sent)],
        "clock": [f"{8 + day % 12:02}:{day % 60:02}" for day in days],
        "lasted": [str(datetime.timedelta(seconds=seconds)) for seconds in draw.lognormal(3, 2, rows).tolist()],
    }


def clips(rows: int, draw: np.random.Generator) -> Columns:
    """Rectangular videos of 3 to 14 frames with a keyframe in every third. Some stand still for long. Up to three rows
    share a video."""
    import av

    films = []
    for _ in range((rows + 2) // 3):
        file = io.BytesIO()
        with av.open(file, "w", format="avi") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.gop_size, stream.codec_context.thread_count = 80, 64, 3, 1
            scenes = draw.integers(0, 256, (14, 5, 6, 3), dtype=np.uint8)
            for number in range(int(draw.integers(3, 15))):
                picture = Image.fromarray(scenes[number // 2 if number < 8 else number]).resize((80, 64))
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode())
        films.append(file.getvalue())
    return {"clip": [films[row // 3] for row in range(rows)]}


def series(rows: int, draw: np.random.Generator) -> Columns:
    """Two channels over 3 to 30 steps, with gaps in the second; the first rises."""
    cells = []
    for row in range(rows):
        steps = 30 if row == 0 else int(draw.integers(3, 30))
        values = np.stack([np.arange(steps) + draw.normal(size=steps), draw.normal(size=steps)], axis=1).tolist()
        for step in values[row % 4 :: 5]:
            step[1] = None
        cells.append(values)
    return {"time_series": cells}


def sounds(rows: int, draw: np.random.Generator) -> Columns:
    """Two notes with a pause between them, over noise, with quiet ends. Up to three rows share a recording; the last
    row has a longer one of its own."""
    import soundfile

    def sound(seconds: float) -> bytes:
        time = np.arange(int(8_000 * seconds)) / 8_000
        loud = (time > 0.1) & (time < seconds - 0.1) & (np.abs(time - seconds / 2) > 0.15)
        note = sum(np.sin(2 * np.pi * k * draw.integers(100, 300) * time) / k for k in range(1, 6))
        noise = draw.normal(0, 0.01, (len(time), 2))
        file = io.BytesIO()
        soundfile.write(file, noise + 0.2 * (note * loud)[:, None] * [1.0, 0.5], 8_000, format="WAV")
        return file.getvalue()

    heard = [sound(float(draw.uniform(0.6, 0.9))) for _ in range((rows + 2) // 3)]
    return {"sound": [*(heard[row // 3] for row in range(rows - 1)), sound(1.2)]}


#: One maker of sample columns for each modality: a new modality needs one line here.
INPUTS: dict[str, Callable[[int, np.random.Generator], Columns]] = {
    "text": texts,
    "image": images,
    "number": numbers,
    "category": categories,
    "video": clips,
    "audio": sounds,
    "time_series": series,
    "datetime": moments,
}


def classes(rows: int, draw: np.random.Generator) -> list[Any]:
    return ["rare", *draw.choice(["no", "no", "yes"], rows - 1).tolist()]


def label_sets(rows: int, draw: np.random.Generator) -> list[Any]:
    return ["u|v,w", *draw.choice(["u", "v", "u|v", ""], rows - 1).tolist()]


def quantities(rows: int, draw: np.random.Generator) -> list[Any]:
    return draw.lognormal(1, 0.8, rows).tolist()


def groups(rows: int, draw: np.random.Generator) -> list[Any]:
    """Names of groups of several rows; the first row is the only row of its group."""
    return ["lone", *draw.choice(["oak", "elm", "fir"], rows - 1).tolist()]


def happenings(rows: int, draw: np.random.Generator) -> list[Any]:
    """Up to two events of two labels within four seconds; nothing at all in some rows."""

    def span(label: str) -> dict[str, Any]:
        start = float(draw.uniform(0, 2.5))
        return {"start": start, "end": start + float(draw.uniform(0.5, 1.5)), "label": label}

    return [[span(label) for label in ("bark", "ring") if row == 0 or draw.random() < 0.6] for row in range(rows)]


def boxes(rows: int, draw: np.random.Generator) -> list[Any]:
    """Up to two boxes of two labels within 64 x 80 pixels; nothing at all in some rows."""

    def box(label: str) -> dict[str, Any]:
        x, y, width, height = draw.uniform([0, 0, 4, 4], [40, 50, 24, 30]).round(1).tolist()
        return {"x": x, "y": y, "width": width, "height": height, "label": label}

    return [[box(label) for label in ("cup", "jug") if row == 0 or draw.random() < 0.6] for row in range(rows)]


def sayings(rows: int, draw: np.random.Generator) -> list[Any]:
    """One to three words; the first text has a word that no other text has."""
    return ["once Only", *(" ".join(draw.choice(WORDS, draw.integers(1, 4)).tolist()) for _ in range(rows - 1))]


#: One maker of target cells for each task: a new task needs one line here.
TARGETS: dict[str, Callable[[int, np.random.Generator], list[Any]]] = {
    "classification": classes,
    "multilabel_classification": label_sets,
    "regression": quantities,
    "metric_learning": groups,
    "event_detection": happenings,
    "object_detection": boxes,
    "text_generation": sayings,
    "image_generation": lambda rows, draw: images(rows, draw)["image"],
}
#: Options of tasks whose fitting would take long.
QUICK_TASKS: dict[str, dict[str, Any]] = {"image_generation": {"autoencoder_steps": 2, "autoencoder_channels": 8}}
#: Decoders that generate text, and those that predict for every other task.
TEXT_DECODERS = [name for name, decoder in components("decoder").items() if decoder.is_generative]
VALUE_DECODERS = [
    name for name, decoder in components("decoder").items() if not (decoder.is_generative or decoder.tasks)
]


def sample(kind: str, name: str, rows: int = 24) -> Columns:
    """Sample columns of a modality, or of a task (then one column, `target`)."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    return INPUTS[name](rows, draw) if kind == "modality" else {"target": TARGETS[name](rows, draw)}


def sample_table(modalities: list[str], tasks: list[str], rows: int = 24) -> tuple[Columns, dict[str, Any]]:
    """A table with one input per modality and one output per task, and the recipe keys for them."""
    columns: Columns = {}
    inputs, outputs = {}, {}
    for modality in modalities:
        found = sample("modality", modality, rows)
        columns |= found
        inputs[f"in_{modality}"] = {"modality": small(modality), "columns": list(found)}
    for task in tasks:
        columns[f"y_{task}"] = sample("task", task, rows)["target"]
        outputs[f"y_{task}"] = {"task": {"name": task, **QUICK_TASKS.get(task, {})}}
    return columns, {"inputs": inputs, "outputs": outputs}


def small(modality: str) -> dict[str, Any]:
    """Options of a modality under which its networks stay fast."""
    return {"name": modality, "image_size": 32} if modality in ("image", "video") else {"name": modality}


def light(options: dict[str, Any]) -> dict[str, Any]:
    """The same options of an encoder or decoder with the least `width_multiplier` and with tiny checkpoints, so that
    tests stay quick. A pretrained encoder-decoder reads the output of the fusion, as every other decoder does."""
    if options["name"] == "causal_lm":
        return {"checkpoint": language_model(), **options}
    if options["name"] == "encoder_decoder":
        return {"checkpoint": seq2seq_checkpoint("bart"), "encoder_source": "fusion", **options}
    if options["name"].startswith("pretrained_"):
        return {"checkpoint": checkpoint(options["name"].removeprefix("pretrained_")), **options}
    if options["name"] == "vgg16":
        return {"width_multiplier": 0.0625, **options}
    return options


def predicted_width(preparation: Preparation, output: str) -> int:
    """The number of values that a network predicts for an output; for text, two: the NLL and its number of tokens."""
    task = preparation.tasks[output]
    return 2 if task.is_generative else task.output_size


def table_of(columns: Columns | Table) -> Table:
    return columns if isinstance(columns, Table) else open_table(columns, cache=cache_folder() / "tables")


def prepare(columns: Columns, **recipe: Any) -> tuple[Preparation, PreparedTable]:
    """A fitted preparation of the complete recipe, and the prepared rows, in memory."""
    table = table_of(columns)
    given = Recipe(**{"hidden_size": 16, "seed": 0, **recipe})
    complete = make_plan(table, given, estimators=True).recipe
    check_live_options(RunContext(complete, given))
    preparation = Preparation(complete)
    preparation.fit(table, np.arange(len(table)))
    return preparation, preparation.prepare(table, CellErrors(), folder=None, cache=None)


def network_of(preparation: Preparation, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return make_network(preparation.recipe, preparation)


def whole_batch(preparation: Preparation, prepared: PreparedTable) -> Batch:
    return preparation.batch(prepared, np.arange(prepared.rows))


def total_loss(preparation: Preparation, network: Network, batch: Batch, hidden: Any = None) -> Tensor:
    """The loss that training minimizes."""
    from polymodal.training.loss import Loss

    weights = {name: spec.loss_weight for name, spec in preparation.recipe.outputs.items()}
    total: Tensor = Loss(preparation.tasks, weights, "fixed")(network(batch, hidden), batch).total
    return total


def experiment(parts: dict[str, Columns | Table], folder: Path, **recipe: Any) -> Experiment:
    """Tables for `train`, `validation` and perhaps `test`, prepared for the complete recipe."""
    tables = {name: table_of(columns) for name, columns in parts.items()}
    training = {**FIXED, **recipe.pop("training", {})}
    given = Recipe(**{"hidden_size": 16, "training": training, **recipe})
    complete = make_plan(tables["train"], given, estimators=True).recipe
    complete = complete_schedule(complete, len(tables["train"]))
    rows = {name: Split(table, np.arange(len(table))) for name, table in tables.items()}
    return prepare_experiment(complete, rows, folder=folder, cache=None, progress=Progress(False))


def trained(parts: dict[str, Columns | Table], folder: Path, **recipe: Any) -> Model:
    return train_model(experiment(parts, folder, **recipe), progress=Progress(False))
