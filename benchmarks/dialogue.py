"""Does the dialogue history matter? Synthetic dialogues about drawn scenes, with and without their history.

python -m benchmarks.dialogue FOLDER     # FOLDER: for the trained models, or with them
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.record import Record, run_study
from polymodal.datasets.dialogue import make_dialogues
from polymodal.workflows.fit import fit

SCENES, TEST_SCENES = 1_500, 300
SETTINGS = ["training.epochs=16", "training.batch_size=32", "outputs.answer.task.metrics=[exact_match]"]
#: Changes to the shipped recipe.
VARIANTS = {
    "with history": [],
    "without history": ["outputs.answer.task.history=null"],
}
TURNS = ("first question", "how many of those", "and how many others")


def measure(folder: Path) -> Record:
    """Train with and without history on the same scenes; score new scenes turn by turn."""
    train, test = make_dialogues(SCENES, seed=0), make_dialogues(TEST_SCENES, seed=1)
    record = Record(
        name="dialogue",
        title="Dialogue about an image: synthetic scenes, a decoder from scratch, with and without history",
        method=f"{SCENES:,} training scenes of three turns, {TEST_SCENES} new scenes for the test; the shipped "
        f"recipe chat_with_image, {SETTINGS[0].split('=')[1]} epochs. Exact match over all turns. The second and third "
        "question name no object; only the history shows to which of the two groups they refer.",
        unit="exact match",
        larger_is_better=True,
    )
    for variant, settings in VARIANTS.items():
        out = folder / variant.replace(" ", "-")
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
        record.values[variant] = [score["value"]]
        correct = [reply == true for reply, true in zip(model.predict(test), test["answer"], strict=True)]
        turns = {turn: sum(correct[index::3]) / TEST_SCENES for index, turn in enumerate(TURNS)}
        record.facts[f"{variant}, interval"] = f"{score['low']:.3f} to {score['high']:.3f}"
        record.facts[f"{variant}, by turn"] = {turn: round(value, 3) for turn, value in turns.items()}
        record.facts["baseline"] = score["baseline"]
        record.facts[f"{variant}, seconds of training"] = model.run.seconds.training
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
