"""Text decoders: decoding states give the likelihood that the loss computes, also for selected rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polymodal.core.types import FusionOutput, OutputShape, TextShape, Tokens
from polymodal.nn.decoders.ctc import CTC
from polymodal.nn.decoders.lstm import LSTMDecoder
from polymodal.nn.decoders.state_mixtures import LinearMixture
from polymodal.nn.decoders.text_decoder import TextDecoder, encoder_memory
from polymodal.nn.decoders.transformer import TransformerDecoder
from polymodal.nn.layers.causal import CACHE_PAGE

WIDTH, VOCABULARY, END = 16, 30, 2
MADE: list[tuple[type[TextDecoder], dict[str, Any]]] = [
    (TransformerDecoder, {"num_layers": 2}),
    (TransformerDecoder, {"num_layers": 1, "num_heads": 2}),
    (LSTMDecoder, {"hidden_size": 12}),
    (LSTMDecoder, {"hidden_size": 12, "attention_coverage_weight": 1.0}),
    (CTC, {"upsampling": 2}),
]


def made(kind: type[TextDecoder], options: dict[str, Any], prompt: int = 8) -> TextDecoder:
    torch.manual_seed(0)
    text = TextShape(VOCABULARY, 1, END, 0 if kind is CTC else prompt, 9)
    component: Any = kind
    writer: TextDecoder = component(
        component.Options(**options), width=WIDTH, shape=OutputShape(VOCABULARY, "text", text=text)
    )
    for parameter in writer.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return writer.eval()


def view_of(rows: int, places: int = 6) -> FusionOutput:
    """Rows of memories of different lengths."""
    draw = torch.Generator().manual_seed(rows)
    features = torch.randn(rows, places, WIDTH, generator=draw)
    lengths = places - torch.arange(rows) % 3
    mask = torch.arange(places) < lengths.unsqueeze(1)
    present = torch.ones(rows, dtype=torch.bool)
    tokens = Tokens(features, mask, present)
    return FusionOutput("joint", tokens, tokens.pooled(), present.float())


def ragged(lengths: list[int], seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, VOCABULARY, (len(lengths), max(lengths)), generator=draw)
    return tokens.masked_fill(torch.arange(tokens.shape[1]) >= torch.tensor(lengths).unsqueeze(1), -1)


def data(kind: type[TextDecoder]) -> tuple[FusionOutput, Tensor, Tensor]:
    answer = ragged([4, 2, 5, 1, 3], 1)
    last = (answer >= 0).sum(1) - 1
    answer[torch.arange(5), last] = END
    prompt = torch.zeros(5, 0, dtype=torch.int64) if kind is CTC else ragged([3, 1, 0, 5, 3], 2)
    return view_of(5), prompt, answer


@pytest.mark.parametrize(("kind", "options"), MADE, ids=str)
def test_the_loss_equals_the_likelihood_of_the_decoding_state(kind: type[TextDecoder], options: dict[str, Any]) -> None:
    """Token by token, after prompts of different lengths, so that the cache of previous tokens is correct."""
    writer = made(kind, options)
    view, prompt, answer = data(kind)
    with torch.no_grad():
        if kind is CTC:  # the loss may also say the end token itself, which no state does
            writer.ctc_head.classifier.bias[END] = -1e4  # type: ignore[union-attr, index]
        losses = writer.target_nll(view, prompt, answer)
        state = writer.init_state(view, prompt, answer.shape[1])
        said = torch.zeros(5)
        last = None
        for column in answer.unbind(1):
            log_p = state.step(last).log_softmax(-1)
            real = column >= 0
            last = column.clamp_min(0)
            said = said - torch.where(real, log_p.gather(1, last.unsqueeze(1)).squeeze(1), 0.0)
    torch.testing.assert_close(losses[:, 0], said, atol=1e-4, rtol=1e-4)
    assert losses[:, 1].tolist() == [4, 2, 5, 1, 3]


@pytest.mark.parametrize(("kind", "options"), [*MADE, (TransformerDecoder, {"ctc_weight": 0.3})], ids=str)
def test_selected_rows_continue_independently(kind: type[TextDecoder], options: dict[str, Any]) -> None:
    """Repeated, reordered and left out, within the rows of one memory and across; logits equal those of each row
    written by itself."""
    writer = made(kind, options)
    if "ctc" in options:
        writer.text = writer.text._replace(prompt=0)
    view, prompt, _ = data(kind)
    script = [[0, 0, 4, 2, 2], [1, 0, 3, 4, 3], [2, 4], [0, 1, 1]]
    tokens = torch.arange(40).reshape(8, 5) % (VOCABULARY - 4) + 3
    with torch.no_grad():
        state = writer.init_state(view, prompt, 9)
        state.step(None)
        history = [(row, ()) for row in range(5)]
        for number, rows in enumerate(script):
            state.reorder(torch.tensor(rows))
            history = [history[row] for row in rows]
            new = tokens[number, : len(rows)]
            found = state.step(new)
            history = [(row, (*text, int(token))) for (row, text), token in zip(history, new, strict=True)]
            for place, (row, text) in enumerate(history):
                alone = writer.init_state(_row(view, row), prompt[[row]], 9)
                logits = alone.step(None)
                for token in text:
                    logits = alone.step(torch.tensor([token]))
                torch.testing.assert_close(
                    found[place].log_softmax(-1), logits[0].log_softmax(-1), atol=2e-4, rtol=1e-4
                )


def _row(view: FusionOutput, row: int) -> FusionOutput:
    tokens = view.tokens
    length = int(tokens.mask[row].sum())
    one = Tokens(tokens.features[[row], :length], tokens.mask[[row], :length], tokens.present[[row]])
    return FusionOutput("joint", one, one.pooled(), view.weight[[row]])


def test_room_is_made_as_tokens_come() -> None:
    """Ten thousand tokens that were asked for take no place before they are written; kept keys stay right across
    pages."""
    writer: Any = made(TransformerDecoder, {"num_layers": 1})
    view, prompt = view_of(2), torch.zeros(2, 0, dtype=torch.int64)
    with torch.no_grad():
        state = writer.init_state(view, prompt, 10_000)
        state.step(None)
        assert state.cache.buffer.shape[4] == CACHE_PAGE
        text = torch.arange(3 * CACHE_PAGE) % 20 + 3
        for token in text:
            logits = state.step(token.expand(2))
        assert state.cache.buffer.shape[4] < 5 * CACHE_PAGE
        whole = writer.target_nll(view, prompt, torch.cat([text, torch.tensor([END])]).expand(2, -1))
        less = writer.target_nll(view, prompt, text.expand(2, -1))
    torch.testing.assert_close(-logits.log_softmax(-1)[:, END], (whole - less)[:, 0], atol=1e-2, rtol=1e-3)


def test_a_mixture_weighs_each_row_by_its_views() -> None:
    writers = [made(TransformerDecoder, {"num_layers": 1}), made(LSTMDecoder, {})]
    view, prompt, _ = data(TransformerDecoder)
    weights = [torch.tensor([1.0, 0.0, 1.0, 0.0, 3.0]), torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0])]
    with torch.no_grad():
        said = [writer.init_state(view, prompt, 3).step(None).softmax(-1) for writer in writers]
        mixed = (
            LinearMixture([writer.init_state(view, prompt, 3) for writer in writers], weights).step(None).softmax(-1)
        )
    for row, share in enumerate([0.5, 0.0, 1.0, 0.5, 0.75]):
        torch.testing.assert_close(mixed[row], share * said[0][row] + (1 - share) * said[1][row])


def test_looking_everywhere_alike_costs_nothing() -> None:
    """The penalty on attention is the sum over positions of (1 - total attention over the text)^2, only in training."""
    view, prompt, answer = data(LSTMDecoder)
    plain, spread = (made(LSTMDecoder, {"dropout": 0.0, "attention_coverage_weight": weight}) for weight in (0.0, 2.0))
    with torch.no_grad():
        assert torch.equal(plain.target_nll(view, prompt, answer), spread.target_nll(view, prompt, answer))
        penalty = spread.train().target_nll(view, prompt, answer) - plain.train().target_nll(view, prompt, answer)
    assert (penalty[:, 0] > 0).all()
    assert (penalty[:, 1] == 0).all()


def test_what_a_writer_reads() -> None:
    """Fused tokens; of one fused vector also the inputs' own tokens, but for those of missing inputs."""
    tokens = view_of(2).tokens
    missing = Tokens(tokens.features, tokens.mask, torch.tensor([True, False]))
    vector = tokens.features[:, :1]
    there = torch.ones(2, dtype=torch.bool)
    fused = Tokens(vector, there.unsqueeze(1), there)
    features, mask = encoder_memory(FusionOutput("joint", fused, vector[:, 0], there.float(), True, {"a": missing}))
    assert features.shape == (2, 7, WIDTH)
    assert mask[1].tolist() == [True] + [False] * 6
    features, _ = encoder_memory(FusionOutput("joint", tokens, vector[:, 0], there.float(), False, {"a": missing}))
    assert features is tokens.features
