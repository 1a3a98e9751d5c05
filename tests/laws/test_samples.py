"""The laws see every modality and task: each has sample data."""

from laws.samples import INPUTS, TARGETS
from polymodal.core.registry import components


def test_every_kind_of_data_has_a_sample() -> None:
    assert set(INPUTS) == set(components("modality"))
    assert set(TARGETS) == set(components("task"))
