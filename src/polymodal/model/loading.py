"""`load`: what stands in a directory, a model or an ensemble of models."""

from __future__ import annotations

from pathlib import Path

from polymodal.core.errors import ArtifactError
from polymodal.model.ensemble import FILE, Ensemble
from polymodal.model.model import Model


def load(folder: Path | str, *, device: str = "auto") -> Model | Ensemble:
    """Read the model or ensemble that `save` wrote into `folder`; nothing else is needed, and no network.

    device: where to predict: `cpu`, `cuda` (or `cuda:1`, ...), `mps`; `auto` takes an accelerator if there is one

    Raises:
        ArtifactError: the folder holds neither, or a file is missing, altered, or of a later format.
        RecipeError: there is no such device.
    """
    folder = Path(folder)
    if (folder / FILE).is_file():
        return Ensemble.load(folder, device=device)
    if (folder / "manifest.json").is_file():
        return Model.load(folder, device=device)
    state = f"holds neither manifest.json (a model) nor {FILE} (an ensemble)" if folder.is_dir() else "is not there"
    raise ArtifactError(f"{folder} is not a model directory: it {state}")
