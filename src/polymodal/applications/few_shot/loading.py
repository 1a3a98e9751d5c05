"""`load_predictor`: load a model, an ensemble of models, or a few-shot head from a directory."""

from __future__ import annotations

from pathlib import Path

from polymodal.checkpoint.directory_kinds import FEW_SHOT
from polymodal.model.loading import load
from polymodal.model.protocol import PredictsRows


def load_predictor(folder: Path | str) -> PredictsRows:
    """Load the model, the ensemble or the few-shot head in `folder`.

    Raises:
        ArtifactError: the folder contains none of them, or a file is missing, was modified, or has a newer format.
    """
    if (Path(folder) / FEW_SHOT.manifest).is_file():
        from polymodal.applications.few_shot.few_shot import FewShot  # scores and their libraries: not for prediction

        return FewShot.load(folder)
    return load(folder)
