"""`load`: what stands in a directory, a model or an ensemble of models."""

from __future__ import annotations

from pathlib import Path

from polymodal.core.errors import ArtefactError
from polymodal.model.ensemble import FILE, Ensemble
from polymodal.model.model import Model


def load(folder: Path | str) -> Model | Ensemble:
    """Read the model or ensemble that `save` wrote into `folder`; nothing else is needed, and no network.

    Raises:
        ArtefactError: the folder holds neither, or a file is missing, altered, or of a later format.
    """
    folder = Path(folder)
    if (folder / FILE).is_file():
        return Ensemble.load(folder)
    if (folder / "manifest.json").is_file():
        return Model.load(folder)
    state = f"holds neither manifest.json (a model) nor {FILE} (an ensemble)" if folder.is_dir() else "is not there"
    raise ArtefactError(f"{folder} is not a model directory: it {state}")
