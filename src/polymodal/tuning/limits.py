"""The limits of a search, and how its time is divided."""

from __future__ import annotations

from dataclasses import dataclass

from polymodal.core.errors import RecipeError
from polymodal.engines.choose import EngineName

#: Largest number of parallel processes.
MAX_JOBS = 256
#: Fractions of the time limit that are reserved for training the selected models on all rows, and for unimodal
#: networks.
REFIT_FRACTION, UNIMODAL_FRACTION = 0.12, 0.33
#: Fraction of the time limit that is reserved for the scores of the selected models and the report.
SCORE_FRACTION = 0.04
#: Fraction of the time limit after which no further baseline is fitted, and the inputs are not audited.
BASELINE_FRACTION = 0.3


@dataclass(frozen=True)
class SearchLimits:
    """The start of a search (`time.time()`), its limits of seconds and trials, and its processes and their engine."""

    start: float
    seconds: float | None
    trials: int | None
    jobs: int
    engine: EngineName

    def after(self, fraction: float) -> float | None:
        """The time after a fraction of the time limit."""
        return None if self.seconds is None else self.start + self.seconds * fraction

    @property
    def end(self) -> float | None:
        """The time at which the selected models are trained on all rows."""
        return self.after(1 - REFIT_FRACTION)

    def deadline(self, inputs: int) -> float | None:
        """The end of the trials; with several inputs, unimodal networks are run after them."""
        if self.seconds is None or self.end is None or inputs < 2:
            return self.end
        return self.end - self.seconds * UNIMODAL_FRACTION


def check_counts(trials: int | None, time_limit: float | None, jobs: int) -> None:
    """Raise RecipeError for a limit that is not positive, for too many processes, and for a search without a limit."""
    for name, value in (("trials", trials), ("time_limit", time_limit), ("jobs", jobs)):
        if value is not None and value <= 0:
            raise RecipeError("", f"{name} must be positive, not {value}")
    if jobs > MAX_JOBS:
        raise RecipeError("", f"jobs must be at most {MAX_JOBS}, not {jobs}")
    if trials is None and time_limit is None:
        raise RecipeError("", "a search needs a limit: give trials, time_limit or both")
