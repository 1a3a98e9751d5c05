"""`load_predictor`: what stands in a directory, a model, an ensemble of models, or a few-shot head on a model."""

from __future__ import annotations

from pathlib import Path

from polymodal.applications.few_shot.few_shot import FILE, FewShot
from polymodal.model.loading import load
from polymodal.model.protocol import PredictsRows


def load_predictor(folder: Path | str) -> PredictsRows:
    """What `polymodal.load` reads, or the few-shot head that stands in `folder`.

    Raises:
        ArtefactError: the folder holds none of them, or a file is missing, altered, or of a later format.
    """
    if (Path(folder) / FILE).is_file():
        return FewShot.load(folder)
    return load(folder)
