"""The outputs of each command, with hostile places for them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SETTINGS = ["training.epochs=1", "hidden_size=8", "training.num_threads=1", "training.precision=fp32"]
SETTINGS += ["evaluation.bootstrap_samples=0", "evaluation.unimodal_scores=none"]
QUICK = tuple(word for setting in SETTINGS for word in ("--set", setting))


@dataclass(frozen=True)
class Output:
    """The output of a command.

    words: the command without its output, run in a folder with `table.csv` and the model directory `model`
    writes: a file, a directory of its own, or reports in a folder
    name: the name of the output
    inputs: files and directories that the command reads
    runs: whether the command succeeds with the planted table and model
    """

    words: tuple[str, ...]
    writes: Literal["file", "directory", "reports"]
    name: str
    inputs: tuple[str, ...] = ("table.csv",)
    runs: bool = True


BOTH, LINES = ("table.csv", "model"), ("table.jsonl",)
OUTPUTS = {
    "fit": Output(("table.csv", "--target", "kind", *QUICK), "directory", "out"),
    "pretrain": Output(("table.csv", *QUICK, "--set", "data.ignore_columns=[kind]"), "directory", "out"),
    "predict": Output(("model", "table.csv"), "file", "out.csv"),
    # called again, it continues and is not refused
    "prepare": Output(("table.csv", "--target", "kind", *QUICK), "directory", "out", runs=False),
    "evaluate": Output(("model", "table.csv", "--robustness"), "reports", "out"),
    "explain": Output(("model", "table.csv"), "reports", "out", BOTH),
    "init": Output(("table.csv", "--target", "kind"), "file", "out.yaml"),
    "cross-validate": Output(("table.csv", "--target", "kind", "--folds", "2", *QUICK), "reports", "out"),
    "curate": Output(("table.csv", "--model", "model"), "reports", "out"),
    "few-shot": Output(("model", "table.csv", "--target", "kind"), "directory", "out", BOTH),
    "generate": Output(("model", "table.jsonl"), "file", "out.jsonl", LINES, runs=False),
    "index": Output(("table.csv", "--model", "model"), "directory", "out", BOTH),
    "multitask-gain": Output(("table.csv", "--target", "kind", "--target", "price", *QUICK), "directory", "out"),
    "active-learning": Output(("model", "unlabeled.csv", "--count", "2"), "file", "out.csv", ("unlabeled.csv",)),
    "transcribe": Output(("model", "table.jsonl"), "file", "out.jsonl", LINES, runs=False),
    "tune": Output(
        ("table.csv", "--target", "kind", "--trials", "1", "--folds", "2", "--time-limit", "none", *QUICK),
        "directory",
        "out",
    ),
    "zero-shot": Output(("model", "table.jsonl", "--classes", "a,b"), "file", "out.jsonl", LINES, runs=False),
    "ensemble": Output(("model", "second"), "directory", "out", ("model", "second")),
    "compress": Output(("model", "table.csv", "--dtype", "fp32"), "directory", "out", BOTH),
    "export": Output(("model", "table.csv"), "directory", "out", BOTH),
    "demo": Output((), "directory", "out", (), runs=False),
}
#: Commands that write nothing, or only into the cache.
WITHOUT_OUTPUT = {"plan", "list", "recipes", "compare", "search", "index-delete", "cache", "schema", "weights"}
WITHOUT_OUTPUT |= {"serve", "diagnose", "doctor"}
WITHOUT_OUTPUT |= {"tune-worker"}  # of a search that is there


def hostile(output: Output, folder: Path) -> dict[str, tuple[str, ...]]:
    """Places where the output must not go, made in `folder`, by a description: the words of --out and other options."""
    made = {**{f"its input {name}": (name, "--overwrite") for name in output.inputs}}
    made["inside a model"] = (f"model/{output.name}", "--overwrite")
    made["inside an unknown folder of a model"] = (f"model/new/{output.name}", "--overwrite")
    if output.writes == "file":
        suffix = Path(output.name).suffix
        for name in output.inputs:
            (folder / f"link{suffix}").symlink_to(name)
            os.link(folder / name, folder / f"hard{suffix}")
            made[f"a link to {name}"] = (f"link{suffix}", "--overwrite")
            made[f"another name of {name}"] = (f"hard{suffix}", "--overwrite")
        (folder / f"mine{suffix}").write_text("precious")
        (folder / f"folder{suffix}").mkdir()
        made["an existing file"] = (f"mine{suffix}",)
        made["a directory"] = (f"folder{suffix}", "--overwrite")
        return made
    (folder / "mine.txt").write_text("precious")
    made["an existing file"] = ("mine.txt", "--overwrite")
    if output.writes == "reports":
        (folder / "reports").mkdir()
        for name in ("robustness.json", "cross_validation.json", "curation.html", "explanations.html"):
            (folder / "reports" / name).write_text("precious")
        made["existing files"] = ("reports",)
        return made
    (folder / "project").mkdir()
    (folder / "project" / "log.jsonl").write_text("{}\n")
    (folder / "project" / "precious.txt").write_text("precious")
    made["a folder with foreign files"] = ("project",)
    made["a folder with foreign files, to overwrite"] = ("project", "--overwrite")
    made["the working directory"] = (".",)
    made["the working directory, to overwrite"] = (".", "--overwrite")
    made["a model that exists"] = ("second",)
    return made


def digests(folder: Path) -> dict[str, str]:
    """What is in a folder: the SHA-256 of each file, the target of each link, and the folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        else:
            found[name] = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found
