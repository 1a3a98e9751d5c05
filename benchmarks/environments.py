"""`python -m benchmarks.environments [name ...]`: create the environments of the compared libraries.

Each is a virtual environment in `environments_folder()`, outside the repository. torch is pinned and installed first.
On Linux without a GPU, configure the installer to find its CPU build.
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
# torchvision is installed, with only its Python parts in use, and torchaudio without its compiled part. No code of
# Ludwig or of its dependencies is replaced; images are decoded with Pillow in advance.
LUDWIG = ["ludwig==0.11.0", "torchvision==0.15.1", "torchaudio==2.11.0"]
LUDWIG_NEEDS = (
    "h5py pandas scipy tabulate scikit-learn tqdm transformers==5.23.0 sentencepiece PyYAML absl-py requests tables "
    "fsspec[http] dataclasses-json jsonschema marshmallow marshmallow-dataclass tensorboard torchmetrics torchinfo "
    "filelock psutil protobuf rich packaging retry sacremoses pyarrow lxml openpyxl xlrd pillow gpustat datasets spacy"
)
# Environments of one command: the contestants of the suite of tables.
PLAIN = {
    "aeon": ["aeon==1.6.0"],
    "skrub": ["skrub==0.11.0", "pandas==3.1.1"],
    "autogluon": ["autogluon.tabular[lightgbm]==1.6.3"],
}


class MissingEnvironment(RuntimeError):
    """The environment of a compared library does not exist."""


def environments_folder() -> Path:
    """`$POLYMODAL_BENCHMARK_ENVIRONMENTS`, else `~/.cache/polymodal-benchmarks`."""
    own = os.environ.get("POLYMODAL_BENCHMARK_ENVIRONMENTS")
    return Path(own).expanduser() if own else Path.home() / ".cache" / "polymodal-benchmarks"


def python_of(name: str) -> Path:
    """The interpreter of an environment.

    Raises:
        MissingEnvironment: it does not exist; the message has the command that creates it.
    """
    interpreter = environments_folder() / name / "bin" / "python"
    if not interpreter.is_file():
        raise MissingEnvironment(f"create the environment first: python -m benchmarks.environments {name}")
    return interpreter


def make(name: str) -> None:
    """Create the environment of a library, or complete an existing one.

    name: `transformers`, `ludwig`, `aeon`, `skrub` or `autogluon`
    """
    environment = environments_folder() / name
    if not (environment / "bin" / "python").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    if name in PLAIN:
        _install(environment, PLAIN[name])
        return
    _install(environment, [TORCH])
    if name == "transformers":
        _install(environment, TRANSFORMERS)
        return
    _install(environment, ["--no-deps", *LUDWIG])
    _install(environment, LUDWIG_NEEDS.split())
    for library in environment.glob("lib/python*/site-packages/torchaudio/lib/*.so"):
        library.unlink()


def _install(environment: Path, packages: list[str]) -> None:
    subprocess.run([str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages], check=True)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ["transformers", "ludwig", *PLAIN]:
        make(chosen)
