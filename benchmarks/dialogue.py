"""Does what was said before matter? Generated dialogues about drawn scenes, with their history and without.

python -m benchmarks.dialogue FOLDER     # FOLDER: where the models are left, or lie already
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.record import Record, run_study
from polymodal.datasets.dialogue import make_dialogues
from polymodal.workflows.fit import fit

SCENES, TEST_SCENES = 1_500, 300
SETTINGS = ["training.epochs=16", "training.batch_size=32", "outputs.answer.task.metrics=[exact_match]"]
#: What differs from the shipped recipe.
WAYS = {
    "with history": [],
    "without history": ["outputs.answer.task.history=null", "data.ignore_columns=[history]"],
}
TURNS = ("first question", "how many of those", "and how many others")


def measure(folder: Path) -> Record:
    """Train with the history and without it on the same scenes; score new scenes turn by turn."""
    train, test = make_dialogues(SCENES, seed=0), make_dialogues(TEST_SCENES, seed=1)
    record = Record(
        name="dialogue",
        title="Dialogue with an image: generated scenes, replies written from scratch, with what was said and without",
        method=f"{SCENES:,} training scenes of three turns, {TEST_SCENES} new ones for the test; the shipped recipe "
        f"chat_with_image, {SETTINGS[0].split('=')[1]} epochs. Exact match over all turns. The second and third "
        "question name nothing; which of the two groups they mean, only the history says.",
        unit="exact match",
        larger_is_better=True,
    )
    for way, settings in WAYS.items():
        out = folder / way.replace(" ", "-")
        model = fit(
            train,
            recipe="chat_with_image",
            settings=SETTINGS + settings,
            test=test,
            out=out,
            resume=True,
            progress=True,
        )
        score = model.metrics["test"]["answer"]["exact_match"]
        record.values[way] = [score["value"]]
        right = [said == true for said, true in zip(model.predict(test), test["answer"], strict=True)]
        turns = {turn: sum(right[place::3]) / TEST_SCENES for place, turn in enumerate(TURNS)}
        record.facts[f"{way}, interval"] = f"{score['low']:.3f} to {score['high']:.3f}"
        record.facts[f"{way}, by turn"] = {turn: round(value, 3) for turn, value in turns.items()}
        record.facts["constant answer"] = score["baseline"]
        record.facts[f"{way}, seconds of training"] = model.run.seconds.training
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
