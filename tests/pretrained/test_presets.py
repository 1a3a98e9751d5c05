"""Presets: complete, with permissive licenses, pinned, and refreshed from a hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from polymodal.core.errors import RecipeError
from polymodal.pretrained.presets import FILE, Preset, all_presets, refresh

PERMISSIVE = {"Apache-2.0", "MIT", "BSD-3-Clause"}
EVERY = [(modality, name, one) for modality, named in all_presets().items() for name, one in named.items()]


@pytest.mark.parametrize(("modality", "name", "preset"), EVERY, ids=[f"{m}-{n}" for m, n, _ in EVERY])
def test_every_preset_is_complete_and_pinned(modality: str, name: str, preset: Preset) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", preset.model)
    assert preset.license in PERMISSIVE
    assert preset.unverified if preset.revision is None else re.fullmatch(r"[0-9a-f]{40}", preset.revision)
    assert preset.megabytes > 0
    assert preset.parameters > 0
    assert preset.input_format
    assert preset.reason


@pytest.mark.parametrize("modality", ["text", "image", "audio", "video"])
def test_the_best_preset_is_larger_than_the_fast_one(modality: str) -> None:
    named = all_presets()[modality]
    assert named["best"].parameters >= named["balanced"].parameters
    assert named["best"].parameters > named["fast"].parameters


def published(hub: Any, presets: dict[str, Any], tmp_path: Path) -> None:
    """A hub with all presets, with small weights at one commit."""
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(3_000_000))
    for named in presets.values():
        for one in named.values():
            hub.add(one["model"], folder, branch=one.get("branch") or "main")


def test_refresh_updates_from_the_hub(hub: Any, tmp_path: Path) -> None:
    written = json.loads(FILE.read_text())
    written = {"text": {"fast": {**written["text"]["fast"], "revision": None, "unverified": True}}}
    file = tmp_path / "presets.json"
    file.write_text(json.dumps(written))
    published(hub, written, tmp_path)
    lines = refresh(file)
    new = json.loads(file.read_text())["text"]["fast"]
    assert (new["revision"], new["license"], new["megabytes"], new["parameters"]) == (
        "0123456789abcdef0123456789abcdef01234567",
        "mit",
        3,
        1.5,
    )
    assert "unverified" not in new
    assert {key: new[key] for key in ("model", "input_format", "reason")} == {
        key: written["text"]["fast"][key] for key in ("model", "input_format", "reason")
    }
    assert len(lines) == 1
    assert "Apache-2.0 -> mit" in lines[0]
    assert refresh(file) == []


def test_refresh_keeps_the_file_if_a_preset_is_unknown(hub: Any, tmp_path: Path) -> None:
    written = json.loads(FILE.read_text())
    published(hub, written, tmp_path)
    del hub.repositories[written["video"]["best"]["model"]]
    file = tmp_path / "presets.json"
    file.write_text(FILE.read_text())
    with pytest.raises(RecipeError, match=re.escape(written["video"]["best"]["model"])):
        refresh(file)
    assert file.read_text() == FILE.read_text()


def test_refresh_rejects_a_preset_without_safetensors(hub: Any, tmp_path: Path) -> None:
    written = json.loads(FILE.read_text())
    published(hub, written, tmp_path)
    del hub.repositories[written["text"]["best"]["model"]].files["model.safetensors"]
    file = tmp_path / "presets.json"
    file.write_text(FILE.read_text())
    with pytest.raises(RecipeError, match="another preset"):
        refresh(file)
