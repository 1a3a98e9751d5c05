"""Presets: recommended public checkpoints by modality and quality, in `presets.json`.

`python -m polymodal.pretrained.presets --refresh` updates the commit, license and size of each from the hub.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from polymodal.core.caller import warn_caller
from polymodal.core.errors import PolymodalWarning, RecipeError

FILE = Path(__file__).with_name("presets.json")


@dataclass(frozen=True)
class Preset:
    """A recommended checkpoint.

    model: hub id
    revision: full commit hash; None: unknown, then `unverified` is True and the newest commit is used
    license: SPDX identifier; megabytes: size of model.safetensors; parameters: in millions, all parts
    input_format: its inputs (tokens, pixels, sampling rate); reason: why it was chosen
    branch: the branch that has safetensors, if not the default branch
    """

    model: str
    revision: str | None
    license: str
    megabytes: int
    parameters: float
    input_format: str
    reason: str
    unverified: bool = False
    branch: str | None = None


@cache
def all_presets() -> dict[str, dict[str, Preset]]:
    """All presets by modality and name."""
    written = json.loads(FILE.read_text(encoding="utf-8"))
    return {modality: {name: Preset(**one) for name, one in named.items()} for modality, named in written.items()}


def presets(modality: str) -> dict[str, Preset]:
    """The presets of a modality by name; empty for modalities without pretrained encoders.

    Example:
        >>> sorted(presets("image"))
        ['balanced', 'best', 'fast', 'joint']
        >>> presets("number")
        {}
    """
    return all_presets().get(modality, {})


def pinned_revision(name: str, modality: str) -> tuple[str, str | None]:
    """The hub id and commit of a preset. Warns if no commit is pinned; then the newest commit of its branch is used."""
    preset = presets(modality)[name]
    if preset.revision is None:
        warn_caller(
            f"preset {name!r} of {modality}: the commit of {preset.model} is not pinned, so the newest commit is used; "
            f"pin it with checkpoint: {preset.model}@COMMIT",
            PolymodalWarning,
        )
    return preset.model, preset.revision or preset.branch


def refresh(file: Path = FILE) -> list[str]:
    """Update revision, license and size of every preset in `file` from the hub; returns one line per change.

    Raises:
        RecipeError: a model does not exist or has no model.safetensors, or the hub is unreachable; then nothing is
            written.
    """
    written = json.loads(file.read_text(encoding="utf-8"))
    lines: list[str] = []
    for modality, named in written.items():
        for name, one in named.items():
            new = asdict(_newest(Preset(**one)))
            if not new.pop("unverified"):
                one.pop("unverified", None)
            changes = [key for key, value in new.items() if value != one.get(key)]
            descriptions = [f"{key} {one.get(key)} -> {new[key]}" for key in changes]
            lines += [f"{modality} {name} ({new['model']}): {', '.join(descriptions)}"] if descriptions else []
            one.update({key: new[key] for key in changes})
    file.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return lines


def _newest(preset: Preset) -> Preset:
    from huggingface_hub import HfApi

    from polymodal.pretrained.hub import readable_errors

    with readable_errors(preset.model):
        found = HfApi().model_info(preset.model, revision=preset.branch, files_metadata=True)
    sizes: dict[str, Any] = {one.rfilename: one.size for one in found.siblings or []}
    if "model.safetensors" not in sizes:
        raise RecipeError("", f"{preset.model} has no model.safetensors at {found.sha}: choose another preset")
    license = (found.card_data.license if found.card_data else None) or preset.license
    total = found.safetensors.total if found.safetensors else preset.parameters * 1e6
    return replace(
        preset,
        revision=found.sha,
        license=preset.license if str(license).lower() == preset.license.lower() else str(license),
        megabytes=round(sizes["model.safetensors"] / 1e6),
        parameters=round(total / 1e6, 1),
        unverified=False,
    )


if __name__ == "__main__":
    if sys.argv[1:] != ["--refresh"]:
        sys.exit("usage: python -m polymodal.pretrained.presets --refresh")
    try:
        print("\n".join(refresh()) or "nothing has changed")
    except RecipeError as error:
        sys.exit(f"error: {error}")
