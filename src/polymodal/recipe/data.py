"""Recipe section `data`: columns, splits, limits of media cells, and handling of bad cells."""

from __future__ import annotations

from pydantic import Field

from polymodal.core.options import StrictModel


class LimitOptions(StrictModel):
    """Limits of one media cell, checked before and after decoding. A cell over a limit is a bad cell."""

    megabytes: float = Field(default=64.0, gt=0)
    """Largest file, or cell of bytes, in MiB."""
    megapixels: float = Field(default=64.0, gt=0, le=178)
    """Largest image or video frame, in millions of pixels. Pillow rejects more than 178."""
    seconds: float = Field(default=600.0, gt=0)
    """Longest audio or video, in seconds."""
    frames: int = Field(default=36_000, ge=1)
    """Largest number of frames of a video or an animation."""
    channels: int = Field(default=32, ge=1)
    """Largest number of audio channels."""
    sampling_rate: int = Field(default=192_000, ge=1)
    """Highest sampling rate of audio, in Hz."""
    values: int = Field(default=10_000_000, ge=1)
    """Largest number of values in one time series."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """Time limit to decode one cell, in seconds. After it the decoding process is stopped."""
    memory_mib: int = Field(default=2_048, ge=256)
    """Memory limit for decoding, as address space in MiB in addition to Python and its libraries. Only on Linux."""
    num_workers: int | None = Field(default=None, ge=1)
    """Largest number of decoding processes, at most one per processor. Default: 8."""


class SplitOptions(StrictModel):
    """Split of the rows if no validation or test table is given."""

    column: str | None = None
    """Column with `train`, `validation` or `test` in each row."""
    group_column: str | None = None
    """Column whose equal values stay in one split (a patient, a caption, a recording)."""
    stratify: bool = True
    """Keep the class frequencies equal in all splits. Only for a single classification output."""
    validation_size: float = Field(default=0.1, gt=0, lt=1)
    """Fraction of rows for validation (early stopping, selection of the best epoch)."""
    test_size: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of rows held out for the final score; 0 for none."""


class DataOptions(StrictModel):
    """Which columns and rows are used."""

    ignore_columns: list[str] = []
    """Columns to ignore, in addition to those that cannot be inputs."""
    weight_column: str | None = None
    """Column of sample weights (0 or more)."""
    sampling_temperature: float = Field(default=1.0, ge=1)
    """With several data sets, the fraction of each in an epoch is proportional to (its rows)^(1 / temperature). At 1
    the fractions follow the number of rows; higher values repeat rows of small data sets more often."""
    strict: bool = False
    """Stop at the first bad cell, instead of reporting it and treating it as missing."""
    limits: LimitOptions = LimitOptions()
    split: SplitOptions = SplitOptions()
