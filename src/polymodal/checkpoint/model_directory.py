"""The model directory: weights as safetensors, recipe, tokenizers and vocabularies as JSON, with checksums.

model.safetensors       weights; equal tensors are stored once, and the metadata list their other names
recipe.yaml             the complete recipe, which reproduces the run
preparation.json        vocabularies, statistics, classes
preparation/            tokenizer files
members.json            estimators, weights and temperatures, if the model has estimators
members.safetensors     their arrays; members/ their text files
calibration.safetensors errors on rows that training did not use, for conformal sets and abstention
metrics.json            scores with intervals
run.json                versions, data fingerprints, column roles, history, cell errors by column
manifest.json           format version, dtype of the weights, and the SHA-256 of all files above and of its own content
README.md               the model card
report.html             the report
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from safetensors import safe_open
from torch import Tensor

from polymodal._version import __version__
from polymodal.checkpoint.reading import parsing
from polymodal.checkpoint.shared_weights import alias_metadata, with_aliases, without_copies
from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.checkpoint.weight_format import WeightFormat
from polymodal.core.checksum import sign, signed_values
from polymodal.core.errors import ArtifactError
from polymodal.core.options import StrictModel
from polymodal.core.record import read_record
from polymodal.core.writing import write_text

FORMAT: Final = 5
MANIFEST = "manifest.json"
#: The members of a model with estimators, and their arrays.
MEMBERS, MEMBER_ARRAYS = "members.json", "members.safetensors"
#: Errors on rows that training did not use; see `uncertainty.calibration_file`.
CALIBRATION = "calibration.safetensors"
#: The files of every model.
REQUIRED = ("model.safetensors", "recipe.yaml", "preparation.json", "metrics.json", "run.json")


class Manifest(StrictModel):
    """The content of `manifest.json`.

    polymodal: the version that wrote the model
    sha256: the SHA-256 of each file by its path in the directory, with `/`
    """

    format: Literal[5] = FORMAT
    polymodal: str = __version__
    weight_format: WeightFormat
    sha256: dict[str, str]


def write_model_files(
    folder: Path,
    weights: dict[str, Tensor],
    recipe_yaml: str,
    preparation: dict[str, Any],
    weight_format: WeightFormat,
) -> None:
    """Write the weights, the recipe and the preparation into `folder`, and the manifest last. The other files exist
    already: tokenizers, `metrics.json` and `run.json`.

    weight_format: dtype of the weights and of the products
    """
    kept, aliases = without_copies(weights)
    write_tensors(folder / "model.safetensors", kept, alias_metadata(aliases))
    write_text(folder / "recipe.yaml", recipe_yaml)
    write_json(folder / "preparation.json", preparation)
    names = [*REQUIRED, *_preparation_files(folder), *_optional_files(folder)]
    manifest = Manifest(weight_format=weight_format, sha256={name: file_sha256(folder / name) for name in names})
    write_signed(folder / MANIFEST, manifest.model_dump())


def verify_model_files(folder: Path) -> WeightFormat:
    """Check that all files exist, are listed in the manifest and are unchanged; returns the dtype of the weights and of
    the products.

    Raises:
        ArtifactError: the folder holds no model, a file is missing, was changed or is not listed, or the format is
            another.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{folder} is not a model directory: it has no manifest.json")
    values = read_json(path)
    if isinstance(values, dict) and values.get("format") != FORMAT:
        raise ArtifactError(
            f"{folder} has format {values.get('format')}, written by polymodal {values.get('polymodal')}; "
            f"this is polymodal {__version__}, which reads format {FORMAT}"
        )
    manifest = read_record(Manifest, unsigned(values, path), path)
    unlisted = [
        name
        for name in (*REQUIRED, *_preparation_files(folder), *_optional_files(folder))
        if name not in manifest.sha256
    ]
    if unlisted:
        raise ArtifactError(f"{path} does not list {unlisted[0]}, so this file cannot be checked; save the model again")
    for name, expected in manifest.sha256.items():
        verify_file(folder, name, expected)
    return manifest.weight_format


def verify_file(folder: Path, name: str, sha256: str) -> None:
    """Check that the file `name` in `folder` exists and has this SHA-256.

    Raises:
        ArtifactError: it does not, or it is outside of the folder.
    """
    path = folder / name
    with parsing(folder / MANIFEST):  # a name may hold characters that no file name may have
        inside, exists = path.resolve().is_relative_to(folder.resolve()), path.is_file()
    if not inside:
        raise ArtifactError(f"{folder} refers to a file outside of it: {name}")
    if not exists:
        raise ArtifactError(f"{path} is missing")
    if file_sha256(path) != sha256:
        raise ArtifactError(f"{path} was changed after it was saved; restore it or save it again")


def _preparation_files(folder: Path) -> list[str]:
    """The files in `preparation/`, except hidden ones, which the system puts into folders."""
    found = sorted((folder / "preparation").rglob("*"))
    return [path.relative_to(folder).as_posix() for path in found if path.is_file() and path.name[0] != "."]


def _optional_files(folder: Path) -> list[str]:
    """The files of estimators (`model.ensemble_files`) and of calibration."""
    texts = sorted(path.relative_to(folder).as_posix() for path in (folder / "members").glob("*.txt"))
    return [*(name for name in (MEMBERS, MEMBER_ARRAYS, CALIBRATION) if (folder / name).is_file()), *texts]


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights, under all names. The names of one tensor have the same object.

    Raises:
        ArtifactError: the file cannot be read.
    """
    path = folder / "model.safetensors"
    with parsing(path), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return with_aliases(tensors, file.metadata() or {})


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; NaN and infinities become null."""
    text = json.dumps(json_ready(value), ensure_ascii=False, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def write_signed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with its own checksum, which `unsigned` verifies."""
    write_json(path, sign(json_ready(values)))


def unsigned(values: Any, path: Path) -> dict[str, Any]:
    """The values of a file that `write_signed` wrote, without their checksum.

    Raises:
        ArtifactError: they were changed.
    """
    found = signed_values(values)
    if found is None:
        raise ArtifactError(f"{path} was changed after it was saved, or is damaged; restore it or save it again")
    return found


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
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
