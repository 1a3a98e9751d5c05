"""The n-grams of the `text` modality: stored beside the tokens, never truncated, weighted in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.sparse import csr_matrix

from polymodal.core.errors import ArtifactError
from polymodal.data.store.items import JoinedItems, RaggedItems, SelectedItems
from polymodal.data.store.writer import PreparedWriter
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.modalities.text import Text
from polymodal.modalities.text_ngrams import NgramOptions, ngram_matrix
from polymodal.recipe.data import LimitOptions

TEXTS = ["a red cat sat", None, "the red dog ran", "a red cat sat", "我喜欢这只猫", "word " * 300 + "ending", "!"]


def block(cells: list[Any]) -> RowBlock:
    return RowBlock({"t": cells}, np.arange(len(cells)), None, "table", CellErrors(), LimitOptions())


def fitted(ngrams: NgramOptions | None, cells: list[Any] = TEXTS, max_length: int = 8) -> Text:
    options = Text.Options(vocab_size=300, max_length=max_length, ngrams=ngrams)
    modality = Text(options, columns=["t"])
    modality.fit(iter([block(cells)]))
    return modality


@pytest.mark.parametrize("min_df", [None, 1])
def test_tokens_stay_as_they_are(min_df: int | None) -> None:
    plain, both = fitted(None), fitted(NgramOptions(min_df=min_df))
    without, beside = plain.prepare(block(TEXTS)), both.prepare(block(TEXTS))
    assert np.array_equal(without.index, beside.index)
    assert without.content_keys == beside.content_keys
    ids = np.arange(len(without.items))
    batch, with_ngrams = plain.collate(without.items.take(ids)), both.collate(beside.items.take(ids))
    for name, tensor in batch.items():
        assert np.array_equal(tensor, with_ngrams[name])
    assert set(with_ngrams) - set(batch) == ({"ngram_ids", "ngram_weights"} if min_df else set())
    assert np.array_equal(without.items.lengths(), beside.items.lengths())


def test_counts_are_those_of_the_whole_text_in_memory_and_mapped(tmp_path: Path) -> None:
    """In blocks, through the writer, each row has the counts of its own text; a missing row has none."""
    options = NgramOptions(characters=(3, 4), buckets=1 << 12)
    modality = fitted(options)
    cells = TEXTS * 2 + ["new here"]
    for folder in (None, tmp_path / "input"):
        writer = PreparedWriter(folder)
        for start in range(0, len(cells), 4):
            writer.append(modality.prepare(block(cells[start : start + 4])))
        prepared = writer.finish()
        counts = ngram_matrix(prepared.items, prepared.index, options.buckets)
        assert counts.shape == (len(cells), options.buckets)
        for row, cell in enumerate(cells):
            own = options.hash([] if cell is None else [cell])
            assert counts[row].indices.tolist() == own.buckets.tolist()
            assert counts[row].data.tolist() == own.counts.tolist()
        assert int(counts[5].max()) >= 300  # an encoder sees 8 tokens
        backwards = prepared.index[::-1].copy()
        assert (ngram_matrix(prepared.items, backwards, options.buckets) != counts[::-1]).nnz == 0
        some = SelectedItems(prepared.items, np.array([1, 0]))
        assert (ngram_matrix(some, np.array([1, -1, 0]), options.buckets) != counts[[0, 1, 2]]).nnz == 0
        everything = np.arange(len(prepared.items))
        assert ngram_matrix(prepared.items, everything, options.buckets).nnz == len(
            prepared.items.parts["ngram"].arrays["ids"]
        )
        assert ngram_matrix(prepared.items, everything[:0], options.buckets).shape == (0, options.buckets)
    assert isinstance(prepared.items.parts["ngram"].arrays["ids"], np.memmap)


def test_items_without_ngrams_are_refused() -> None:
    with pytest.raises(ValueError, match="ngrams"):
        ngram_matrix(fitted(None).prepare(block(TEXTS)).items, np.arange(2), 1 << 18)


def test_batches_hold_the_tfidf_weights_of_the_training_texts() -> None:
    options = NgramOptions(min_df=2)
    modality = fitted(options)
    prepared = modality.prepare(block([*TEXTS, "unseen xyz"]))
    assert modality.tfidf is not None
    expected = modality.tfidf.transform(ngram_matrix(prepared.items, np.arange(len(prepared.items)), options.buckets))
    data = modality.collate(prepared.items.take(np.arange(len(prepared.items))))
    ids, weights = data["ngram_ids"].numpy(), data["ngram_weights"].numpy()
    columns = modality.shape()["ngrams"]
    assert columns == modality.tfidf.num_columns > 0
    found = csr_matrix((len(ids), columns + 1), dtype=np.float32).tolil()
    for row in range(len(ids)):
        for column, weight in zip(ids[row], weights[row], strict=True):
            found[row, column] += weight
    assert not found[:, 0].nnz
    assert np.allclose(found[:, 1:].toarray(), expected.toarray(), atol=1e-6)
    texts = [text for text in dict.fromkeys(TEXTS) if text]
    frequency = np.bincount(options.hash(texts).buckets, minlength=options.buckets)
    assert modality.tfidf.kept.tolist() == np.flatnonzero(frequency >= 2).tolist()


def test_frequencies_count_the_texts_that_the_tokenizer_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polymodal.modalities.text.TRAINING_CHARACTERS", 5)
    modality = fitted(NgramOptions(min_df=1))
    whole = NgramOptions().hash([text for text in dict.fromkeys(TEXTS) if text])
    assert modality.tfidf is not None
    assert modality.tfidf.kept.tolist() == np.unique(whole.buckets).tolist()


def test_weights_are_saved_and_belong_to_the_fingerprint(tmp_path: Path) -> None:
    modality = fitted(NgramOptions(min_df=1))
    state = modality.save(tmp_path)
    loaded = Text(modality.options, columns=["t"])
    loaded.load(tmp_path, state)
    items = modality.prepare(block(TEXTS)).items.take(np.arange(3))
    assert all(np.array_equal(tensor, modality.collate(items)[name]) for name, tensor in loaded.collate(items).items())
    assert loaded.fingerprint(LimitOptions()) == modality.fingerprint(LimitOptions())
    other = fitted(NgramOptions(min_df=1, buckets=1 << 12))
    assert other.fingerprint(LimitOptions()) != modality.fingerprint(LimitOptions())
    assert fitted(None).fingerprint(LimitOptions()) == fitted(NgramOptions()).fingerprint(LimitOptions())
    (tmp_path / "ngrams.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"ngrams\.safetensors is missing"):
        Text(modality.options, columns=["t"]).load(tmp_path, state)


def test_corruption_changes_the_ngrams_too() -> None:
    modality = fitted(NgramOptions(min_df=1), max_length=32)
    taken = modality.prepare(block(["a red cat sat", "the red dog ran", "one"])).items.take(np.arange(3))
    untouched = modality.corrupt(taken, "dropped_words", 0.0, np.random.default_rng(0))
    before, after = modality.collate(taken), modality.collate(untouched)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    changed = modality.collate(modality.corrupt(taken, "dropped_words", 1.0, np.random.default_rng(0)))
    assert not np.array_equal(changed["ngram_weights"], before["ngram_weights"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"buckets": 1000},
        {"characters": (4, 3)},
        {"characters": (0, 2)},
        {"words": 0, "characters": None},
        {"max_features": 9},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"power of 2|lengths|words or characters|without min_df"):
        NgramOptions(**wrong)


def test_parts_that_differ_between_blocks_are_refused() -> None:
    tokens = RaggedItems({"values": np.zeros(1, np.int32)}, np.array([0, 1]))
    writer = PreparedWriter(None)
    prepared = fitted(NgramOptions()).prepare(block(["a b"]))
    writer.append(prepared)
    for items in (tokens, JoinedItems(tokens, {})):
        with pytest.raises(TypeError):
            writer.append(type(prepared)(np.array([0]), items, [b"other"]))
