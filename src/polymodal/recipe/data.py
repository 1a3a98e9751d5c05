"""Recipe section `data`: columns, splits, limits of media cells, and handling of bad cells."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from polymodal.core.needs import Needs, needs_input
from polymodal.core.options import Names, StrictModel

_MEDIA = needs_input("image", "audio", "video", "time_series")


class LimitOptions(StrictModel):
    """Limits of one media cell, checked before and after decoding. A cell over a limit is a bad cell."""

    megabytes: Annotated[float, _MEDIA] = Field(default=64.0, gt=0)
    """Largest file, or cell of bytes, in MiB."""
    megapixels: Annotated[float, needs_input("image", "video")] = Field(default=64.0, gt=0, le=178)
    """Largest image or video frame, in millions of pixels. Pillow rejects more than 178."""
    seconds: Annotated[float, needs_input("audio", "video")] = Field(default=600.0, gt=0)
    """Longest audio or video, in seconds."""
    frames: Annotated[int, needs_input("video")] = Field(default=36_000, ge=1)
    """Largest number of frames of a video or an animation."""
    channels: Annotated[int, needs_input("audio")] = Field(default=32, ge=1)
    """Largest number of audio channels."""
    sampling_rate: Annotated[int, needs_input("audio")] = Field(default=192_000, ge=1)
    """Highest sampling rate of audio, in Hz."""
    values: Annotated[int, needs_input("time_series")] = Field(default=10_000_000, ge=1)
    """Largest number of values in one time series."""
    timeout_seconds: Annotated[float, _MEDIA] = Field(default=60.0, gt=0)
    """Time limit to decode one cell, in seconds. After it the decoding process is stopped."""
    memory_mib: Annotated[int, _MEDIA] = Field(default=2_048, ge=256)
    """Memory limit for decoding, as address space in MiB in addition to Python and its libraries. Only on Linux."""
    num_workers: Annotated[int | None, _MEDIA] = Field(default=None, ge=1)
    """Largest number of decoding processes, at most one per processor. Default: 8."""


def _draws_test(_: Any, run: Any) -> bool:
    return bool(run.draws_test or run.given.data.split.test_size == 0)


def _stratifies(_: Any, run: Any) -> bool:
    return bool(run.draws_rows and run.has_single_classification)


_TEST = Needs("a run that draws test rows: without data.split.column and test table", _draws_test)
_VALIDATION = Needs(
    "neither a data.split.column with validation rows nor a validation table", lambda _, run: run.draws_validation
)
_OWN_ROWS = Needs("no validation or test table", lambda _, run: not (run.has_validation or run.has_test))


class SplitOptions(StrictModel):
    """Split of the rows if no validation or test table is given."""

    column: Annotated[str | None, _OWN_ROWS] = None
    """Column with `train`, `validation` or `test` in each row. Without validation rows, they are drawn from
    the training rows. Without test rows, no rows are held out."""
    group_column: str | None = None
    """Column whose equal values stay in one split (a patient, a caption, a recording)."""
    stratify: Annotated[bool, Needs("a random split and a single classification output", _stratifies)] = True
    """Keep the class frequencies equal in all splits. Only for a single classification output."""
    validation_size: Annotated[float, _VALIDATION] = Field(default=0.1, gt=0, lt=1)
    """Fraction of rows for validation (early stopping, selection of the best epoch)."""
    test_size: Annotated[float, _TEST] = Field(default=0.1, ge=0, lt=1)
    """Fraction of rows held out for the final score; 0 for none."""


_DATA_SETS = Needs("several data sets", lambda _, run: run.data_sets > 1)
_INFERRED = Needs(
    "inputs to be unset, or data.infer_other_columns, since otherwise all columns beside the inputs are ignored",
    lambda _, run: run.given.data.infer_other_columns or not run.given.inputs,
)
_LISTED = Needs("inputs in the recipe; without them all columns are inferred", lambda _, run: bool(run.given.inputs))


class DataOptions(StrictModel):
    """Which columns and rows are used."""

    ignore_columns: Annotated[Names, _INFERRED] = []
    """Columns to ignore, in addition to those that cannot be inputs."""
    infer_other_columns: Annotated[bool, _LISTED] = False
    """Also infer inputs from the columns that no input of the recipe lists. A setting of one input, such as
    `inputs.photo.encoder=vit`, in a recipe without `inputs` turns it on."""
    weight_column: Annotated[str | None, Needs("outputs", lambda _, run: bool(run.outputs))] = None
    """Column of sample weights (0 or more)."""
    sampling_temperature: Annotated[float, _DATA_SETS] = Field(default=1.0, ge=1)
    """With several data sets, the fraction of each in an epoch is proportional to (its rows)^(1 / temperature). At 1
    the fractions follow the number of rows; higher values repeat rows of small data sets more often."""
    shuffle_groups: Annotated[int, Needs("a store of prepared rows", lambda _, run: run.is_stored)] = Field(
        default=16, ge=1
    )
    """Row groups of a store of prepared rows (`fit --prepared`) that are open at once. The rows of a batch are drawn
    from them. A store with at most as many row groups is loaded as a whole, and the rows of a batch are drawn from all
    of it, as from a table."""
    strict: bool = False
    """Stop at the first bad cell, instead of reporting it and treating it as missing."""
    limits: LimitOptions = LimitOptions()
    split: SplitOptions = SplitOptions()
