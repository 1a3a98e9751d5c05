"""Law 5: every option of every component changes what it builds or computes.

Other values come from the type and range of each option, so a new option is held to this by existing. A choice or a
switch must make a difference with each of its values, a number with one of several. A choice that is inferred from
the data while it is unset may equal one of its values.

The second half: outside of the context in which an option is live, it is refused. The context of `BESIDE` is left out,
or that of `OUTSIDE` is set.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from laws.alternatives import alternatives, exhaustive
from laws.checkpoints import checkpoint, write
from laws.lm_checkpoints import language_model
from laws.multimodal_checkpoints import multimodal_checkpoint
from laws.samples import sample, trained
from laws.seq2seq_checkpoints import seq2seq_checkpoint
from laws.signature import of_component
from polymodal.core.errors import PolymodalError
from polymodal.core.needs import Needs
from polymodal.core.registry import KINDS, components, find

#: Options that are live only together with another option.
BESIDE: dict[tuple[str, str, str], dict[str, Any]] = {
    ("modality", "time_series", "long_series"): {"num_steps": 8},
    ("modality", "time_series", "max_windows"): {"num_steps": 8},
    ("modality", "audio", "max_windows"): {"seconds": 0.4},
    ("modality", "video", "max_windows"): {"num_frames": 4},
    ("task", "regression", "huber_delta"): {"loss": "huber"},
    ("fusion", "bottleneck", "fusion_layer"): {"num_layers": 4},
    ("task", "text_generation", "system"): {"instruction": "{text}"},
    ("task", "text_generation", "max_prompt_length"): {"prompt": "{text}"},
    ("task", "text_generation", "prompt_overflow"): {"prompt": "{text}", "max_prompt_length": 4},
    ("encoder", "pretrained_image", "position_embedding"): {"max_tokens": None},
    ("decoder", "causal_lm", "cross_attn_every_n_layers"): {"conditioning": "cross_attention"},
    ("decoder", "causal_lm", "images"): {
        "conditioning": "template",
        "checkpoint": multimodal_checkpoint(),
        "images": ["in_image"],
    },
    ("task", "text_generation", "images"): {"checkpoint": multimodal_checkpoint(), "instruction": "{text}"},
    ("decoder", "encoder_decoder", "encoder_source"): {"encoder_source": "checkpoint"},
    ("decoder", "encoder_decoder", "input"): {"encoder_source": "checkpoint", "input": "in_text"},
    ("decoder", "encoder_decoder", "language"): {"checkpoint": seq2seq_checkpoint("whisper")},
    ("objective", "barlow_twins", "augmentation_strength"): {"inputs": ["in_image"]},
    **{
        (*component, option): {"fine_tuning": tune}
        for component in (
            *(("encoder", f"pretrained_{modality}") for modality in ("text", "image", "audio", "video")),
            ("decoder", "causal_lm"),
            ("decoder", "encoder_decoder"),
        )
        for option, tune in {
            "num_layers": "last",
            "lora_rank": "lora",
            "lr_multiplier": "last",
            "layer_decay": "full",
            "gradient_checkpointing": "full",
        }.items()
    },
}
#: Contexts in which options that are live by default have no effect, or other modalities of an objective.
OUTSIDE: dict[tuple[str, str, str], dict[str, Any]] = {
    ("modality", "audio", "max_seconds"): {"seconds": 300.0},
    ("modality", "number", "clip_std"): {"transform": "robust"},
    ("decoder", "causal_lm", "resampler_tokens"): {
        "conditioning": "template",
        "checkpoint": multimodal_checkpoint(),
        "images": ["in_image"],
    },
    ("modality", "image", "max_image_size"): {"image_size": 1024},
    ("modality", "video", "max_image_size"): {"image_size": 1024},
    ("modality", "time_series", "max_steps"): {"num_steps": 100_000},
    ("modality", "video", "frame_dropout"): {"num_frames": 1},
    ("encoder", "pretrained_audio", "padding"): {"fine_tuning": "full"},
    **{
        ("encoder", name, option): {count: 0}
        for name in ("audio_cnn", "audio_transformer", "conformer", "crnn")
        for option, count in {"time_mask_seconds": "num_time_masks", "freq_mask_ratio": "num_freq_masks"}.items()
    },
    **{("encoder", "frame_encoder", option): {"temporal": "mean"} for option in ("num_layers", "num_heads", "dropout")},
    **{("decoder", "timeline", option): {"num_layers": 0} for option in ("kernel_size", "dropout")},
    ("decoder", "fcos", "dropout"): {"num_layers": 0},
    ("task", "text_generation", "vocab_size"): {"token_type": "byte"},
    ("task", "text_generation", "token_type"): {"checkpoint": language_model()},
    ("objective", "cross_modal_distillation", "distance"): {"match": "relations"},
    **{
        ("objective", name, "anchor"): {"inputs": ["in_text", "in_number"]}
        for name, objective in components("objective").items()
        if "anchor" in objective.Options.model_fields
    },
}
#: Options of `BESIDE` that are refused nowhere.
NOT_REFUSED = {
    ("modality", "time_series", "long_series"): "only the data decide whether a series is too long",
    **{
        ("modality", name, "max_windows"): "only the data decide whether an item is long"
        for name in ("time_series", "audio", "video")
    },
    ("decoder", "encoder_decoder", "encoder_source"): "the sample network sets it",
}
#: Upper bounds of a default, which a set value may keep.
BOUNDS = {"max_image_size": "image_size", "max_seconds": "seconds", "max_steps": "num_steps"}
#: Options whose other values depend on the data (names of inputs, classes, characters).
NAMED: dict[tuple[str, str, str], list[Any]] = {
    ("fusion", "attention", "graph"): [[["in_text", "in_number"]]],
    ("fusion", "film", "conditioning_input"): ["in_text"],
    ("fusion", "qformer", "text_input"): ["in_text", None],
    ("modality", "text", "ngrams"): [{"min_df": 1}],
    ("encoder", "ngrams", "ngrams"): [{"words": 1, "characters": None}, {"min_df": 1}],
    ("task", "classification", "class_weights"): [{"yes": 3.0}],
    ("task", "multilabel_classification", "separator"): [","],
    ("task", "metric_learning", "matryoshka_dims"): [[12]],
    ("task", "event_detection", "duration"): [8.0],
    ("task", "object_detection", "image"): ["other"],
    ("task", "text_generation", "prompt"): ["{text} ?"],
    ("task", "text_generation", "instruction"): ["What is {text}?"],
    ("task", "text_generation", "history"): ["turns"],
    ("task", "text_generation", "system"): ["Say little."],
    ("task", "text_generation", "images"): [["in_image"]],
    ("decoder", "causal_lm", "images"): [["in_more"]],
    ("task", "text_generation", "metrics"): [["chrf"]],
    ("task", "text_generation", "generation"): [{"num_beams": 2}],
    ("task", "image_generation", "levels"): [[5, 5]],
    ("task", "image_generation", "autoencoder_steps"): [3],
    ("task", "image_generation", "generation"): [{"temperature": 0.0}],
    ("decoder", "embed", "matryoshka_dims"): [[12]],
    ("decoder", "encoder_decoder", "input"): ["in_more"],
    ("decoder", "encoder_decoder", "language"): ["de"],
    ("objective", "masked_multimodal_modeling", "predicted_inputs"): [["in_text"]],
    ("objective", "matching", "exchanged_inputs"): [["in_text"]],
    ("objective", "next_token", "context_inputs"): [["in_number"], []],
    ("objective", "cross_modal_distillation", "teacher"): ["in_number"],
    **{("estimator", name, "inputs"): [["in_number"]] for name in components("estimator")},
    **{
        ("objective", name, option): values
        for name in components("objective")
        for option, values in {
            "inputs": [["in_text", "in_number"], ["in_number"], ["in_text"]],
            "anchor": ["in_text"],
            "matryoshka_dims": [[12]],
        }.items()
    },
}
OPTIONS = [
    (kind, name, option)
    for kind in KINDS
    for name, component in components(kind).items()
    for option in component.Options.model_fields
    if option != "name"
]


def shallower(modality: str) -> str:
    """The folder of a checkpoint with one layer less than the one that laws use."""
    folder = Path(mkdtemp(prefix=f"other-{modality}-"))
    shutil.copytree(checkpoint(modality), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    for layers in {"num_hidden_layers", "encoder_layers"} & config.keys():
        config[layers] -= 1
    write(folder / "config.json", config)
    return str(folder)


@cache
def trained_text_decoder() -> str:
    """The directory of a language model of the width that laws have."""
    folder = Path(mkdtemp(prefix="writer-"))
    texts = {"target": [f"{text} of all" for text in sample("task", "text_generation")["target"]]}
    model = trained(
        {"train": texts, "validation": texts}, folder, outputs={"target": "text_generation"}, training={"epochs": 1}
    )
    model.save(folder / "model")
    return str(folder / "model")


#: Other checkpoints and models, of what names one.
OTHERS: dict[tuple[str, str, str], Callable[[], str]] = {
    **{
        ("encoder", f"pretrained_{modality}", "checkpoint"): partial(shallower, modality)
        for modality in ("text", "image", "audio", "video")
    },
    **{("modality", modality, "checkpoint"): partial(checkpoint, modality) for modality in components("modality")},
    ("decoder", "causal_lm", "checkpoint"): partial(language_model, "gpt2"),
    ("decoder", "encoder_decoder", "checkpoint"): partial(seq2seq_checkpoint, "t5"),
    ("decoder", "transformer", "init_from"): trained_text_decoder,
    ("task", "text_generation", "checkpoint"): language_model,
    ("task", "text_generation", "tokenizer"): trained_text_decoder,
}


@cache
def signature(kind: str, options: str) -> str | None:
    """None where the component refuses the options (heads that do not divide the width)."""
    try:
        return of_component(kind, yaml.safe_load(options))
    except (PolymodalError, ValidationError):
        return None


@pytest.mark.parametrize(("kind", "name", "option"), OPTIONS)
def test_every_option_is_live(kind: str, name: str, option: str) -> None:
    key = (kind, name, option)
    owner = find(kind, name).Options
    given = {"name": name, **BESIDE.get(key, {})}
    before = signature(kind, yaml.safe_dump(given))
    assert before is not None
    tried: dict[str, bool] = {}
    every = exhaustive(owner.model_fields[option])
    named = NAMED.get(key, [])
    if key in OTHERS:
        named = [OTHERS[key]()]
    for value in [*named, *alternatives(owner, option, given)]:
        after = signature(kind, yaml.safe_dump({**given, option: value}))
        if after is None or repr(value) in tried:
            continue
        tried[repr(value)] = after != before
        if after != before and not every:
            break
    assert tried, "no other value was found: name some in NAMED"
    inferred = owner.model_fields[option].default is None and option not in given
    same = sum(not live for live in tried.values())
    assert same <= inferred if every else any(tried.values()), f"the same with {tried}"


CONDITIONAL = [
    (kind, name, option)
    for kind, name, option in OPTIONS
    if (kind, name, option) in {*BESIDE, *OUTSIDE} - NOT_REFUSED.keys()
    or any(isinstance(one, Needs) for one in find(kind, name).Options.model_fields[option].metadata)
]


@pytest.mark.parametrize(("kind", "name", "option"), CONDITIONAL)
def test_an_option_without_effect_is_refused(kind: str, name: str, option: str) -> None:
    key = (kind, name, option)
    assert key in {*BESIDE, *OUTSIDE}, "name a context in which the option has no effect"
    owner = find(kind, name).Options
    inside = {"name": name, **BESIDE.get(key, {})}
    outside = {"name": name, **OUTSIDE.get(key, {})}
    values = [*NAMED.get(key, []), *([OTHERS[key]()] if key in OTHERS else []), *alternatives(owner, option, inside)]
    limit = outside.get(BOUNDS.get(option, ""), float("inf"))
    given = [value for value in values if value is not None and (limit == float("inf") or value < limit)]
    assert given
    accepted = [value for value in given if signature(kind, yaml.safe_dump({**outside, option: value})) is not None]
    assert not accepted


def test_the_signature_is_repeatable() -> None:
    """Else any option would look live."""
    for kind in KINDS:
        for name in components(kind):
            assert of_component(kind, {"name": name}) == of_component(kind, {"name": name}), (kind, name)
