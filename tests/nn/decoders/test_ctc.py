"""CTC: losses and prefix scores, compared with the sum over all paths."""

from __future__ import annotations

from itertools import groupby, product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from laws.samples import trained
from polymodal.core.errors import RecipeError
from polymodal.core.types import FusionOutput, OutputShape, TextShape, Tokens
from polymodal.nn.decoders.ctc import CTC, CTCBestPathState, CTCHead
from polymodal.nn.decoders.ctc_prefix_state import CTCPrefixState

END, VOCABULARY = 2, 4


def frames(rows: int, length: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(rows, length, VOCABULARY + 1, generator=draw)).log_softmax(-1)


def said_by(path: tuple[int, ...]) -> tuple[int, ...]:
    """The text of a path of tokens and blanks."""
    return tuple(token for token, _ in groupby(path) if token != VOCABULARY)


def every_text(log_p: Tensor) -> dict[tuple[int, ...], float]:
    """The probability of every text that `log_p [frames, vocabulary + 1]` can say, summed path by path. The end is
    never said, as states have it."""
    found: dict[tuple[int, ...], float] = {}
    for path in product([token for token in range(VOCABULARY + 1) if token != END], repeat=len(log_p)):
        text = said_by(path)
        found[text] = found.get(text, 0.0) + float(log_p[range(len(log_p)), path].sum().exp())
    return found


def view_of(features: Tensor, mask: Tensor) -> FusionOutput:
    present = torch.ones(len(features), dtype=torch.bool)
    tokens = Tokens(features, mask, present)
    return FusionOutput("joint", tokens, tokens.pooled(), present.float())


def test_prefix_scores_are_the_sums_over_every_path() -> None:
    """Of rows of different lengths, after each of the texts of two tokens, equal ones too."""
    log_p = frames(2, 5)
    log_p[..., END] = -torch.inf
    log_p = log_p.log_softmax(-1).clamp_min(-1e4)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    for row, length in ((0, 5), (1, 3)):
        texts = every_text(log_p[row, :length])
        for prefix in [(), (0,), (3,), (0, 1), (1, 1), (3, 0)]:
            state = CTCPrefixState(log_p, mask, END)
            logits = state.step(None)
            for token in prefix:
                logits = state.step(torch.tensor([token, token]))
            whole = sum(p for text, p in texts.items() if text[: len(prefix)] == prefix)
            for token in (0, 1, 3):
                longer = (*prefix, token)
                wanted = sum(p for text, p in texts.items() if text[: len(longer)] == longer) / whole
                assert float(logits.softmax(-1)[row, token]) == pytest.approx(wanted, rel=1e-4, abs=1e-7)
            assert float(logits.softmax(-1)[row, END]) == pytest.approx(texts.get(prefix, 0.0) / whole, rel=1e-4)


def test_a_draft_goes_on_with_selected_rows() -> None:
    log_p, mask = frames(3, 6), torch.ones(3, 6, dtype=torch.bool)
    states = [CTCPrefixState(log_p, mask, END), CTCBestPathState(log_p, mask, END)]
    for state in states:
        state.step(None)
        state.step(torch.tensor([0, 1, 3]))
        state.reorder(torch.tensor([2, 0, 0]))
        found = state.step(torch.tensor([1, 1, 3]))
        for place, (row, tokens) in enumerate([(2, (3, 1)), (0, (0, 1)), (0, (0, 3))]):
            alone = type(state)(log_p[[row]], mask[[row]], END)
            logits = alone.step(None)
            for token in tokens:
                logits = alone.step(torch.tensor([token]))
            torch.testing.assert_close(found[place], logits[0], atol=1e-5, rtol=1e-5)


def test_long_inputs_stay_exact() -> None:
    """The chain of a text's tokens has the probability that the loss gives it, over 600 frames."""
    log_p, mask = frames(1, 600), torch.ones(1, 600, dtype=torch.bool)
    log_p[..., END] = -1e4
    log_p = log_p.log_softmax(-1)
    text = [0, 1, 1, 3, 0, 3] * 10
    state = CTCPrefixState(log_p, mask, END)
    said, found = state.step(None), 0.0
    for token in [*text, END]:
        found += float(said.double().log_softmax(-1)[0, token])
        said = state.step(torch.tensor([token]))
    lengths = torch.tensor([600]), torch.tensor([60])
    wanted = torch.nn.functional.ctc_loss(
        log_p.double().transpose(0, 1), torch.tensor([text]), *lengths, blank=VOCABULARY, reduction="none"
    )
    assert found == pytest.approx(-float(wanted), rel=1e-4)


def path(log_p: Tensor, length: int) -> list[int]:
    state = CTCBestPathState(log_p[None, :length], torch.ones(1, length, dtype=torch.bool), END)
    tokens: list[int] = []
    logits = state.step(None)
    while int(logits.argmax()) != END:
        tokens.append(int(logits.argmax()))
        logits = state.step(torch.tensor([tokens[-1]]))
    return tokens


def test_the_best_path_is_the_likeliest_of_every_frame() -> None:
    log_p = frames(20, 9, seed=3)
    log_p[..., END] = -20.0
    for row in range(20):
        assert path(log_p[row], 9) == list(said_by(tuple(log_p[row].argmax(-1).tolist())))


def test_losses_sum_over_all_paths_and_impossible_rows_are_ignored() -> None:
    """Gradients are finite; training counts the ignored rows and warns."""
    torch.manual_seed(0)
    part = CTCHead(8, VOCABULARY, 1)
    features = torch.randn(4, 4, 8, requires_grad=True)
    mask = torch.tensor([[True] * 4, [True] * 3 + [False], [True] * 2 + [False] * 2, [True] * 4])
    answer = torch.tensor([[0, 1, END, -1], [1, 1, END, -1], [1, 1, END, -1], [-1, -1, -1, -1]])
    losses = part.nll(view_of(features, mask), answer, END)
    log_p = part(view_of(features, mask))[0].detach()
    for row, length in ((0, 4), (1, 3)):
        text = tuple(answer[row, :2].tolist())
        paths = product(range(VOCABULARY + 1), repeat=length)
        wanted = sum(float(log_p[row, range(length), path].sum().exp()) for path in paths if said_by(path) == text)
        assert float(losses[row, 0].detach().exp()) == pytest.approx(1 / wanted, rel=1e-4)
    assert losses[:, 1].tolist() == [3, 3, 0, 0]
    assert losses[2:, 0].tolist() == [0, 0]
    losses[:, 0].sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert part.rows.tolist() == [2, 1]
    assert "1 of 3 answers" in str(part.training_warning())
    part.eval().nll(view_of(features, mask), answer, END)
    assert part.rows.tolist() == [2, 1]


def test_upsampling_allows_longer_texts() -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    answer = torch.tensor([[0, 1, 3, END]])
    for upsampling, counted in ((1, 0), (2, 4)):
        part = CTCHead(8, VOCABULARY, upsampling)
        losses = part.nll(view_of(torch.randn(1, 2, 8), mask), answer, END)
        assert float(losses.detach()[0, 1]) == counted


def test_a_prompt_is_rejected() -> None:
    shape = OutputShape(VOCABULARY, "text", text=TextShape(VOCABULARY, 1, END, 8, 8))
    with pytest.raises(RecipeError, match="prompt"):
        CTC(CTC.Options(), width=8, shape=shape)


def test_a_run_tells_how_many_answers_were_too_long(tmp_path: Path) -> None:
    """Of inputs that give one frame each, two in all; a model that is loaded goes on writing."""
    columns = {"a": ["x", "y"] * 8, "target": ["one two three four five", "six"] * 8}
    model = trained(
        {"train": columns, "validation": columns},
        tmp_path,
        inputs={"a": "category"},
        outputs={"target": {"task": "text_generation", "decoder": "ctc"}},
        fusion="attention",
        training={"epochs": 2, "batch_size": 4},
    )
    (notice,) = (notice for notice in model.run.notices if "frames" in notice)
    assert notice.startswith("8 of 16 answers")
