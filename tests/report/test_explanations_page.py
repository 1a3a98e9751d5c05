"""The page of explanations draws scores on the items, and shows whether they are faithful."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image

from polymodal.explanation.faithfulness import Faithfulness, gains_over_random
from polymodal.explanation.row_explanations import Explanation, Explanations
from polymodal.report.explanations import FILES, render_explanations, write_explanations


def explanation(scores: np.ndarray, modality: str, preview: PIL.Image.Image | None = None) -> Explanation:
    labels = tuple(f"<part {at}>" for at in range(scores.size))
    judged = (Faithfulness("blank", 0.1, 0.8, 0.5, 0.4),)
    return Explanation(3, "cat", labels, scores, None, 2.0, -1.0, judged, 9, 0.1, modality, preview)


def explanations(*rows: Explanation) -> Explanations:
    gains = tuple(gains_over_random([one.faithfulness for one in rows]))
    return Explanations("input", "occlusion", "class", "log_odds", rows, gains, ("occlusion is <no> better",))


def test_the_words_of_a_text_are_colored_by_their_scores() -> None:
    page = render_explanations(explanations(explanation(np.array([1.0, -0.5, 0.0]), "text")), "table.csv")
    assert '<mark class="for" style="--share: 1.00" title="+1">&lt;part 0&gt;</mark>' in page
    assert '<mark class="against" style="--share: 0.50" title="-0.5">&lt;part 1&gt;</mark>' in page
    assert "too few rows to tell" in page
    assert "occlusion is &lt;no&gt; better" in page


def test_regions_and_spans_are_drawn_on_the_item() -> None:
    picture = PIL.Image.new("RGB", (32, 32), "red")
    image = render_explanations(explanations(explanation(np.eye(8), "image", picture)), "t")
    assert image.count("<rect") == 64 + 5  # the regions, and the bars of the highest scores
    assert "data:image/png;base64," in image
    wide = PIL.Image.new("RGB", (288, 72), "white")
    for scores, modality in ((np.arange(20.0), "audio"), (np.arange(20.0).reshape(10, 2), "time_series")):
        page = render_explanations(explanations(explanation(scores, modality, wide)), "t")
        assert page.count("<rect") == len(scores) + 5


def test_columns_have_bars_and_files_have_all_numbers(tmp_path: Path) -> None:
    found = explanations(explanation(np.array([0.25, -1.0]), "number"))
    write_explanations(tmp_path / "new", found, "table.csv")
    page, record = ((tmp_path / "new" / name).read_text() for name in reversed(FILES))
    assert page.count('<svg class="bar"') == 2
    (row,) = json.loads(record)["rows"]
    assert row["scores"] == [0.25, -1.0]
    assert row["faithfulness"][0]["gain"] > 0
    assert row["completeness_gap"] == 3.75
