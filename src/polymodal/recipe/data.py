"""Recipe section `data`: splits, limits, and what happens to cells that cannot be used."""

from __future__ import annotations

from pydantic import Field

from polymodal.core.options import StrictModel


class LimitOptions(StrictModel):
    """Limits on one media cell, checked before decoding and again on what was decoded. A cell over one is a fault."""

    megabytes: float = Field(default=64.0, gt=0)
    """Largest file or byte string, in MiB."""
    megapixels: float = Field(default=64.0, gt=0, le=178)
    """Largest image, or frame of a clip, in millions of pixels; Pillow itself refuses more than 178."""
    seconds: float = Field(default=600.0, gt=0)
    """Longest sound or clip, in seconds."""
    frames: int = Field(default=36_000, ge=1)
    """Most frames of a clip or an animation."""
    channels: int = Field(default=32, ge=1)
    """Most channels of a sound."""
    sampling_rate: int = Field(default=192_000, ge=1)
    """Highest sample rate of a sound, in Hz."""
    values: int = Field(default=10_000_000, ge=1)
    """Most numbers in one series."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """Seconds that one cell may take to decode; then its decoder is stopped."""
    memory_mib: int = Field(default=2_048, ge=256)
    """Memory for decoding, as address space in MiB, where the system can bound it (Linux). It comes on top of what
    Python and the libraries of a decoding process map."""
    num_workers: int | None = Field(default=None, ge=1)
    """Most decoding processes; silent: 8. There are never more than processors."""


class SplitOptions(StrictModel):
    """How rows are divided when no validation or test table is given."""

    column: str | None = None
    """A column that says it: `train`, `valid` or `test` in each row."""
    group_column: str | None = None
    """Rows with the same value here stay on one side (a patient, a caption, a recording)."""
    stratify: bool = True
    """Keep class shares equal on all sides; only for a single `classify` output."""
    validation_size: float = Field(default=0.1, gt=0, lt=1)
    """Share of rows for validation (early stopping, checkpoint choice)."""
    test_size: float = Field(default=0.1, ge=0, lt=1)
    """Share of rows held out for the final score; 0 for none."""


class DataOptions(StrictModel):
    """What is read from the table and how."""

    ignore_columns: list[str] = []
    """Columns to leave out, besides those that inference leaves out."""
    weight_column: str | None = None
    """A column of sample weights (0 or more)."""
    sampling_temperature: float = Field(default=1.0, ge=1)
    """With several data sets: each has a share of an epoch in proportion to (its rows)^(1 / temperature). At 1 they are
    as they are; the higher, the more alike are the shares of small sets, whose rows repeat, and large ones."""
    strict: bool = False
    """Refuse the run at the first cell that cannot be used, instead of listing it and treating it as missing."""
    limits: LimitOptions = LimitOptions()
    split: SplitOptions = SplitOptions()
