"""Visual question answering as generation: easy-VQA, its official split, the answers written by a decoder from scratch.

The shipped recipe writes the test answers freely, and held to the answers of the training rows.

    python -m benchmarks.vqa_written FOLDER     # FOLDER: where the model is left, or lies already
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.record import Record, run_study
from polymodal.datasets.easy_vqa import load_easy_vqa
from polymodal.metrics.text.answer_matching import exact_match
from polymodal.tasks.text_targets import object_array
from polymodal.workflows.fit import fit

TARGET = 0.98
RECIPE = "vqa_generate"
SETTINGS = ["outputs.answer.task.metrics=[exact_match]", "evaluation.unimodal_scores=mask"]


def measure(folder: Path) -> Record:
    """Train once, and score both ways of writing on the official test part."""
    tables, root = load_easy_vqa()
    model = fit(
        tables["train"],
        recipe=RECIPE,
        settings=SETTINGS,
        test=tables["test"],
        root=root,
        out=folder,
        resume=True,
        progress=True,
    )
    record = Record(
        name="vqa_written",
        title="Visual question answering as generation: easy-VQA, answers written by a decoder from scratch",
        method=f"Official split; {model.recipe.training.epochs} epochs by the shipped recipe: residual network, "
        "bag of words, product fusion and a Transformer decoder, nothing pretrained; one in twenty training images "
        "chooses the epoch. Exact match of the written answer with the true one over all test questions, the likeliest "
        "token each time; closed: only the answers of training rows may be written. Alone: the other input is hidden.",
        unit="exact match",
        larger_is_better=True,
    )
    score, surprise = (model.metrics["test"]["answer"][name] for name in ("exact_match", "perplexity"))
    truth = object_array([(answer,) for answer in tables["test"]["answer"].to_pylist()])
    known = sorted(set(tables["train"]["answer"].to_pylist()))
    held = [texts[0].text for texts in model.generate(tables["test"], root=root, choices=known)]
    record.values["written freely"] = [score["value"]]
    record.values["closed"] = [exact_match().score(object_array(held), truth, np.ones(len(truth)))]
    record.facts = {
        "written freely, interval": f"{score['low']:.4f} to {score['high']:.4f}",
        "target": TARGET,
        "constant answer": score["baseline"],
        "perplexity": surprise["value"],
        "perplexity of the constant answer": surprise["baseline"],
        **{f"{name} alone": value for name, value in score["unimodal"].items()},
        "parameters": model.run.parameters.total,
        "seconds of training": model.run.seconds.training,
        "test questions": len(truth),
    }
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
