"""Every shipped recipe trains a few steps on a small table of its kind, and answers rows that it has not seen."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from laws.checkpoints import checkpoint
from laws.lm_checkpoints import language_model
from laws.samples import sounds
from laws.seq2seq_checkpoints import seq2seq_checkpoint
from polymodal.datasets.dialogue import make_dialogues
from polymodal.datasets.functions import make_functions
from polymodal.datasets.pages import make_pages
from polymodal.datasets.planted import Columns, make_mixed
from polymodal.datasets.repairs import make_repairs, make_test_suites
from polymodal.datasets.scenes import make_scenes
from polymodal.datasets.translations import make_translations
from polymodal.datasets.video_summaries import make_video_summaries
from polymodal.recipe.shipped import shipped_recipes
from polymodal.workflows.fit import fit, plan_fit
from setting_lists import replaced

ROWS = 24
#: A few steps of a small network, and no resamples.
QUICK = ["hidden_size=16", "training.epochs=1", "training.batch_size=8", "evaluation.bootstrap_samples=0"]
QUICK += ["training.precision=fp32", "training.num_threads=1"]
WHISPER = seq2seq_checkpoint("whisper")
TINY_WHISPER = [f"{part}.checkpoint={WHISPER}" for part in ("inputs.sound.encoder", "outputs.text.decoder")]
TINY_T5 = [
    f"{part}.checkpoint={seq2seq_checkpoint('t5')}" for part in ("inputs.document.encoder", "outputs.summary.decoder")
]
TINY_IMAGES = f"inputs.image.encoder.checkpoint={checkpoint('image')}"


def as_files(images: list[Image.Image]) -> list[bytes]:
    """PNG files, by which rows can be grouped."""
    files = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG")
        files.append(file.getvalue())
    return files


def captions(rows: int) -> Columns:
    columns = make_scenes(rows, seed=0)
    return {"image": as_files(columns["image"]), "caption": columns["caption"]}


def multilingual_captions(rows: int) -> Columns:
    """Each scene in two languages, the second spelt backwards."""
    one = captions(rows // 2)
    both = [*one["caption"], *(caption[::-1] for caption in one["caption"])]
    languages = ["English"] * (rows // 2) + ["Backwards"] * (rows // 2)
    return {"image": one["image"] * 2, "language": languages, "caption": both}


def questions(rows: int) -> Columns:
    columns = make_mixed(rows, seed=0, missing_ratio=0.0)
    return {"image": as_files(columns["image"]), "question": columns["question"], "answer": columns["answer"]}


def speech(rows: int) -> Columns:
    draw = np.random.default_rng(0)
    return {**sounds(rows, draw), "text": [f"word {number % 5}" for number in range(rows)]}


def documents(rows: int) -> Columns:
    words = ["amber", "birch", "cloud", "drift"]
    texts = [f"{words[number % 4]} and {words[number % 3]} {number}" for number in range(rows)]
    return {"document": texts, "summary": [text.split()[0] for text in texts]}


def posts(rows: int) -> Columns:
    columns = captions(rows)
    return {
        "text": [f"{caption} {number}" for number, caption in enumerate(columns["caption"])],
        "image": columns["image"],
        "sentiment": ["good", "bad", "so-so"] * (rows // 3),
    }


#: By recipe: a maker of a small table of so many rows, and settings beside `QUICK`. A new recipe needs one line here.
RECIPES: dict[str, tuple[Callable[[int], Columns], list[str]]] = {
    "caption_cnn_transformer": (captions, []),
    "caption_language_model": (
        captions,
        [
            TINY_IMAGES,
            f"outputs.caption.decoder.checkpoint={language_model()}",
            "outputs.caption.task.max_target_length=60",
        ],
    ),
    "caption_multilingual": (multilingual_captions, [TINY_IMAGES]),
    "caption_vgg16_lstm": (captions, ["inputs.image.encoder.width_multiplier=0.0625"]),
    "caption_vit": (captions, []),
    "chat_with_image": (lambda rows: make_dialogues(rows // 3, seed=0), []),
    "code_from_description": (lambda rows: make_functions(rows, seed=0), []),
    "code_repair": (lambda rows: make_repairs(rows, seed=0), []),
    "code_tests": (lambda rows: make_test_suites(rows, seed=0), []),
    "easy_vqa": (questions, []),
    "language_model": (lambda rows: {"text": documents(rows)["document"]}, ["outputs.text.task.vocab_size=300"]),
    "screenshot_to_code": (lambda rows: make_pages(rows, seed=0), []),
    "sentiment_text_image": (posts, [f"inputs.text.encoder.checkpoint={checkpoint('text')}", TINY_IMAGES]),
    "speech_attention": (speech, ["inputs.sound.modality.seconds=2"]),
    "speech_ctc": (speech, ["inputs.sound.modality.seconds=2"]),
    "speech_whisper": (
        speech,
        [
            *TINY_WHISPER,
            "inputs.sound.modality.seconds=2",
            "outputs.text.task.max_target_length=8",
            "training.epochs=0",
        ],
    ),
    "summarize_text": (documents, TINY_T5),
    "text_to_image": (captions, ["outputs.image.task.autoencoder_steps=2", "outputs.image.task.patch_size=8"]),
    "summarize_video": (lambda rows: make_video_summaries(rows, seed=0), []),
    "translate": (lambda rows: make_translations(rows, seed=0), []),
    "translate_with_image": (lambda rows: make_translations(rows, seed=0), []),
    "vqa_classify": (questions, ["pretrained=none"]),
    "vqa_generate": (questions, []),
}


def test_every_shipped_recipe_is_tried() -> None:
    assert set(RECIPES) == set(shipped_recipes())


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_trains_and_answers(name: str) -> None:
    make, settings = RECIPES[name]
    columns = make(ROWS)
    model = fit(columns, recipe=name, settings=replaced(QUICK, *settings))
    (output,) = model.recipe.outputs
    asked = {column: cells[:3] for column, cells in columns.items() if column != output}
    answers: list[Any] = model.predict(asked or {"row": [0, 1, 2]})  # a language model reads nothing of a row
    assert len(answers) == 3
    assert plan_fit(columns, recipe=model.recipe.to_dict())[0].recipe == model.recipe  # a complete recipe fits again
    assert all(isinstance(answer, str) for answer in answers)
    assert model.run.steps >= 2 or model.recipe.training.epochs == 0
    scores = model.metrics["test"][output]
    assert all(np.isfinite(score["value"]) for score in scores.values()), scores
