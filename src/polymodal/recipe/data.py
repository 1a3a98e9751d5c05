"""Recipe section `data`: splits, limits, and what happens to cells that cannot be used."""

from __future__ import annotations

from pydantic import Field

from polymodal.recipe.options import Strict


class LimitOptions(Strict):
    """Limits on one media cell, checked before decoding. A cell over a limit is a fault."""

    megabytes: float = Field(default=64.0, gt=0)
    """Largest file or byte string, in MiB."""
    megapixels: float = Field(default=64.0, gt=0, le=178)
    """Largest image, in millions of pixels, read from its header; Pillow itself refuses more than 178."""


class SplitOptions(Strict):
    """How rows are divided when no validation or test table is given."""

    column: str | None = None
    """A column that says it: `train`, `valid` or `test` in each row."""
    group: str | None = None
    """Rows with the same value here stay on one side (a patient, a caption, a recording)."""
    stratify: bool = True
    """Keep class shares equal on all sides; only for a single `classify` output."""
    valid: float = Field(default=0.1, gt=0, lt=1)
    """Share of rows for validation (early stopping, checkpoint choice)."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """Share of rows held out for the final score; 0 for none."""


class DataOptions(Strict):
    """What is read from the table and how."""

    ignore: list[str] = []
    """Columns to leave out, besides those that inference leaves out."""
    weight: str | None = None
    """A column of sample weights (0 or more)."""
    strict: bool = False
    """Refuse the run at the first cell that cannot be used, instead of listing it and treating it as missing."""
    limits: LimitOptions = LimitOptions()
    split: SplitOptions = SplitOptions()
