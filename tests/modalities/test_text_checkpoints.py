"""Texts with the tokenizer of a checkpoint: token ids of the reference tokenizer, limits, saved state."""

import json
import shutil
import string
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from laws.checkpoints import checkpoint
from laws.text_checkpoints import KINDS, POSITIONS, TEXTS, text_checkpoint
from polymodal.core.errors import RecipeError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.sample import ColumnSample
from polymodal.experiments.plan import make_plan
from polymodal.modalities.checkpoint_tokenizer import CheckpointTokenizer, max_positions_of
from polymodal.modalities.text import Text
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe

pytest.importorskip("transformers")

SPELT = ["[SEP] is no end", "</s> nor this", "<|endoftext|> nor that", "<s><pad>[CLS][PAD]<|im_start|>"]


def block(cells):
    return RowBlock({"t": list(cells)}, np.arange(len(cells)), None, "table", CellErrors(False), LimitOptions())


def fitted(folder, **options):
    text = Text(Text.Options(checkpoint=folder, **options), columns=["t"])
    text.fit([block(["anything"])])
    return text


def rows(prepared):
    items = prepared.items
    found = [items.arrays["values"][items.starts[i] : items.starts[i + 1]].tolist() for i in range(len(items))]
    return [found[i] if i >= 0 else None for i in prepared.index]


def reference(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def sample(values):
    return ColumnSample("t", values, pa.string(), len(values), len(values), 0, None)


def changed(folder, to, **config):
    """A copy of a checkpoint whose tokenizer configuration says something else."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    file = Path(to) / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return str(to)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [3, 8, POSITIONS])
def test_numbers_are_those_of_the_reference_tokenizer(kind, most):
    folder = text_checkpoint(kind)
    wanted = reference(folder)([text.strip() for text in TEXTS], truncation=True, max_length=most)["input_ids"]
    text = fitted(folder, max_length=most)
    assert rows(text.prepare(block(TEXTS))) == wanted
    assert text.num_truncated > 0


def test_long_texts_of_long_words_and_blanks_are_read_to_where_they_are_cut():
    folder = text_checkpoint("bert")
    texts = ["a" * 20_000 + " fox", " ".join(["x" * 150] * 50) + " dog", "fox" + " " * 5_000 + "dog"]
    wanted = reference(folder)(texts, truncation=True, max_length=8)["input_ids"]
    text = fitted(folder, max_length=8)
    assert rows(text.prepare(block(texts))) == wanted
    assert text.num_truncated == 1  # long words are one unknown token each


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_spells_a_control_token(kind):
    text = fitted(text_checkpoint(kind))
    plain = rows(text.prepare(block(["plain"])))[0]
    control = {number for number, token in text.tokenizer.get_added_tokens_decoder().items() if token.special}
    control -= {text.tokenizer.token_to_id(unknown) for unknown in ("<unk>", "[UNK]")}
    around = [number for number in plain if number in control]
    for ids in rows(text.prepare(block(SPELT))):
        assert [number for number in ids if number in control] == around


def test_a_vocabulary_that_holds_control_tokens_as_words_gives_them_to_no_text(tmp_path):
    shutil.copytree(text_checkpoint("bert"), tmp_path, dirs_exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1, "fox": 2, "<": 3, "/s>": 4}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["</s>", "[UNK]"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert rows(fitted(str(tmp_path)).prepare(block(["fox </s> fox"]))) == [[2, 3, 4, 2]]


def test_padding_and_limits_of_every_kind():
    found = {kind: fitted(text_checkpoint(kind)) for kind in KINDS}
    for kind, text in found.items():
        padding = reference(text_checkpoint(kind)).pad_token_id
        assert text.shape()["padding"] == (padding or 0), kind
        assert text.shape()["length"] == (512 if kind == "t5" else POSITIONS), kind
        assert text.shape()["vocabulary"] == text.tokenizer.get_vocab_size(), kind


def test_limits_without_a_word_from_the_tokenizer():
    def limit(**config):
        return max_positions_of(CheckpointConfig("m", "m", "", "", {"config": config}))

    assert limit(model_type="bert", max_position_embeddings=512) == 512
    assert limit(model_type="xlm-roberta", max_position_embeddings=514, pad_token_id=1) == 512
    assert limit(model_type="gpt2", n_positions=1024) == 1024
    assert limit(model_type="clip", text_config={"max_position_embeddings": 77, "model_type": "clip_text_model"}) == 77
    assert limit(model_type="clap", text_config={"max_position_embeddings": 514, "model_type": "roberta"}) == 512
    assert limit(model_type="t5") is None
    endless = {"config": {"model_type": "t5"}, "tokenizer_config": {"model_max_length": 10**30}}
    assert max_positions_of(CheckpointConfig("m", "m", "", "", endless)) is None


def test_a_sentence_encoder_reads_the_length_that_it_was_trained_on(tmp_path):
    folder = tmp_path / "sentences"
    shutil.copytree(checkpoint("text"), folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    long = ["amber birch cloud " * 20] * 5
    assert CheckpointTokenizer.from_checkpoint(checkpoint("text")).suggest_max_length(long, 512) == 40
    assert CheckpointTokenizer.from_checkpoint(str(folder)).suggest_max_length(long, 512) == 16
    assert fitted(str(folder), max_length=32).shape()["length"] == 32


def test_the_post_processor_decides_on_the_ends_as_it_does_in_the_reference(tmp_path):
    said = {"add_bos_token": False, "add_eos_token": True}
    folder = changed(text_checkpoint("llama"), tmp_path / "other", **said)
    ids = rows(fitted(folder).prepare(block(["fox"])))[0]
    assert ids == reference(folder)("fox")["input_ids"]
    assert (ids[0], ids[-1] == 2) == (1, False)


def test_a_text_may_lose_its_beginning_instead(tmp_path):
    folder = changed(text_checkpoint("bert"), tmp_path / "left", truncation_side="left")
    wanted = reference(folder)([text.strip() for text in TEXTS], truncation=True, max_length=8)["input_ids"]
    assert rows(fitted(folder, max_length=8).prepare(block(TEXTS))) == wanted


def test_siglip_reads_small_letters_without_punctuation(tmp_path):
    """`SiglipTokenizer` itself needs the sentencepiece package; its steps are `text.lower()`, all of
    `string.punctuation` left out, and runs of blanks as one."""
    folder = changed(text_checkpoint("siglip"), tmp_path / "siglip", tokenizer_class="SiglipTokenizer")
    without = str.maketrans("", "", string.punctuation)
    plain = [" ".join(text.lower().translate(without).split()) for text in [*TEXTS, string.punctuation + "ß\\]^A"]]
    wanted = reference(text_checkpoint("siglip"))(plain, truncation=True, max_length=POSITIONS)["input_ids"]
    assert rows(fitted(folder).prepare(block([*TEXTS, string.punctuation + "ß\\]^A"]))) == wanted


def test_null_and_blank_texts_are_missing_and_a_text_of_nothing_legible_is_one_token():
    text = fitted(text_checkpoint("t5"), max_length=8)
    prepared = text.prepare(block([None, " \n", "fox", float("nan")]))
    assert [at >= 0 for at in prepared.index] == [False, False, True, False]
    empty = fitted(text_checkpoint("bert")).prepare(block(["\u200b\u200b"]))
    assert rows(empty) == [[2, 3]]
    assert text.checkpoint_tokenizer.encode([""], 8) == [([1], False)]
    assert fitted(text_checkpoint("gpt2")).checkpoint_tokenizer.encode([""], 8) == [([0], False)]


@pytest.mark.parametrize("kind", ["bert", "clip", "t5", "llama"])
def test_saved_and_loaded_prepares_the_same_without_the_checkpoint(kind, tmp_path):
    gone = tmp_path / "checkpoint"
    shutil.copytree(text_checkpoint(kind), gone)
    text = fitted(str(gone), max_length=12)
    cells = [*TEXTS, *SPELT, None]
    before = text.prepare(block(cells))
    (tmp_path / "saved").mkdir()
    state = json.loads(json.dumps(text.save(tmp_path / "saved")))
    shutil.rmtree(gone)
    other = Text(Text.Options(checkpoint=str(gone), max_length=12), columns=["t"])
    other.load(tmp_path / "saved", state)
    assert rows(other.prepare(block(cells))) == rows(before)
    assert other.shape() == text.shape()
    assert other.fingerprint(LimitOptions()) == text.fingerprint(LimitOptions())
    assert (
        CheckpointConfig.from_dict(other.shape()["checkpoint"]).config["model_type"]
        == CheckpointConfig.from_dict(text.shape()["checkpoint"]).config["model_type"]
    )


def test_what_changes_the_numbers_changes_the_identity(tmp_path):
    limits = LimitOptions()
    bert = text_checkpoint("bert")
    one = fitted(bert, max_length=8).fingerprint(limits)
    text = fitted(bert, max_length=8)
    text.prepare(block(TEXTS))
    assert text.fingerprint(limits) == one
    learned = Text(Text.Options(), columns=["t"]), Text(Text.Options(lowercase=True), columns=["t"])
    for each in learned:
        each.fit([block(TEXTS)])
    others = [
        fitted(bert, max_length=9),
        fitted(text_checkpoint("roberta"), max_length=8),
        fitted(changed(text_checkpoint("siglip"), tmp_path / "x", tokenizer_class="SiglipTokenizer"), max_length=8),
        fitted(text_checkpoint("siglip"), max_length=8),
        fitted(text_checkpoint("llama"), max_length=8),
        *learned,
    ]
    assert len({one, *(other.fingerprint(limits) for other in others)}) == len(others) + 1


@pytest.mark.parametrize("kind", ["bert", "clip", "t5", "gpt2"])
@pytest.mark.parametrize("damage", Text.corruptions)
def test_damaged_texts_keep_their_special_tokens_and_limit(kind, damage):
    text = fitted(text_checkpoint(kind), max_length=10)
    prepared = text.prepare(block(TEXTS))
    items = prepared.items.take(np.arange(len(prepared.items)))
    found = text.corrupt(items, damage, 1.0, np.random.default_rng(0))
    around = rows(text.prepare(block(["fox"])))[0]
    assert found["length"].max() <= 10
    assert not np.array_equal(found["values"], items["values"])
    for ids, length in zip(found["values"], found["length"], strict=True):
        if kind in ("bert", "clip"):
            assert ids[0] == around[0]
        if kind != "gpt2":
            assert ids[length - 1] == around[-1]


def test_max_tokens_follows_the_sample_within_the_limit():
    def resolved(values, **options):
        return Text.resolve(
            Text.Options(checkpoint=text_checkpoint("bert"), vocab_size=None, **options), [sample(values)]
        )

    assert resolved(["a fox", "a dog"]).max_length == 8
    assert resolved([" ".join("abc" * 4)] * 3).max_length == 16
    assert resolved(["word " * 100]).max_length == POSITIONS
    assert resolved([None, " "]).max_length == POSITIONS
    assert resolved(["word " * 100], max_length=5).max_length == 5


def planned(modality, **encoder):
    from laws.samples import table_of

    recipe = Recipe(inputs={"t": {"modality": modality, **encoder}}, outputs={"y": "regression"})
    return make_plan(table_of({"t": TEXTS, "y": list(map(float, range(len(TEXTS))))}), recipe).recipe


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"lowercase": True}, "lowercase", "its own tokenizer"),
        ({"vocab_size": 500}, "vocab_size", "its own tokenizer"),
        ({"max_length": POSITIONS + 1}, "max_length", f"at most {POSITIONS}"),
        ({"max_length": 2}, "max_length", "at least 3"),
    ],
)
def test_options_that_do_not_go_with_a_checkpoint_are_refused(options, path, words):
    with pytest.raises(RecipeError, match=words) as refused:
        planned({"name": "text", "checkpoint": text_checkpoint("bert"), **options})
    assert refused.value.path == f"inputs.t.modality.{path}"


def test_a_complete_recipe_is_complete_when_it_is_read_again():
    recipe = planned({"name": "text", "checkpoint": text_checkpoint("bert")})
    options = recipe.inputs["t"].modality
    assert (options.vocab_size, options.max_length) == (None, POSITIONS)
    again = planned(recipe.to_dict()["inputs"]["t"]["modality"])
    assert again.to_dict() == recipe.to_dict()
    with pytest.raises(RecipeError, match="null is only for checkpoints"):
        planned({"name": "text", "vocab_size": None})


def test_a_checkpoint_without_a_readable_tokenizer_is_refused_by_name(tmp_path):
    for name, content in [("none", None), ("broken", "{"), ("other", '{"version": "1.0"}')]:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(Path(text_checkpoint("bert")) / "config.json", folder)
        if content is not None:
            (folder / "tokenizer.json").write_text(content)
        with pytest.raises(RecipeError, match="tokenizer") as refused:
            planned({"name": "text", "checkpoint": str(folder)})
        assert refused.value.path == "inputs.t.modality.checkpoint"
    with pytest.raises(RecipeError, match="tokenizer"):
        planned({"name": "text", "checkpoint": checkpoint("image")})
    with pytest.raises(RecipeError, match="nowhere"):
        planned({"name": "text", "checkpoint": str(tmp_path / "nowhere")})


def test_the_numbers_go_with_any_text_encoder():
    recipe = planned({"name": "text", "checkpoint": text_checkpoint("bert")}, encoder="embedding_bag")
    assert recipe.inputs["t"].encoder.name == "embedding_bag"
    assert CheckpointTokenizer.from_checkpoint(text_checkpoint("bert")).num_special_tokens == 2
