"""Training: the trainer against hand-written loops over the same network."""

from __future__ import annotations

import os

from benchmarks import hand_loop
from benchmarks.measure import interleaved
from benchmarks.record import Record
from benchmarks.single_steps import own_choice
from benchmarks.vqa import in_memory, prepared_vqa
from polymodal.runtime.compute import ComputeConfig
from polymodal.training.trainer import Trainer


def run(smallest: bool) -> Record:
    """Rows per second of the demo's training, per contestant."""
    record = Record(
        name="training_loop",
        title="Training on easy-VQA",
        method=(
            "The network of the demo, one process, the batch size of the recipe. Polymodal: one epoch of the "
            "trainer, with all work of a step (batches from the memory-mapped store, clipping, schedule, monitor). "
            "The references hold decoded images and tokenized questions in memory. 'Shared' loops encode an image "
            "once for all its rows in a batch, with fused AdamW, clipping and a schedule; 'plain' loops take rows in "
            "random order, each with its own image, and AdamW with its defaults. All run with Polymodal's allocator "
            "setting, which favors the references."
        ),
        unit="rows/s",
        larger_is_better=True,
    )
    cores = len(os.sched_getaffinity(0))
    with prepared_vqa(smallest, ["training.num_threads=1"] if smallest else None) as vqa:
        splits, preparation = vqa.experiment.splits, vqa.experiment.preparation
        chosen = own_choice(Trainer(vqa.recipe, vqa.network(), preparation, splits))
        data, batch = in_memory(vqa, "train"), vqa.recipe.training.batch_size or 256
        steps = -(-len(data.target) // batch)

        def ours(compute: ComputeConfig) -> float:
            recipe = vqa.computed(compute, epochs=1)
            history = Trainer(recipe, vqa.network(), preparation, splits).run()
            return history.rows / history.seconds

        def shared(compute: ComputeConfig) -> float:
            return hand_loop.train(vqa.network(), hand_loop.shared_images(data, batch), steps, compute, plain=False)

        def plain(compute: ComputeConfig) -> float:
            some = min(steps, 12)
            return hand_loop.train(vqa.network(), hand_loop.one_image_per_row(data, batch), some, compute, plain=True)

        other = ComputeConfig("fp32" if chosen.precision == "bf16" else "bf16", chosen.threads)
        name = f"{chosen.precision}, {chosen.threads} thread{'s' if chosen.threads > 1 else ''}"
        contestants = {
            f"Polymodal ({name}: its own choice)": lambda: ours(chosen),
            f"shared loop ({name})": lambda: shared(chosen),
            f"Polymodal ({other.precision})": lambda: ours(other),
            f"shared loop ({other.precision})": lambda: shared(other),
            f"plain loop ({name})": lambda: plain(chosen),
            "plain loop (fp32, 1 thread)": lambda: plain(ComputeConfig("fp32", 1)),
        }
        if not smallest:
            contestants[f"plain loop (fp32, {cores} threads)"] = lambda: plain(ComputeConfig("fp32", cores))
        interleaved(record, contestants, 1 if smallest else 3, warm=0 if smallest else 1)
        names = list(record.values)
        record.compare(names[0], names[1], target=0.9)
        record.compare(names[2], names[3], target=0.9)
        record.compare(names[0], names[4])
        fastest_plain = max(names[4:], key=record.median)
        record.compare(names[0], fastest_plain, target=1.0)
        record.facts = {
            "parameters": sum(parameter.numel() for parameter in vqa.network().parameters()),
            "training rows": len(data.target),
            "batch": batch,
            "choice of the trainer": chosen.reason,
        }
    return record
