"""Resolve the name of a checkpoint (a preset, starter weights, a folder, or a hub id) to its files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.pretrained import hub
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.presets import pinned_revision, presets
from polymodal.pretrained.starter import registry as starter

#: The JSON files of a checkpoint in `CheckpointConfig.files`, by their keys there.
CONFIG_FILES = {
    "config": "config.json",
    "preprocessor_config": "preprocessor_config.json",
    "video_preprocessor_config": "video_preprocessor_config.json",
    "processor_config": "processor_config.json",
    "tokenizer_config": "tokenizer_config.json",
    "generation_config": "generation_config.json",
    "modules": "modules.json",
    "pooling": "1_Pooling/config.json",
    "sentence_bert_config": "sentence_bert_config.json",
}
README = "README.md"
#: Newer checkpoints have the chat template in a separate file; it is added to `tokenizer_config` as in older ones.
CHAT_TEMPLATE = "chat_template.jinja"
#: Keys in `processor_config.json` of a multimodal model for the processor of each modality.
PROCESSOR_PARTS = {
    "image": ["image_processor"],
    "audio": ["feature_extractor"],
    "video": ["video_processor", "image_processor"],
}
WHOLE_WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
WEIGHTS = [WHOLE_WEIGHTS, "model-*.safetensors", WEIGHTS_INDEX]
HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)


def read_checkpoint_config(model: str, modality: str) -> CheckpointConfig:
    """Read the configuration files of the checkpoint `model`, without its weights.

    model: a preset; `starter/minilm`, `starter/efficientnet-lite0`, `starter/whisper-tiny.en` or
        `starter/gemma3-270m`; a folder; or a hub id `owner/name`, optionally with `@revision`. A folder takes
        precedence over a hub id of the same name.
    modality: `text`, `image`, `audio` or `video`; presets (`starter`, `fast`, `balanced`, `best`) depend on it

    Raises:
        RecipeError: there is no such preset, folder or hub id, or it is not available or not readable.
        MissingExtraError: it requires an optional package.
    """
    if model == "starter" or model.startswith("starter/"):
        name = starter.resolve(model, modality)
        return _from_folder(
            model, f"starter/{name}", starter.folder(name), "", starter.STARTERS[name].license, modality
        )
    if model in presets(modality):
        return _from_hub(model, *pinned_revision(model, modality), modality)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _from_folder(model, str(folder.resolve()), folder, "", "", modality)
    matched = HUB_ID.fullmatch(model)
    if matched is None or model.startswith("."):
        known = ["starter", *presets(modality)]
        raise RecipeError(
            "",
            f"unknown checkpoint {model!r}: use a preset ({', '.join(known)}), an existing folder with "
            f"config.json, or a hub id such as owner/name; {did_you_mean(model, known)}",
        )
    return _from_hub(model, matched["repo"], matched["revision"], modality)


def weights_folder(checkpoint: CheckpointConfig) -> Path:
    """The folder with the weights of a checkpoint, for `from_pretrained`; they are downloaded if necessary.

    Raises:
        RecipeError: the weights are not available, are not in safetensors format, or differ from the published ones.
        MissingExtraError: they require an optional package.
    """
    folder = _folder(checkpoint, WEIGHTS)
    index = folder / WEIGHTS_INDEX
    if index.is_file():
        shards = sorted(set(_json(index)["weight_map"].values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise RecipeError(
                "", f"checkpoint {checkpoint.name!r} is incomplete: {', '.join(missing)} missing in {folder}"
            )
    elif not (folder / WHOLE_WEIGHTS).is_file():
        raise RecipeError(
            "",
            f"checkpoint {checkpoint.name!r} has no model.safetensors. Other formats (.bin, .pt, .h5) are not "
            "supported, since loading a pickle can run arbitrary code. If you trust the checkpoint, convert it once: "
            "AutoModel.from_pretrained(...).save_pretrained(FOLDER), then use that folder",
        )
    return folder


def cached_weights(repo: str, revision: str | None) -> str | None:
    """The folder with the weights of a repository in the cache of the hub, without network access; None: not cached."""
    folder = hub.cached(repo, revision)
    ready = folder is not None and any((folder / file).is_file() for file in (WHOLE_WEIGHTS, WEIGHTS_INDEX))
    return str(folder) if ready else None


def tokenizer_file(checkpoint: CheckpointConfig) -> Path:
    """The `tokenizer.json` of a checkpoint; legacy tokenizer files are converted once, into the cache.

    Raises:
        RecipeError: the checkpoint has no tokenizer, or its tokenizer cannot be converted.
        MissingExtraError: the conversion requires an optional package.
    """
    from polymodal.pretrained.tokenizer import TOKENIZER_FILES, convert_tokenizer

    folder = _folder(checkpoint, TOKENIZER_FILES)
    ready = folder / "tokenizer.json"
    return ready if ready.is_file() else convert_tokenizer(checkpoint, folder)


def _folder(checkpoint: CheckpointConfig, patterns: list[str]) -> Path:
    """The folder with the files of a checkpoint; files on the hub that match `patterns` are downloaded first."""
    if checkpoint.source.startswith("starter/"):
        return starter.folder(checkpoint.source.removeprefix("starter/"))
    if checkpoint.revision:
        return hub.fetch(checkpoint.source, checkpoint.revision, patterns).folder
    folder = Path(checkpoint.source)
    if not folder.is_dir():
        raise RecipeError("", f"the folder {folder} of checkpoint {checkpoint.name!r} does not exist any more")
    return folder


def _from_hub(model: str, repo: str, revision: str | None, modality: str) -> CheckpointConfig:
    snapshot = hub.fetch(repo, revision, [*CONFIG_FILES.values(), README, CHAT_TEMPLATE])
    return _from_folder(model, repo, snapshot.folder, snapshot.commit, "", modality)


def _from_folder(model: str, source: str, folder: Path, revision: str, license: str, modality: str) -> CheckpointConfig:
    files = {name: _json(folder / file) for name, file in CONFIG_FILES.items() if (folder / file).is_file()}
    if "model_type" not in files.get("config", {}):
        raise RecipeError(
            "", f"checkpoint {model!r} has no config.json with a model_type in {folder}: transformers cannot load it"
        )
    if modality == "text" and (folder / CHAT_TEMPLATE).is_file():
        template = (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
        files["tokenizer_config"] = {**files.get("tokenizer_config", {}), "chat_template": template}
    processors = files.pop("processor_config", {})
    video = files.pop("video_preprocessor_config", None)
    if modality == "video" and video is not None:
        files["preprocessor_config"] = video
    for part in PROCESSOR_PARTS.get(modality, []):
        if part in processors:
            files.setdefault("preprocessor_config", processors[part])
    return CheckpointConfig(model, source, revision, license or _read_license(folder), files)


def _read_license(folder: Path) -> str:
    """The license in the front matter of a checkpoint's README; "" without one."""
    import yaml

    readme = folder / README
    matched = FRONT_MATTER.match(readme.read_text(encoding="utf-8", errors="replace")) if readme.is_file() else None
    try:
        front = yaml.safe_load(matched[1]) if matched else {}
    except yaml.YAMLError:
        return ""
    license = front.get("license_name") or front.get("license") if isinstance(front, dict) else None
    return str(license) if license else ""


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecipeError("", f"{path} is damaged ({error}): delete it and download the checkpoint again") from error
