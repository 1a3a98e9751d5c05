"""The timeline decoder: tokens on cells, empty cells, and independence of rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.types import FusionOutput, OutputShape, TimeGrid, Tokens
from polymodal.nn.decoders import timeline
from polymodal.nn.decoders.timeline import Timeline, on_grid

torch.set_num_threads(1)

WIDTH = 8
GRID = TimeGrid(20, 10.0)


def tokens(rows: int, length: int, step: float = 0.5, seed: int = 0) -> Tokens:
    draw = torch.Generator().manual_seed(seed)
    times = ((torch.arange(length) + 0.5) * step).expand(rows, length)
    features = torch.randn(rows, length, WIDTH, generator=draw)
    return Tokens(features, torch.ones(rows, length, dtype=torch.bool), torch.ones(rows, dtype=torch.bool), times)


def view(*timed: Tokens, rows: int = 3) -> FusionOutput:
    pooled = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(9))
    fused = Tokens(pooled.unsqueeze(1), torch.ones(rows, 1, dtype=torch.bool), torch.ones(rows, dtype=torch.bool))
    sources = {str(place): tokens for place, tokens in enumerate(timed)}
    return FusionOutput("joint", fused, pooled, torch.ones(rows), is_vector=True, input_tokens=sources)


def decoder(labels: int = 2, grid: TimeGrid | None = GRID, **options: int) -> Timeline:
    torch.manual_seed(0)
    cells = 1 if grid is None else grid.frames
    return Timeline(Timeline.Options(**options), width=WIDTH, shape=OutputShape(labels * cells, "binary", grid)).eval()


def placed(times: list[float], values: list[float], grid: TimeGrid = GRID) -> tuple[Tensor, Tensor]:
    mask = torch.ones(1, len(times), dtype=torch.bool)
    cells, there = on_grid(torch.tensor(values).view(1, -1, 1), mask, torch.tensor([times]), grid)
    return cells[0, :, 0], there[0]


def test_tokens_at_the_centres_of_cells_stay_as_they_are() -> None:
    one = tokens(1, 20)
    cells, there = on_grid(one.features, one.mask, one.times, GRID)  # type: ignore[arg-type]
    torch.testing.assert_close(cells, one.features)
    assert there.all()


def test_a_cell_is_the_mean_of_its_tokens_and_gaps_are_interpolated() -> None:
    cells, there = placed([1.25, 1.25, 3.25], [2.0, 4.0, 7.0])
    torch.testing.assert_close(cells[:8], torch.tensor([3.0, 3.0, 3.0, 4.0, 5.0, 6.0, 7.0, 7.0]))
    assert there.tolist() == [True] * 9 + [False] * 11, "the item ends at 1.25 + 3.25 s"


def test_dense_tokens_are_averaged_over_time() -> None:
    times = [(place + 0.5) / 20 for place in range(200)]
    cells, _ = placed(times, times)
    torch.testing.assert_close(cells[1:-1], torch.arange(1, 19) * 0.5 + 0.25)


def test_tokens_after_the_timeline_are_left_out() -> None:
    assert torch.equal(placed([9.75, 30.0], [1.0, 5.0])[0][-2:], torch.tensor([1.0, 1.0]))
    assert not placed([30.0], [5.0])[1].any()


def test_padding_reaches_no_cell() -> None:
    made, one = decoder(), tokens(3, 12)
    mask = one.mask.clone()
    mask[1, 7:] = False
    loud = one.features.masked_fill(~mask.unsqueeze(-1), 1e4)
    short = replace(one, features=one.features[:, :7], mask=mask[:, :7], times=one.times[:, :7])  # type: ignore[index]
    with torch.no_grad():
        padded = made(view(replace(one, features=loud, mask=mask)))
        torch.testing.assert_close(padded[1], made(view(short))[1], atol=1e-6, rtol=0)


def test_rows_without_the_input_and_cells_after_its_end_read_nothing_of_it() -> None:
    made, one, other = decoder(num_layers=0), tokens(3, 6), tokens(3, 6, seed=1)
    absent = torch.tensor([True, False, True])
    with torch.no_grad():
        a, b = (made(view(replace(each, present=absent))).view(3, 20, 2) for each in (one, other))
    torch.testing.assert_close(a[1], b[1])
    torch.testing.assert_close(a[0, 6:], b[0, 6:])
    assert (a[0, :6] != b[0, :6]).any(-1).all()
    assert not torch.equal(a[1, 0], a[1, 1]), "cells of a row without the input are told apart by their position"


def test_layers_look_at_neighbours_in_time() -> None:
    one = tokens(1, 20)
    changed = one.features.clone()
    changed[0, 10, 0] += 1
    for layers, reach in ((0, 0), (1, 2), (2, 6)):
        made = decoder(num_layers=layers)
        with torch.no_grad():
            moved = made(view(one, rows=1)) - made(view(one.with_features(changed), rows=1))
        cells = moved.view(20, 2).abs().amax(1) > 1e-6
        assert cells.nonzero().flatten().tolist() == list(range(10 - reach, min(20, 10 + reach + 1)))


def test_many_rows_are_decided_in_turn_with_the_same_results_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    made, one = decoder(), tokens(3, 12)

    def run() -> tuple[Tensor, list[Tensor]]:
        made.zero_grad()
        decided = made(view(one))
        decided.square().sum().backward()
        return decided.detach(), [p.grad.clone() for p in made.parameters() if p.grad is not None]

    whole = run()
    monkeypatch.setattr(timeline, "MAX_LAYER_SIZE", 1)
    torch.testing.assert_close(run(), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("timed", [True, False])
def test_without_a_grid_one_cell_stands_for_the_row(timed: bool) -> None:
    made = decoder(5, None)
    one = tokens(3, 12)
    assert made(view(*([one] if timed else []))).shape == (3, 5)


def test_it_finds_a_planted_mark_in_time() -> None:
    """Tokens of noise, of which some carry a mark for four seconds; the tokens do not fit the cells."""
    one = tokens(200, 25, step=0.4)
    draw = torch.Generator().manual_seed(2)
    start = 6 * torch.rand(200, 1, generator=draw)
    centres = (torch.arange(20) + 0.5) * 0.5
    assert one.times is not None
    one.features[..., 0] += 3.0 * ((one.times >= start) & (one.times < start + 4))
    target = ((centres >= start) & (centres < start + 4)).float()
    made = decoder(1).train()
    optimiser = torch.optim.AdamW(made.parameters(), lr=0.01)
    whole = view(one, rows=200)
    for _ in range(60):
        loss = functional.binary_cross_entropy_with_logits(made(whole), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        right = ((made.eval()(whole) > 0) == (target > 0.5)).float().mean()
    assert right > 0.95
