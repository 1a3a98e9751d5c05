"""`python -m benchmarks.environments [name ...]`: make the environments of the libraries that are compared.

Each is a virtual environment in `environments_folder()`, outside the repository. torch is pinned and installed first;
on Linux without a GPU its CPU build should be the one that the installer finds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

TORCH = f"torch=={torch.__version__.partition('+')[0]}"
TRANSFORMERS = ["transformers==5.23.0", "accelerate==1.15.0", "pillow"]
# Ludwig needs torchvision and torchaudio. Their builds for this version of torch need its CUDA build, so an earlier
# torchvision is installed beside it, of which only the parts written in Python are used, and torchaudio goes without
# its compiled part. Nothing of Ludwig or of its dependencies is replaced; images are decoded with Pillow beforehand.
LUDWIG = ["ludwig==0.11.0", "torchvision==0.15.1", "torchaudio==2.11.0"]
LUDWIG_NEEDS = (
    "h5py pandas scipy tabulate scikit-learn tqdm transformers==5.23.0 sentencepiece PyYAML absl-py requests tables "
    "fsspec[http] dataclasses-json jsonschema marshmallow marshmallow-dataclass tensorboard torchmetrics torchinfo "
    "filelock psutil protobuf rich packaging retry sacremoses pyarrow lxml openpyxl xlrd pillow gpustat datasets spacy"
)


class MissingEnvironment(RuntimeError):
    """The environment of a compared library has not been made."""


def environments_folder() -> Path:
    """`$POLYMODAL_BENCHMARK_ENVIRONMENTS`, else `~/.cache/polymodal-benchmarks`."""
    own = os.environ.get("POLYMODAL_BENCHMARK_ENVIRONMENTS")
    return Path(own).expanduser() if own else Path.home() / ".cache" / "polymodal-benchmarks"


def python_of(name: str) -> Path:
    """The interpreter of an environment.

    Raises:
        MissingEnvironment: it has not been made; the message says how.
    """
    interpreter = environments_folder() / name / "bin" / "python"
    if not interpreter.is_file():
        raise MissingEnvironment(f"make the environment first: python -m benchmarks.environments {name}")
    return interpreter


def make(name: str) -> None:
    """Make the environment `transformers` or `ludwig`; one that is there is completed."""
    place = environments_folder() / name
    if not (place / "bin" / "python").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    _install(place, [TORCH])
    if name == "transformers":
        _install(place, TRANSFORMERS)
        return
    _install(place, ["--no-deps", *LUDWIG])
    _install(place, LUDWIG_NEEDS.split())
    for library in place.glob("lib/python*/site-packages/torchaudio/lib/*.so"):
        library.unlink()


def _install(place: Path, wanted: list[str]) -> None:
    subprocess.run([str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted], check=True)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ["transformers", "ludwig"]:
        make(chosen)
