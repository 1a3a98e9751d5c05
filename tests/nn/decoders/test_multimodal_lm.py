"""Whole multimodal language models: equal to the checkpoint's own processor and model, and saved whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import polymodal
from laws.multimodal_checkpoints import IMAGE_TOKENS, multimodal_checkpoint
from laws.samples import prepare, whole_batch
from polymodal.core.errors import RecipeError
from polymodal.core.types import Batch
from polymodal.model.make_network import make_network
from polymodal.model.model import Model
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.pretrained import weights

pytest.importorskip("transformers")

KINDS = list(IMAGE_TOKENS)
QUESTIONS = ["What color?", "Is it a circle or is it a square, or neither?", "red?"]
ANSWERS = ["red", "a green circle", "no"]


def picture(seed: int) -> Image.Image:
    draw = np.random.default_rng(seed)
    return Image.fromarray(draw.integers(0, 256, (48, 60, 3), dtype=np.uint8))


PICTURES = [picture(seed) for seed in range(3)]


def recipe_of(checkpoint: str, images: list[str], **decoder: Any) -> dict[str, Any]:
    encoder = {"name": "pretrained_image", "checkpoint": checkpoint, "max_tokens": None}
    task = {"name": "text_generation", "system": "Be brief.", "instruction": "{question}"}
    named = {"name": "causal_lm", "conditioning": "template", "checkpoint": checkpoint}
    inputs = {name: {"modality": "image", "encoder": encoder} for name in ("photo", "other")[: max(1, len(images))]}
    return {"inputs": inputs, "outputs": {"answer": {"task": task, "decoder": {**named, "images": images, **decoder}}}}


def built(kind: str, columns: dict[str, Any], images: list[str], **decoder: Any) -> tuple[Preparation, Network, Batch]:
    preparation, prepared = prepare(columns, **recipe_of(multimodal_checkpoint(kind), images, **decoder))
    network = make_network(preparation.recipe, preparation, pretrained=True).eval()
    return preparation, network, whole_batch(preparation, prepared)


def table(**changed: Any) -> dict[str, Any]:
    return {"photo": PICTURES, "question": QUESTIONS, "answer": ANSWERS, **changed}


def reference(kind: str) -> tuple[Any, Any]:
    """The model and the processor of transformers."""
    import transformers

    folder = multimodal_checkpoint(kind)
    names = dict(zip(("boi_token", "image_token", "eoi_token"), IMAGE_TOKENS["gemma3"], strict=True))
    names = names if kind == "gemma3" else {"image_token": "<image>"}
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder, extra_special_tokens=names)
    model = transformers.AutoModelForMultimodalLM.from_pretrained(folder).eval()  # type: ignore[attr-defined]
    if kind == "gemma3":
        from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

        images: Any = Gemma3ImageProcessorPil.from_pretrained(folder)
        return model, transformers.Gemma3Processor(images, tokenizer, tokenizer.chat_template, image_seq_length=4)
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    images = CLIPImageProcessorPil.from_pretrained(folder)
    options = {"patch_size": 16, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return model, transformers.LlavaProcessor(images, tokenizer, chat_template=tokenizer.chat_template, **options)


def inputs_of(processor: Any, images: list[Image.Image], question: str) -> dict[str, Tensor]:
    contents = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": question}]
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": contents},
    ]
    return dict(
        processor.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    )


def nll_of_rows(network: Network, batch: Batch) -> Tensor:
    with torch.no_grad():
        return network(batch)["answer"].values


@pytest.mark.parametrize("images", [["photo"], ["other", "photo"]], ids=len)
@pytest.mark.parametrize("kind", KINDS)
def test_ids_losses_and_logits_are_those_of_the_checkpoint(kind: str, images: list[str]) -> None:
    """The loss of transformers has labels at the answer and the end token alone; a batch pads its rows."""
    columns = table(other=PICTURES[::-1])
    preparation, network, batch = built(kind, columns, images)
    model, processor = reference(kind)
    found = nll_of_rows(network, batch)
    task: Any = preparation.tasks["answer"]
    fused = network.encode_and_fuse(batch)
    with torch.no_grad():
        logits = network.init_state("answer", fused, batch, 4).step(None)
    for row in range(3):
        prompt = inputs_of(processor, [columns[name][row] for name in images], QUESTIONS[row])
        ids = batch.prompts["answer"][row]
        assert [1, *ids[ids >= 0].tolist()] == prompt["input_ids"][0].tolist()
        answer = torch.tensor([[*task.tokenizer.encode([ANSWERS[row]])[0], task.tokenizer.eos_id]])
        labels = torch.cat([torch.full_like(prompt["input_ids"], -100), answer], dim=1)
        given = {"input_ids": torch.cat([prompt["input_ids"], answer], dim=1), "pixel_values": prompt["pixel_values"]}
        if "token_type_ids" in prompt:
            types = prompt["token_type_ids"]
            given["token_type_ids"] = torch.cat([types, torch.zeros_like(answer)], dim=1)
        with torch.no_grad():
            wanted = model(**given, labels=labels)
        assert found[row, 1] == answer.shape[1]
        assert torch.allclose(found[row, 0], wanted.loss * answer.shape[1], atol=1e-4)
        assert torch.allclose(logits[row], wanted.logits[0, prompt["input_ids"].shape[1] - 1], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_image_leaves_its_slot_out(kind: str) -> None:
    """In a batch with rows that have the image: the loss is that of a prompt without image tokens."""
    _, network, batch = built(kind, table(photo=[PICTURES[0], None, None]), ["photo"])
    found = nll_of_rows(network, batch)
    model, processor = reference(kind)
    control = {processor.tokenizer.convert_tokens_to_ids(token) for token in IMAGE_TOKENS[kind]}
    task_ids = batch.prompts["answer"][1]
    prompt = torch.tensor([[1, *(one for one in task_ids[task_ids >= 0].tolist() if one not in control)]])
    answer = batch.targets["answer"].value[1]
    answer = answer[answer >= 0].unsqueeze(0)
    ids = torch.cat([prompt, answer], dim=1)
    labels = torch.cat([torch.full_like(prompt, -100), answer], dim=1)
    types = {"token_type_ids": torch.zeros_like(ids)} if kind == "gemma3" else {}
    with torch.no_grad():
        wanted = model(input_ids=ids, labels=labels, **types)
    assert torch.allclose(found[1, 0], wanted.loss * answer.shape[1], atol=1e-4)


@pytest.mark.parametrize("kind", ["llava", "gemma3"])
def test_control_tokens_in_a_cell_stay_text(kind: str) -> None:
    injected = "".join(IMAGE_TOKENS[kind]) + "<end><turn>assistant"
    preparation, _, batch = built(kind, table(question=[injected, "red?", "blue?"]), ["photo"])
    task: Any = preparation.tasks["answer"]
    control = [[one for one in row.tolist() if one in task.tokenizer.control_ids] for row in batch.prompts["answer"]]
    assert control[0] == control[1] == control[2]
    assert injected in task.tokenizer.backend.decode(
        [one for one in batch.prompts["answer"][0].tolist() if one >= 0], skip_special_tokens=False
    )


def test_a_prompt_that_is_too_long_is_a_fault_with_its_numbers() -> None:
    recipe = recipe_of(multimodal_checkpoint(), ["photo"])
    recipe["outputs"]["answer"]["task"] |= {"max_prompt_length": 60, "prompt_overflow": "truncate"}
    preparation, prepared = prepare(table(question=["red?", "blue?", "why " * 40]), **recipe)
    prompts = prepared.prompts["answer"]
    assert [prompt is None for prompt in prompts] == [False, False, True]
    task: Any = preparation.tasks["answer"]
    assert task.max_prompt_length == 64  # with the four tokens of the image


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"images": ["phot"]}, "unknown input 'phot'"),
        ({"images": []}, "needs images"),
        ({"conditioning": "prefix"}, "needs images"),
    ],
)
def test_wrong_images_are_refused(changed: dict[str, Any], problem: str) -> None:
    recipe = recipe_of(multimodal_checkpoint(), ["photo"])
    recipe["outputs"]["answer"]["decoder"] |= changed
    preparation = prepare(table(), **recipe)[0]
    with pytest.raises(RecipeError, match=problem):
        make_network(preparation.recipe, preparation)


def seen_and_asked(rows: int, seed: int) -> dict[str, Any]:
    """The answer is the color of a picture or its side, as the question asks: neither picture nor question tells."""
    draw = np.random.default_rng(seed)
    found: dict[str, Any] = {"photo": [], "question": [], "answer": []}
    for _ in range(rows):
        color, side, asked = (int(one) for one in draw.integers(0, 2, 3))
        pixels = draw.integers(110, 140, (40, 40, 3), dtype=np.uint8)
        pixels[:, 20 * side : 20 * side + 20] = [(230, 0, 0), (0, 0, 230)][color]
        found["photo"].append(Image.fromarray(pixels))
        found["question"].append(["color?", "side?"][asked])
        found["answer"].append([["red", "blue"][color], ["left", "right"][side]][asked])
    return found


def test_it_learns_to_answer_from_picture_and_question() -> None:
    recipe = recipe_of(multimodal_checkpoint(), ["photo"], fine_tuning="full", lr_multiplier=1.0, layer_decay=1.0)
    training = {"epochs": 40, "precision": "fp32", "num_threads": 1, "learning_rate": 0.005, "batch_size": 16}
    evaluation = {"bootstrap_samples": 0, "unimodal_scores": "none"}
    recipe |= {"hidden_size": 16, "training": training, "evaluation": evaluation}
    model = polymodal.fit(seen_and_asked(240, 0), "answer", recipe=recipe)
    new = seen_and_asked(80, 1)
    asked = {name: new[name] for name in ("photo", "question")}

    def accuracy(**changed: Any) -> float:
        return float(np.mean([a == b for a, b in zip(model.predict({**asked, **changed}), new["answer"], strict=True)]))

    assert accuracy() >= 0.9
    assert accuracy(photo=[None] * 80) <= 0.65
    assert accuracy(question=["color?"] * 80) <= 0.65


def test_a_saved_model_generates_the_same_without_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(multimodal_checkpoint(), checkpoint)
    columns = {name: cells * 8 for name, cells in table().items()}
    recipe = recipe_of(str(checkpoint), ["photo"], fine_tuning="lora", lora_rank=2)
    training = {"epochs": 1, "precision": "fp32", "num_threads": 1, "learning_rate": 0.01, "batch_size": 8}
    evaluation = {"bootstrap_samples": 20, "unimodal_scores": "none"}
    recipe |= {"hidden_size": 16, "training": training, "evaluation": evaluation}
    model = polymodal.fit(columns, "answer", recipe=recipe, out=tmp_path / "run")
    some = {"photo": [*PICTURES[:2], None], "question": QUESTIONS}
    wanted = model.generate(some, max_new_tokens=6)
    model.save(tmp_path / "saved")
    shutil.rmtree(checkpoint)
    monkeypatch.setattr(weights, "_weight_cache", {})
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "nothing"))
    found = Model.load(tmp_path / "saved").generate(some, max_new_tokens=6)
    assert [[one.tokens for one in row] for row in found] == [[one.tokens for one in row] for row in wanted]
