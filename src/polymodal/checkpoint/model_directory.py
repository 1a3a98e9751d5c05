"""The model directory: weights as safetensors, recipe, tokenizers and vocabularies as JSON, with checksums.

model.safetensors       weights
recipe.yaml             the complete recipe, which reproduces the run
preparation.json        vocabularies, statistics, classes
preparation/            tokenizer files
metrics.json            scores with intervals
run.json                versions, data fingerprints, column roles, history, cell errors by column
manifest.json           format version, dtype of the weights, and the SHA-256 of the files that prediction needs
README.md               the model card
report.html             the report
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from polymodal._version import __version__
from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.core.errors import ArtifactError
from polymodal.core.writing import write_text

FORMAT = 3


def write_model_files(
    folder: Path,
    weights: dict[str, Tensor],
    recipe_yaml: str,
    preparation: dict[str, Any],
    weight_format: dict[str, Any],
) -> None:
    """Write the files that prediction needs into `folder`, and the manifest last. Tokenizer files exist already.

    weight_format: dtype of the weights and of the products
    """
    write_tensors(folder / "model.safetensors", weights)
    write_text(folder / "recipe.yaml", recipe_yaml)
    write_json(folder / "preparation.json", preparation)
    files = [folder / "model.safetensors", folder / "recipe.yaml", folder / "preparation.json"]
    files += [path for path in sorted((folder / "preparation").rglob("*")) if path.is_file()]
    sums = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    manifest = {"format": FORMAT, "polymodal": __version__, "weight_format": weight_format, "sha256": sums}
    write_json(folder / "manifest.json", manifest)


def verify_model_files(folder: Path) -> dict[str, Any]:
    """Check that all files exist and are unchanged; returns the dtype of the weights and of the products.

    Raises:
        ArtifactError: the folder holds no model, a file is missing or was changed, or the format is newer.
    """
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise ArtifactError(f"{folder} is not a model directory: it has no manifest.json")
    manifest = read_json(manifest_path)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("sha256"), dict):
        raise ArtifactError(f"{manifest_path} is damaged")
    if manifest.get("format") != FORMAT:
        raise ArtifactError(
            f"{folder} has format {manifest.get('format')}, written by polymodal {manifest.get('polymodal')}; "
            f"this is polymodal {__version__}, which reads format {FORMAT}"
        )
    for name, expected in manifest["sha256"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ArtifactError(f"{manifest_path} refers to a file outside the model directory: {name}")
        if not path.is_file():
            raise ArtifactError(f"{path} is missing")
        if file_sha256(path) != expected:
            raise ArtifactError(f"{path} was changed after the model was saved; restore it or train again")
    return dict(manifest.get("weight_format", {}))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights.

    Raises:
        ArtifactError: the file cannot be read.
    """
    try:
        return load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{folder / 'model.safetensors'} cannot be read: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; NaN and infinities become null."""
    text = json.dumps(json_ready(value), ensure_ascii=False, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def json_ready(value: Any) -> Any:
    """The value with text keys, lists in place of tuples, and None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): json_ready(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(path: Path) -> Any:
    """Read a JSON file of a model directory.

    Raises:
        ArtifactError: the file cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
