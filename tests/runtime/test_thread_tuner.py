"""Threads that are found out while the work is done."""

from __future__ import annotations

import time

import pytest
import torch

from polymodal.runtime.thread_tuner import ThreadTuner


def threads_of(pace: ThreadTuner, batches: int, seconds: dict[int, float]) -> list[int]:
    used = []
    for _ in range(batches):
        with pace.batch(8):
            used.append(torch.get_num_threads())
            time.sleep(seconds[used[-1]])
    return used


@pytest.mark.parametrize("faster", [1, 4])
def test_the_faster_is_kept_after_both_were_tried(faster: int) -> None:
    pace = ThreadTuner()
    pace.choices, pace._spent = [1, 4], {1: [0.0, 0], 4: [0.0, 0]}
    before = torch.get_num_threads()
    used = threads_of(pace, ThreadTuner.TRIAL_BATCHES + 4, {faster: 0.0, 5 - faster: 0.02})
    assert set(used[: ThreadTuner.TRIAL_BATCHES]) == {1, 4}
    assert used[ThreadTuner.TRIAL_BATCHES :] == [faster] * 4
    assert torch.get_num_threads() == before


def test_a_given_number_is_used_from_the_beginning_and_put_back_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    pace, before = ThreadTuner(3), torch.get_num_threads()
    assert threads_of(pace, 3, {3: 0.0}) == [3, 3, 3]
    with pytest.raises(ValueError, match="no"), pace.batch(1):
        raise ValueError("no")
    assert torch.get_num_threads() == before
