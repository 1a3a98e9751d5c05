"""The recipe for clips writes what happens in them, in order, and not what usually happens."""

from __future__ import annotations

import numpy as np

from polymodal.datasets.video_summaries import make_video_summaries
from polymodal.workflows.fit import fit


def test_a_summary_tells_the_scenes_of_its_own_clip_in_order() -> None:
    train, valid, test = (make_video_summaries(rows, seed, scenes=2) for seed, rows in enumerate((300, 40, 60)))
    settings = [
        "hidden_size=32",
        "training.batch_size=16",
        "training.epochs=18",
        "training.precision=fp32",
        "training.num_threads=1",
    ]
    settings += ["evaluation.bootstrap_samples=0", "inputs.clip.modality.num_frames=2"]
    model = fit(train, recipe="summarize_video", settings=settings, validation=valid, test=test)
    written = np.array(model.predict({"clip": test["clip"]}))
    right = np.mean(written == np.array(test["summary"]))
    exchanged = np.mean(written == np.array(test["summary"][::-1]))
    assert right > 0.5
    assert exchanged < 0.2
    several = [row for row, summary in enumerate(test["summary"]) if ", then" in summary]
    backwards = [", then ".join(reversed(test["summary"][row].rstrip(".").split(", then "))) + "." for row in several]
    assert np.mean(written[several] == np.array(backwards)) < 0.2
