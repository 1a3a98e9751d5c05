"""`load`: read a model or an ensemble from a directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polymodal.checkpoint.directory_kinds import ENSEMBLE, MODEL
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import ArtifactError
from polymodal.model.model import Model

if TYPE_CHECKING:
    from polymodal.model.ensemble import Ensemble


@check_arguments
def load(folder: Path | str, *, device: str = "auto") -> Model | Ensemble:
    """Read the model or ensemble that `save` wrote into `folder`. No other files and no internet access are needed.

    device: device for prediction: `cpu`, `cuda` (or `cuda:1`, ...), `mps`; `auto` uses an accelerator if available

    Raises:
        ArtifactError: the folder holds neither, a file is missing or altered, or the format is not supported.
        RecipeError: the device is not available.

    Example:
        >>> import polymodal, tempfile
        >>> data = {"length": [1.0, 1.2, 5.0, 5.1] * 5, "kind": ["short", "short", "long", "long"] * 5}
        >>> settings = ["training.epochs=1", "evaluation.bootstrap_samples=0"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = polymodal.fit(data, "kind", settings=settings).save(folder)
        ...     model = polymodal.load(folder)
        >>> len(model.predict({"length": [1.1, 5.2]}))
        2
    """
    folder = Path(folder)
    if (folder / ENSEMBLE.manifest).is_file():
        from polymodal.model.ensemble import Ensemble  # scores and intervals: a model does not need them

        return Ensemble.load(folder, device=device)
    if (folder / MODEL.manifest).is_file():
        return Model.load(folder, device=device)
    state = (
        f"holds neither {MODEL.manifest} (a model) nor {ENSEMBLE.manifest} (an ensemble)"
        if folder.is_dir()
        else "does not exist"
    )
    raise ArtifactError(f"{folder} is not a model directory: it {state}")
