"""Data sets for examples and tests: generated with a planted signal (`make_*`), or from a package (`load_*`).

Each `make_*` function returns a table as a dict of columns, which `polymodal.fit` and the other functions accept. The
same arguments give the same rows; `rows` is their number, `seed` the random seed.

    import polymodal
    from polymodal.datasets import make_planted_table

    model = polymodal.fit(make_planted_table(200), target="grade")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polymodal.datasets.boxes import make_shape_boxes
    from polymodal.datasets.captioned_figures import make_captioned_figures, read_figure
    from polymodal.datasets.dialogue import make_dialogues
    from polymodal.datasets.easy_vqa import load_easy_vqa
    from polymodal.datasets.events import make_audio_events, make_series_events, make_video_events
    from polymodal.datasets.functions import make_functions
    from polymodal.datasets.moving_shapes import make_moving_shapes, make_moving_shapes_with_audio, make_spoken_digits
    from polymodal.datasets.pages import make_pages
    from polymodal.datasets.pairs import make_planted_pairs
    from polymodal.datasets.planted import (
        make_exclusive_or,
        make_mixed,
        make_planted_images,
        make_planted_table,
        make_planted_text,
    )
    from polymodal.datasets.repairs import make_repairs, make_test_suites
    from polymodal.datasets.scenes import make_scenes
    from polymodal.datasets.translations import make_translations
    from polymodal.datasets.video_summaries import make_video_summaries

# The public names and their modules: a module is imported when one of its names is first used.
_PUBLIC = {
    "load_easy_vqa": "easy_vqa",
    "make_video_events": "events",
    "make_shape_boxes": "boxes",
    "make_video_summaries": "video_summaries",
    "make_captioned_figures": "captioned_figures",
    "make_dialogues": "dialogue",
    "make_exclusive_or": "planted",
    "make_functions": "functions",
    "make_mixed": "planted",
    "make_moving_shapes": "moving_shapes",
    "make_moving_shapes_with_audio": "moving_shapes",
    "make_pages": "pages",
    "make_planted_images": "planted",
    "make_planted_pairs": "pairs",
    "make_planted_table": "planted",
    "make_planted_text": "planted",
    "make_repairs": "repairs",
    "make_scenes": "scenes",
    "make_series_events": "events",
    "make_audio_events": "events",
    "make_spoken_digits": "moving_shapes",
    "make_test_suites": "repairs",
    "make_translations": "translations",
    "read_figure": "captioned_figures",
}

__all__ = [
    "load_easy_vqa",
    "make_audio_events",
    "make_captioned_figures",
    "make_dialogues",
    "make_exclusive_or",
    "make_functions",
    "make_mixed",
    "make_moving_shapes",
    "make_moving_shapes_with_audio",
    "make_pages",
    "make_planted_images",
    "make_planted_pairs",
    "make_planted_table",
    "make_planted_text",
    "make_repairs",
    "make_scenes",
    "make_series_events",
    "make_shape_boxes",
    "make_spoken_digits",
    "make_test_suites",
    "make_translations",
    "make_video_events",
    "make_video_summaries",
    "read_figure",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"polymodal.datasets has no {name!r}")
    import importlib

    return getattr(importlib.import_module(f"polymodal.datasets.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
