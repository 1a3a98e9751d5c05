"""Two towers from scratch: matching names and images of emoji that are not in the training set.

Data: `@lobehub/fluent-emoji-3d` 1.1.0 (3-D images), `emoji-datasource-google` 16 (flat images of 64 pixels, only
for training) and `emojibase-data` 17 (English names and tags), packages of npm, not redistributed here.

Two ways to hold emoji out: at random, where the same gesture in another skin tone may be in the training set ("new
combinations"), and by whole gestures and objects ("new emoji"), of which no variant is.

    python -m benchmarks.emoji_retrieval FOLDER      # FOLDER: the unpacked packages, or where to unpack them
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.record import Record, run_study
from polymodal import pretrain
from polymodal.model.model import Model

PACKAGES = {
    "3d": "@lobehub/fluent-emoji-3d@1.1.0",
    "flat": "emoji-datasource-google@16.0.0",
    "names": "emojibase-data@17.0.0",
}
COMPONENT_GROUP = 2  # skin tones and hair styles on their own
RECIPE: dict[str, Any] = {
    "inputs": {
        "picture": {
            "modality": {"name": "image", "image_size": 64, "resize_mode": "pad", "translate": 0.06},
            "encoder": "resnet",
        },
        "name": {"modality": {"name": "text", "lowercase": True, "vocab_size": 3000}, "encoder": "embedding_bag"},
    },
    "hidden_size": 192,
    "objectives": [{"name": "contrastive", "embedding_dim": 128}],
    "data": {"split": {"test_size": 0}},
    "training": {
        "epochs": 20,
        "batch_size": 256,
        "learning_rate": 0.002,
        "weight_decay": 0.05,
        "average_top_k": 1,
        "early_stopping_patience": 20,
        "precision": "bf16",
        "num_threads": 1,
    },
}


class Emoji(NamedTuple):
    """An emoji: its code, the code of its gesture or object, its name and tags, and its two images."""

    code: str
    base: str
    name: str
    tags: list[str]
    solid: Path
    flat: Path


def fetch(folder: Path) -> dict[str, Path]:
    """The unpacked packages below `folder`."""
    folders = {}
    for key, package in PACKAGES.items():
        folders[key] = folder / key / "package"
        if not folders[key].is_dir():
            (folder / key).mkdir(parents=True, exist_ok=True)
            packed = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True)
            with tarfile.open(folder / packed.stdout.decode().strip().splitlines()[-1]) as archive:
                archive.extractall(folder / key, filter="data")
    return folders


def emoji(folder: Path) -> list[Emoji]:
    """Every emoji with both images, with its name and tags; each skin tone is a separate emoji."""
    folders = fetch(folder)
    solid = {_code(path.stem): path for path in (folders["3d"] / "assets").glob("*.webp")}
    flat = {_code(path.stem): path for path in (folders["flat"] / "img/google/64").glob("*.png")}
    result = []
    for entry in json.loads((folders["names"] / "en/data.json").read_text("utf-8")):
        if entry.get("group", COMPONENT_GROUP) == COMPONENT_GROUP:
            continue
        base = _code(entry["hexcode"])
        for variant in (entry, *entry.get("skins", [])):
            code = _code(variant["hexcode"])
            if code in solid and code in flat:
                result.append(Emoji(code, base, variant["label"], entry.get("tags", []), solid[code], flat[code]))
    return result


def _code(name: str) -> str:
    return name.lower().replace("-fe0f", "")


def rows(chosen: list[Emoji], folder: Path, *, training: bool) -> dict[str, list[str]]:
    """A row for each emoji: its 3-D image with name and tags. In training also the flat image, and each image with the
    name only."""
    images, names = [], []
    for one in chosen:
        for image in (one.solid, one.flat) if training else (one.solid,):
            for text in (
                (f"{one.name}: {', '.join(one.tags)}", one.name)
                if training
                else (f"{one.name}: {', '.join(one.tags)}",)
            ):
                images.append(str(image.relative_to(folder)))
                names.append(text)
    return {"picture": images, "name": names}


def split(found: list[Emoji], group: list[str], seed: int) -> tuple[list[Emoji], list[Emoji], list[Emoji]]:
    """Training, validation and test emoji: a fifth of the groups is the test, a twelfth of the others the
    validation."""
    names = sorted(set(group))
    order = np.random.default_rng(seed).permutation(len(names))
    part = {names[index]: ("test" if rank < len(names) // 5 else "rest") for rank, index in enumerate(order)}
    rest = [names[index] for index in order[len(names) // 5 :]]
    part |= dict.fromkeys(rest[::12], "validation")
    chosen: dict[str, list[Emoji]] = {"test": [], "validation": [], "rest": []}
    for one, key in zip(found, group, strict=True):
        chosen[part[key]].append(one)
    return chosen["rest"], chosen["validation"], chosen["test"]


def run(found: list[Emoji], group: list[str], folder: Path, seed: int) -> tuple[Model, float]:
    """Pretrain on one split; the model, and the seconds with preparation and scoring."""
    train, valid, test = split(found, group, seed)
    start = time.perf_counter()
    tables = [rows(part, folder, training=part is train) for part in (train, valid, test)]
    recipe = RECIPE | {"seed": seed}
    model = pretrain(tables[0], recipe=recipe, validation=tables[1], test=tables[2], root=folder, progress=True)
    return model, time.perf_counter() - start


def measure(folder: Path, seeds: int = 2) -> Record:
    """Pretrain on several splits of each kind."""
    found = emoji(folder)
    record = Record(
        name="emoji_retrieval",
        title="Names and images of new emoji, two towers from scratch",
        method=f"Contrastive pretraining of a small residual network and a bag of words on emoji of two styles, "
        f"{seeds} random splits of each kind, a fifth held out; recall@1 of held-out names among held-out "
        "3-D images, in multiples of chance. In new combinations the same gesture may be in the training set in "
        "another skin tone; of new emoji no variant is. Settings were chosen on the first split of the first kind.",
        unit="recall@1 / chance",
        larger_is_better=True,
    )
    for title, group in (
        ("new combinations", [one.code for one in found]),
        ("new emoji", [one.base for one in found]),
    ):
        for seed in range(seeds):
            model, seconds = run(found, group, folder, seed)
            scores = model.metrics["test"]
            for direction, shown in (("name -> picture", "picture by name"), ("picture -> name", "name by picture")):
                one = scores[direction]["recall@1"]
                record.values.setdefault(f"{title}: {shown}", []).append(one["value"] / one["baseline"])
                record.facts[f"{title}, split {seed + 1}, {shown}"] = (
                    f"recall@1 {one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f}), chance "
                    f"{one['baseline']:.4f}; recall@10 {scores[direction]['recall@10']['value']:.3f}, "
                    f"median rank {scores[direction]['median_rank']['value']:.0f}"
                )
            record.facts[f"{title}, split {seed + 1}, seconds"] = (
                f"{seconds:.0f} in total, {model.run.seconds.training:.0f} of training, "
                f"{model.run.rows_per_second:.0f} pairs per second"
            )
    record.facts["parameters"] = sum(parameter.numel() for parameter in model.network.parameters())
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
