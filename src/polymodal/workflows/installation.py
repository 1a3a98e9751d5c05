"""Whether this installation works: versions, machine, extras, cache, and one small run."""

from __future__ import annotations

import importlib.metadata
import re
import time
from dataclasses import dataclass
from typing import Any

from polymodal.core.errors import PolymodalError
from polymodal.core.paths import cache_folder, cache_writes, media_cache_folder

#: Packages whose versions are shown.
PACKAGES = ("numpy", "torch", "pyarrow", "pydantic", "safetensors", "scikit-learn", "lightgbm", "transformers")
#: Extras for the work on Polymodal itself.
INTERNAL_EXTRAS = ("dev", "docs")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[(?P<extras>[^\]]*)\])?")
_EXTRA = re.compile(r"""extra\s*==\s*["'](?P<extra>[^"']+)["']""")


@dataclass(frozen=True)
class Installation:
    """What was found. `problems` is empty if everything that was tried works.

    versions: by package, its version; empty if it is not installed
    machine: facts about the machine, in the order in which they are shown
    extras: by extra, the packages that are missing
    """

    versions: dict[str, str]
    machine: dict[str, str]
    extras: dict[str, list[str]]
    problems: list[str]


def check_installation() -> Installation:
    """Look at this installation, and train and use one model of 24 rows in memory."""
    from polymodal._version import __version__

    problems: list[str] = []
    machine = _machine(problems)
    seconds = _small_run(problems)
    if seconds is not None:
        machine["small run"] = f"trained and predicted in {seconds:.1f} s"
    versions = {"polymodal": __version__, **{name: version(name) for name in PACKAGES}}
    return Installation(versions, machine, missing_packages(), problems)


def version(package: str) -> str:
    """The version of an installed package, or an empty text."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def missing_packages() -> dict[str, list[str]]:
    """By extra, the packages that it needs and that are not installed; without any extra if Polymodal itself is not
    installed, but run from its files.

    Example:
        >>> all(isinstance(packages, list) for packages in missing_packages().values())
        True
    """
    try:
        lines = importlib.metadata.requires("polymodal") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    needed: dict[str, list[tuple[str, list[str]]]] = {}
    for line in lines:
        requirement, _, condition = line.partition(";")
        extra, found = _EXTRA.search(condition), _REQUIREMENT.match(requirement.strip())
        if extra is not None and found is not None:
            inner = [one.strip() for one in (found["extras"] or "").split(",") if one.strip()]
            needed.setdefault(extra["extra"], []).append((found["name"], inner))
    return {extra: _missing(extra, needed) for extra in sorted(needed) if extra not in INTERNAL_EXTRAS}


def _missing(extra: str, needed: dict[str, list[tuple[str, list[str]]]]) -> list[str]:
    missing: list[str] = []
    for package, inner in needed.get(extra, []):
        if package.lower() == "polymodal":  # an extra that contains others
            missing += [name for one in inner for name in _missing(one, needed)]
        elif not version(package):
            missing.append(package)
    return list(dict.fromkeys(missing))


def _machine(problems: list[str]) -> dict[str, str]:
    import platform

    import torch

    from polymodal.runtime.compute import has_bf16, resolve_device
    from polymodal.runtime.cpu_kernels import processor_name

    device = resolve_device("auto")
    found = {
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "processor": f"{processor_name()}, {torch.get_num_threads()} threads",
        "device": f"{device}{', with bf16' if has_bf16(device) else ', without bf16'}",
        "cache": str(cache_folder()),
    }
    try:
        with cache_writes(media_cache_folder()):
            media_cache_folder().mkdir(parents=True, exist_ok=True)
            probe = media_cache_folder() / "probe"
            probe.write_bytes(b"")
            probe.unlink()
    except (OSError, PolymodalError) as error:
        problems.append(
            f"the cache {cache_folder()} cannot be written ({error}); set POLYMODAL_CACHE to another folder"
        )
    return found


def _small_run(problems: list[str]) -> float | None:
    """Train a network on 24 rows and predict; the seconds, or None with a further problem."""
    from polymodal.workflows.fit import fit

    table: dict[str, list[Any]] = {
        "length": [1.0, 1.5, 4.0, 4.5] * 6,
        "color": ["red", "blue"] * 12,
        "kind": ["short", "short", "long", "long"] * 6,
    }
    settings = {"members": [], "hidden_size": 8, "training.epochs": 20, "evaluation.unimodal_scores": "none"}
    begun = time.perf_counter()
    try:
        model = fit(table, "kind", settings=settings | {"evaluation.bootstrap_samples": 0})
        answers = model.predict({"length": [1.2, 4.2], "color": ["red", "blue"]})
    except Exception as error:  # noqa: BLE001  # whatever fails is what this command is to tell
        problems.append(f"a small run fails: {type(error).__name__}: {error}")
        return None
    if list(answers) != ["short", "long"]:
        problems.append(f"a small run predicts {list(answers)}, not ['short', 'long']: torch computes wrong numbers")
    return time.perf_counter() - begun
