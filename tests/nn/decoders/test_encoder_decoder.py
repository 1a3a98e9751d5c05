"""The decoder of a pretrained encoder-decoder: what a row writes depends on that row alone, cached or not, and is what
the checkpoint itself writes where it reads its own encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from decoding import ROWS, greedy, one, views
from laws.samples import Columns, network_of, prepare, sounds, texts, trained, whole_batch
from laws.seq2seq_checkpoints import KINDS, seq2seq_checkpoint
from polymodal.core.errors import DataError, RecipeError
from polymodal.core.types import Batch, FusionOutput, OutputShape, TextShape
from polymodal.data.store.items import PreparedInput
from polymodal.model.make_network import make_network
from polymodal.model.model import Model
from polymodal.nn.decoders.encoder_decoder import EncoderDecoder
from polymodal.nn.network import Network
from polymodal.pretrained.resolve import read_checkpoint_config

pytest.importorskip("transformers")

WIDTH, STEPS = 12, 10


def decoder(kind: str, **options: Any) -> EncoderDecoder:
    """With the checkpoint's weights, reading fused tokens."""
    torch.manual_seed(0)
    card = read_checkpoint_config(seq2seq_checkpoint(kind), "text")
    size = int(card.config["vocab_size"])
    text = TextShape(size, 1, 2, 6, STEPS, card.to_dict())
    chosen = EncoderDecoder.Options(checkpoint=seq2seq_checkpoint(kind), **{"encoder_source": "fusion", **options})
    found = EncoderDecoder(chosen, width=WIDTH, shape=OutputShape(size, "text", text=text))
    found.load_pretrained()
    if found.options.encoder_source == "fusion":
        torch.nn.init.normal_(found.connector.weight)
    return found.eval()


def rows() -> tuple[FusionOutput, Tensor, Tensor]:
    """Views of different length, prompts of 0 to 3 tokens, answers of 1 to 6."""
    draw = torch.Generator().manual_seed(1)
    view = views(WIDTH, draw)
    prompt = torch.randint(10, 60, (ROWS, 3), generator=draw)
    prompt[torch.arange(3) >= torch.arange(ROWS).unsqueeze(1) % 4] = -1
    answer = torch.randint(10, 60, (ROWS, 6), generator=draw)
    answer[torch.arange(6) >= torch.arange(ROWS).unsqueeze(1) % 6 + 1] = -1
    return view, prompt, answer


@torch.no_grad()
def anew(model: EncoderDecoder, view: FusionOutput, prompt: Tensor) -> Tensor:
    """The same with everything computed again at every step; only the first token has tokens of its own barred."""
    written = prompt.new_zeros(len(prompt), 0)
    for step in range(STEPS):
        whole = [torch.cat([row[row >= 0], new]) for row, new in zip(prompt, written, strict=True)]
        logits = []
        for row, tokens in enumerate(whole):
            state = model.init_state(one(view, row), tokens.unsqueeze(0), 1)
            first, model.sequence.begin_suppressed_tokens = (
                model.sequence.begin_suppressed_tokens,
                (model.sequence.begin_suppressed_tokens if step == 0 else []),
            )
            logits.append(state.step(None))
            model.sequence.begin_suppressed_tokens = first
        written = torch.cat([written, torch.cat(logits).argmax(-1, keepdim=True)], 1)
    return written


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_kept_keys_and_values_and_other_rows_change_no_token(kind: str) -> None:
    model, (view, prompt, _) = decoder(kind), rows()
    together = greedy(model, view, prompt, STEPS)
    assert len(set(map(tuple, together.tolist()))) > 3
    assert torch.equal(together, anew(model, view, prompt))
    for row in range(ROWS):
        alone = greedy(model, one(view, row), prompt[row : row + 1][:, prompt[row] >= 0], STEPS)
        assert torch.equal(together[row], alone[0])


def test_rows_are_chosen_again_in_any_order(kind: str) -> None:
    model, (view, prompt, _) = decoder(kind), rows()
    wanted = greedy(model, view, prompt, STEPS)
    chosen = torch.tensor([6, 1, 6, 3, 0])
    with torch.no_grad():
        state = model.init_state(view, prompt, STEPS)
        last = state.step(None).argmax(-1)
        state.reorder(chosen)
        found = [last[chosen]]
        while len(found) < STEPS:
            found.append(state.step(found[-1]).argmax(-1))
            if len(found) == 4:  # the fourth row has ended
                state.reorder(torch.tensor([0, 1, 2, 4]))
                found = [torch.cat([one[:3], one[4:]]) for one in found]
    assert torch.equal(torch.stack(found, 1), wanted[[6, 1, 6, 0]])


def test_losses_are_those_of_the_steps(kind: str) -> None:
    model, (view, prompt, answer) = decoder(kind), rows()
    model.sequence.suppressed_tokens = (
        model.sequence.begin_suppressed_tokens
    ) = []  # barred when writing, not when learning
    with torch.no_grad():
        found = model.target_nll(view, prompt, answer)
        state = model.init_state(view, prompt, STEPS)
        total, last = torch.zeros(ROWS), None
        for place in range(answer.shape[1]):
            said = state.step(last).log_softmax(-1)
            last = answer[:, place].clamp_min(0)
            total -= torch.where(answer[:, place] >= 0, said.gather(1, last.unsqueeze(1)).squeeze(1), 0.0)
    assert torch.allclose(found[:, 0], total, atol=1e-3, rtol=1e-4)
    assert found[:, 1].tolist() == (answer >= 0).sum(1).tolist()


@pytest.mark.parametrize("tune", ["freeze", "last", "lora", "full"])
def test_only_what_is_tuned_learns(kind: str, tune: str) -> None:
    if tune == "lora":
        pytest.importorskip("peft")
    model, (view, prompt, answer) = decoder(kind, fine_tuning=tune).train(), rows()
    model.target_nll(view, prompt, answer)[:, 0].sum().backward()
    learning = {name for name, one in model.sequence.named_parameters() if one.requires_grad}
    moved = {name for name, one in model.sequence.named_parameters() if one.grad is not None}
    assert bool(learning) == (tune != "freeze")
    assert moved <= learning
    assert any(float(one.grad.abs().max()) > 0 for one in model.connector.parameters() if one.grad is not None)
    if tune == "lora":
        assert all("lora_" in name for name in learning)
    if tune != "freeze":
        assert moved
        assert set(model.lr_multipliers()) == {one for one in model.sequence.parameters() if one.requires_grad}


def recipe(kind: str, **decoder: Any) -> dict[str, Any]:
    checkpoint = seq2seq_checkpoint(kind)
    reads = "audio" if kind == "whisper" else "text"
    return {
        "inputs": {
            "given": {
                "modality": {"name": reads, **({} if reads == "text" else {"seconds": 2})},
                "encoder": {"name": f"pretrained_{reads}", "checkpoint": checkpoint, "max_tokens": None},
            }
        },
        "fusion": "concat",
        "outputs": {
            "said": {
                "task": {"name": "text_generation", "max_target_length": STEPS},
                "decoder": {"name": "encoder_decoder", "checkpoint": checkpoint, **decoder},
            }
        },
    }


def columns(kind: str, count: int = 8) -> Columns:
    draw = np.random.default_rng(0)
    given = sounds(count, draw) if kind == "whisper" else texts(count, draw)
    (values,) = given.values()
    values = [values[1] if value is None else value for value in values]
    return {"given": values, "said": ["amber cloud", "drift", "frost and haze", "birch"] * (count // 4)}


def whole(kind: str, **changes: Any) -> tuple[Any, Any, Network, Batch]:
    preparation, prepared = prepare(columns(kind), **recipe(kind, **changes))
    torch.manual_seed(0)
    network = make_network(preparation.recipe, preparation, pretrained=True).eval()
    return preparation, prepared, network, whole_batch(preparation, prepared)


def test_texts_equal_those_of_the_checkpoint(kind: str) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq

    _, _, network, batch = whole(kind)
    auto = AutoModelForSpeechSeq2Seq if kind == "whisper" else AutoModelForSeq2SeqLM
    theirs = auto.from_pretrained(seq2seq_checkpoint(kind)).eval()
    encoder = network.encoders()["given"]
    assert hasattr(encoder, "prepare_inputs")
    data = encoder.prepare_inputs(batch.inputs["given"].data)
    extra = {"language": "en"} if kind == "whisper" else {}
    wanted = theirs.generate(**data, max_new_tokens=STEPS, do_sample=False, num_beams=1, **extra).tolist()
    with torch.no_grad():
        state = network.init_state("said", network.encode_and_fuse(batch), batch, STEPS)
        found = [state.step(None).argmax(-1)]
        while len(found) < STEPS:
            found.append(state.step(found[-1]).argmax(-1))
    (model,) = network.all_decoders()
    assert isinstance(model, EncoderDecoder)
    first, end = 0 if kind == "whisper" else len(model.sequence.start_tokens), theirs.config.eos_token_id
    for row, ids in enumerate(torch.stack(found, 1).tolist()):
        text = (ids[: ids.index(end)] if end in ids else ids)[: STEPS - 2]
        item = int(batch.inputs["given"].index[row])
        assert wanted[item][first:][: len(text)] == text


def test_a_missing_input_is_independent_of_other_rows() -> None:
    preparation, prepared, network, _ = whole("bart")
    source = prepared.inputs["given"]

    def losses(index: np.ndarray) -> Tensor:
        some = replace(prepared, inputs={"given": PreparedInput(index, source.items, source.content_keys)})
        with torch.no_grad():
            return network(whole_batch(preparation, some))["said"].values

    gone = source.index.copy()
    gone[3] = -1
    other = gone.copy()
    other[0] = gone[1]
    assert torch.allclose(losses(gone)[3], losses(other)[3], atol=1e-4)
    assert torch.allclose(losses(gone)[4:], losses(source.index)[4:], atol=1e-4)
    assert torch.allclose(losses(gone)[3], losses(np.full_like(gone, -1))[3], atol=1e-4)


def test_a_saved_model_predicts_without_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = columns("whisper")
    made = recipe("whisper", fine_tuning="lora") | {"training": {"epochs": 1}}
    pytest.importorskip("peft")
    model = trained({"train": data, "validation": data}, tmp_path / "run", **made)
    asked = {"given": data["given"]}
    said = model.predict(asked)
    model.save(tmp_path / "model")

    def gone(*_: Any, **__: Any) -> Any:
        raise AssertionError("the checkpoint was opened")

    monkeypatch.setattr("polymodal.pretrained.weights.weights_folder", gone)
    monkeypatch.setattr("polymodal.modalities.checkpoint_tokenizer.read_checkpoint_config", gone)
    monkeypatch.setattr("polymodal.modalities.audio.read_checkpoint_config", gone)
    assert Model.load(tmp_path / "model").predict(asked) == said


def test_epochs_0_keep_the_checkpoint_unchanged(tmp_path: Path) -> None:
    data = columns("t5")
    still = {"epochs": 0, "modality_dropout": 0, "precision": "auto"}  # the choice of precision runs an empty step
    model = trained({"train": data, "validation": data}, tmp_path, **recipe("t5"), training=still)
    (found,) = model.network.all_decoders()
    _, _, untrained, _ = whole("t5")
    (other,) = untrained.all_decoders()
    assert isinstance(found, EncoderDecoder)
    assert isinstance(other, EncoderDecoder)
    for name, weight in found.sequence.state_dict().items():
        assert torch.equal(weight, other.sequence.state_dict()[name])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"max_tokens": 1}, "set max_tokens: null"),
        ({"name": "embedding_bag", "checkpoint": None}, r"set a pretrained encoder with checkpoint"),
        ({"checkpoint": "t5"}, r"set a pretrained encoder with checkpoint"),
    ],
)
def test_an_input_without_the_encoder_of_the_checkpoint_is_rejected(changed: dict[str, Any], problem: str) -> None:
    made = recipe("bart")
    encoder = made["inputs"]["given"]["encoder"] | changed
    encoder["checkpoint"] = seq2seq_checkpoint("t5") if encoder["checkpoint"] == "t5" else encoder["checkpoint"]
    made["inputs"]["given"]["encoder"] = "embedding_bag" if changed.get("name") == "embedding_bag" else encoder
    preparation, _ = prepare(columns("bart"), **made)
    with pytest.raises(RecipeError, match=problem) as error:
        network_of(preparation)
    assert error.value.path == "outputs.said.decoder.input"


def test_conflicting_options_are_rejected() -> None:
    with pytest.raises(RecipeError, match="no effect with encoder_source: fusion"):
        decoder("bart", input="given")
    with pytest.raises(RecipeError, match="no effect with fine_tuning: freeze"):
        decoder("bart", lora_rank=4)
    preparation, _ = prepare(columns("bart"), **recipe("bart", input="gven"))
    with pytest.raises(RecipeError, match="unknown input 'gven'"):
        network_of(preparation)


def test_texts_longer_than_the_positions_are_rejected() -> None:
    model, (view, prompt, _) = decoder("bart"), rows()
    with pytest.raises(DataError, match=r"10000 tokens exceed the positions .* at most 28 fit"):
        model.init_state(view, prompt, 10_000)
    made = recipe("bart")
    made["outputs"]["said"]["task"]["max_target_length"] = 40
    preparation, _ = prepare(columns("bart"), **made)
    with pytest.raises(RecipeError, match="has 32 positions, but start, prompt and answer need 41"):
        network_of(preparation)


def test_training_without_trainable_parameters_is_rejected(tmp_path: Path) -> None:
    data = columns("bart")
    still = {"epochs": 1, "modality_dropout": 0}
    with pytest.raises(RecipeError, match=r"set training\.epochs to 0"):
        trained({"train": data, "validation": data}, tmp_path, **recipe("bart"), training=still)
