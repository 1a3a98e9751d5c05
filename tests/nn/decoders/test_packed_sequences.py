"""Rows laid into lines: every token once and whole rows together, and the same losses and gradients as without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polymodal.core.types import FusionOutput, OutputShape, TextShape, Tokens
from polymodal.nn.decoders import transformer
from polymodal.nn.decoders.packed_sequences import PackedSequences, pack_sequences
from polymodal.nn.decoders.transformer import TransformerDecoder
from polymodal.nn.fusion.unconditional import UnconditionalInput

WIDTH, VOCABULARY = 16, 30


def ragged(lengths: list[int], seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, VOCABULARY, (len(lengths), max(lengths, default=0)), generator=draw)
    return tokens.masked_fill(torch.arange(tokens.shape[1]) >= torch.tensor(lengths).unsqueeze(1), -1)


LENGTHS = [3, 9, 1, 4, 2, 2, 8, 5]


def test_every_row_is_in_one_pack_and_attends_only_to_itself() -> None:
    tokens = ragged(LENGTHS)
    packed = pack_sequences(tokens)
    assert packed is not None
    assert len(packed.tokens) == 4  # 9, 8 + 1, 5 + 4, 3 + 2 + 2: the fewest for 34 tokens in lines of 9
    for row, length in enumerate(LENGTHS):
        line, start = int(packed.pack[row]), int(packed.start[row])
        part = slice(start, start + length)
        assert torch.equal(packed.tokens[line, part], tokens[row, :length])
        assert packed.position[line, part].tolist() == list(range(length))
        assert (packed.owner[line, part] == row).all()
        for place in range(length):
            assert packed.attend[line, start + place].nonzero().squeeze(1).tolist() == list(
                range(start, start + place + 1)
            )
    assert int((packed.tokens >= 0).sum()) == sum(LENGTHS)
    assert packed.attend.any(2).all()  # also of padding, or a softmax would be empty


def test_rows_that_hardly_save_a_line_are_left_as_they_are() -> None:
    assert pack_sequences(ragged([4, 4, 3]), min_saving=0.2) is None
    assert pack_sequences(ragged([4, 1, 1, 2, 4]), min_saving=0.2) is not None  # three lines
    assert pack_sequences(ragged([4, 1, 1, 2, 4]), min_saving=0.5) is None


def language_model(rows: int) -> FusionOutput:
    fusion = UnconditionalInput(WIDTH)
    torch.nn.init.normal_(fusion.token)
    return fusion.output(rows)


def one_vector(rows: int) -> FusionOutput:
    """Each row has a memory of one position."""
    features = torch.randn(rows, 1, WIDTH, requires_grad=True)
    there = torch.ones(rows, dtype=torch.bool)
    return FusionOutput("joint", Tokens(features, there.unsqueeze(1), there), features[:, 0], there.float())


@pytest.mark.parametrize("view_of", [language_model, one_vector])
@pytest.mark.parametrize("prompted", [False, True])
def test_packed_losses_and_gradients_equal_unpacked_ones(
    view_of: Any, prompted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    shape = OutputShape(VOCABULARY, "text", text=TextShape(VOCABULARY, 1, 2, 8, 9))
    writer = TransformerDecoder(TransformerDecoder.Options(num_layers=2, dropout=0.0), width=WIDTH, shape=shape)
    answer = ragged(LENGTHS)
    answer[4] = -1
    prompt = ragged([2, 0, 5, 1, 1, 3, 0, 4], seed=1) if prompted else answer.new_zeros(len(LENGTHS), 0)
    view = view_of(len(LENGTHS))
    all_packed: list[PackedSequences | None] = []

    def spy(tokens: Tensor, min_saving: float) -> PackedSequences | None:
        all_packed.append(pack_sequences(tokens, min_saving))
        return all_packed[-1]

    monkeypatch.setattr(transformer, "pack_sequences", spy)
    found = []
    for min_saving in (0.0, 1.0):
        monkeypatch.setattr(transformer, "MIN_PACKING_SAVING", min_saving)
        losses = writer.target_nll(view, prompt, answer)
        writer.zero_grad()
        losses[:, 0].sum().backward(retain_graph=True)
        gradients = {name: p.grad.clone() for name, p in writer.named_parameters() if p.grad is not None}
        found.append((losses.detach(), gradients))
    assert [lines is not None for lines in all_packed] == [True, False]
    (packed, packed_gradients), (plain, gradients) = found
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=1e-5)
    assert packed_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=1e-4)
