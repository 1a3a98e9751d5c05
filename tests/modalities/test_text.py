"""Text: byte-pair tokens, limits, identifiers, and cells that are not text."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import DataError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.sample import ColumnSample
from polymodal.modalities.bpe import train_bpe
from polymodal.modalities.text import Text
from polymodal.recipe.data import LimitOptions

TEXTS = ["the red circle is here", "一只红色的猫坐在垫子上", "is there a blue square?", "猫和狗 😀 play"] * 5


def block(cells, strict=False, first=0):
    values = cells if isinstance(cells, pa.Array) else list(cells)
    rows = np.arange(first, first + len(values))
    return RowBlock({"t": values}, rows, None, "table", CellErrors(strict), LimitOptions())


def fitted(cells=TEXTS, **options):
    text = Text(Text.Options(**options), columns=["t"])
    text.fit([block(cells)])
    return text


def sequences(prepared):
    items = prepared.items
    return [items.arrays["values"][items.starts[i] : items.starts[i + 1]].tolist() for i in range(len(items))]


def rows(prepared):
    found = sequences(prepared)
    return [found[i] if i >= 0 else None for i in prepared.index]


def sample(values, rows=None, name="t"):
    return ColumnSample(name, values, pa.string(), rows or len(values), len(values), 0, None)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_the_tokenizer(text):
    import unicodedata

    tokenizer = ANY
    back = tokenizer.decode(tokenizer.encode(text).ids).strip()
    assert back == unicodedata.normalize("NFC", text).strip()


ANY = train_bpe(TEXTS, 400, lowercase=False)


@pytest.mark.parametrize("text", ["一只红色的猫", "naïve café", "🎉👩‍👩‍👧 ok", "[pad] is no padding", "未见过的字：龘"])
def test_round_trip_of_any_script(text):
    ids = rows(fitted().prepare(block([text])))[0]
    assert 0 not in ids
    assert fitted().tokenizer.decode(ids).strip() == text


def test_training_is_deterministic_and_order_of_equal_texts_does_not_matter():
    assert fitted().tokenizer.to_str() == fitted(TEXTS * 3).tokenizer.to_str()


def test_composed_and_decomposed_letters_are_one_text():
    one, two = rows(fitted().prepare(block(["caf\u00e9", "cafe\u0301"])))
    assert one == two


def test_lowercase_changes_the_symbols():
    upper, lower = rows(fitted(lowercase=True).prepare(block(["RED", "red"])))
    assert upper == lower
    upper, lower = rows(fitted().prepare(block(["RED", "red"])))
    assert upper != lower


def test_vocabulary_bounds_the_symbols():
    small, large = fitted(vocab_size=270), fitted(vocab_size=300)
    assert small.shape()["vocabulary"] == 270
    assert large.shape()["vocabulary"] == 300
    assert max(map(max, sequences(small.prepare(block(TEXTS))))) < 270


def test_null_empty_and_blank_are_missing_and_no_bad_cells():
    given_block = block([None, "", " \n\t ", float("nan"), "red"])
    prepared = fitted().prepare(given_block)
    assert prepared.index.tolist() == [-1, -1, -1, -1, 0]
    assert not given_block.errors.errors


def test_arrow_and_list_agree_and_equal_texts_are_one_item():
    text = fitted()
    cells = ["red", None, "blue", "red"]
    from_list, from_arrow = text.prepare(block(cells)), text.prepare(block(pa.array(cells)))
    assert rows(from_list) == rows(from_arrow)
    assert from_list.content_keys == from_arrow.content_keys
    assert len(from_list.items) == 2
    assert (
        len({len(key) for key in from_list.content_keys})
        == 1
        == len({from_list.content_keys[0], *from_arrow.content_keys[:1]})
    )


def test_bad_cells_are_quarantined_and_change_no_other_row():
    text = fitted()
    bad = block(["red", ["a"], "blue", b"\xff\xfe", 7], first=10)
    clean = block(["red", None, "blue", None, 7])
    assert rows(text.prepare(bad)) == rows(text.prepare(clean))
    assert [(fault.row, fault.column) for fault in bad.errors.errors] == [(11, "t"), (13, "t")]
    assert "list" in bad.errors.errors[0].reason
    with pytest.raises(DataError, match="row 1"):
        text.prepare(block(["red", ["a"]], strict=True))


def test_numbers_among_texts_are_read_as_they_print():
    number, text = rows(fitted().prepare(block([3.5, "3.5"])))
    assert number == text


def test_half_a_surrogate_pair_becomes_the_replacement_sign_and_is_counted():
    text = fitted()
    found = rows(text.prepare(block(["a\ud800b", "a\ufffdb", "\ud83d\ude00", "😀"])))
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert text.num_repaired == 1  # the pair was whole


def test_long_texts_are_cut_and_counted():
    text = fitted(max_length=8)
    cells = ["red " * 250_000, "red", "red " * 250_000, "a b c d e f g h i"]
    prepared = text.prepare(block(cells))
    assert [len(ids) for ids in sequences(prepared)] == [8, 1, 8]
    assert text.num_truncated == 3
    assert text.shape()["length"] == 8


def test_texts_that_differ_after_the_cut_keep_their_own_keys():
    prepared = fitted(max_length=4).prepare(block(["red " * 100 + "x", "red " * 100 + "y"]))
    assert len(set(prepared.content_keys)) == 2


def test_max_tokens_follows_the_sample_and_a_given_one_stays():
    short = Text.resolve(Text.Options(), [sample(["is it red", "blue circle"] * 100)])
    long = Text.resolve(Text.Options(), [sample([" ".join(f"word{i * j}" for i in range(90)) for j in range(9)])])
    assert 2 <= short.max_length <= 16
    assert 90 <= long.max_length <= 512
    assert Text.resolve(Text.Options(max_length=5), [sample(["a b c d e f g h"])]).max_length == 5


def test_saved_and_loaded_prepares_the_same(tmp_path: Path):
    text = fitted(lowercase=True, max_length=6)
    other = Text(Text.Options(lowercase=True, max_length=6), columns=["t"])
    other.load(tmp_path, text.save(tmp_path))
    cells = ["[pad] Unseen WORDS", "猫", None, "x" * 500]
    before, after = text.prepare(block(cells)), other.prepare(block(cells))
    assert rows(before) == rows(after)
    assert before.content_keys == after.content_keys
    assert text.shape() == other.shape()


def test_recognises_texts_and_leaves_keys_and_labels():
    questions = ["is there a red circle?", "what colour is the square?"] * 50
    assert Text.match_column(sample(questions)).confidence > 0.7
    assert Text.match_column(sample(["这只猫是什么颜色的", "图里有一只狗吗"] * 30)).confidence > 0.7
    assert Text.match_column(sample([f"A-{i:05d}" for i in range(100)])) is None
    assert Text.match_column(sample(["red", "blue"] * 50)).confidence < 0.5
    assert Text.match_column(sample([1.0, 2.0])) is None
