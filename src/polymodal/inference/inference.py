"""Run a network over prepared rows: decided values in the order of the rows that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.types import Batch, View
from polymodal.data.sampler import sequential
from polymodal.generation.config import Writing
from polymodal.generation.loop import write as generate
from polymodal.generation.output import Written
from polymodal.generation.tokenizer import Codec
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Damage, Preparation, PreparedTable
from polymodal.runtime.compute import Machine
from polymodal.tasks.answers import padded
from polymodal.tasks.base import Task
from polymodal.tasks.generation import GenerationTask, generation_task

PREDICTION_BATCH = 1024
#: Numbers that writing a batch of texts, or judging them, may take at once.
TEXT_NUMBERS = 2**26
#: Bytes of prepared items that one inference batch may hold: activations are some tens of times as much.
BATCH_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Decisions:
    """What a network decided for one output over `rows`.

    values: `[rows, k]` fp32; of a text the tokens that were written, `[rows, steps]` int64, -1 behind them (-2 first in
        a row whose prompt cannot be used)
    views, view_weights: decoded values `[rows, k]` and weights `[rows]` of each view, by name
    losses: of a text whose target is known, `[rows, 2]`: its negative log-likelihood in nats, and its tokens
    """

    values: Tensor
    views: dict[str, Tensor]
    view_weights: dict[str, Tensor]
    losses: Tensor | None = None


def decide(
    network: Network,
    preparation: Preparation,
    prepared: PreparedTable,
    rows: np.ndarray,
    *,
    machine: Machine,
    batch: int,
    hide: frozenset[str] = frozenset(),
    damage: Damage | None = None,
    write: bool = True,
    numbers: np.ndarray | None = None,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Decisions]:
    """Decide every output for `rows`, in evaluation mode; inputs named in `hide` count as missing, and
    `damage` is done to one input. Texts are written only if `write`; how likely known ones are is told either way.

    Rows are visited in the order that pads least and encodes each shared item once; the results come back in the
    order of `rows`.

    numbers: of `rows` in the whole table, on which the draws of texts depend; silent: `rows` themselves
    """
    training = network.training
    if training:
        network.eval()
    gathered: dict[str, list[Decisions]] = {name: [] for name in network.outputs}
    visited: list[np.ndarray] = []
    batch = min(bounded(batch, prepared, network), bounded_by_texts(preparation))
    with torch.inference_mode(), machine.active():
        for places in sequential(np.arange(len(rows)), batch, *grouping(prepared, rows)):
            one = preparation.batch(prepared, rows[places], damage=damage)
            hidden = {name: torch.ones(len(places), dtype=torch.bool) for name in hide}
            views = network.views(one, hidden)
            for name, decided in network.decide(views, one).items():
                if preparation.tasks[name].writes:
                    tokens = torch.zeros(len(places), 0, dtype=torch.int64)
                    if write:
                        tokens = write_tokens(
                            network, preparation, name, views, one, (rows if numbers is None else numbers)[places]
                        )
                        tokens = marked(tokens, prepared.prompts.get(name), rows[places])
                    gathered[name].append(Decisions(tokens, {}, {}, decided.values))
                    continue
                weights = {term.name: term.weight for term in decided.terms if term.name in decided.views}
                gathered[name].append(Decisions(decided.values.float(), decided.views, weights))
            visited.append(places)
            if advance:
                advance(len(places))
    if training:
        network.train()
    back = torch.from_numpy(np.argsort(np.concatenate(visited), kind="stable"))
    return {name: _join(parts, back) for name, parts in gathered.items()}


def bounded(batch: int, prepared: PreparedTable, network: Network) -> int:
    """`batch` rows, or fewer where so many sounds, clips or images at once would take too much memory."""
    encoders = network.encoders()
    row = sum(
        max(source.items.item_bytes(), encoders[name].item_bytes() if name in encoders else 0.0)
        for name, source in prepared.inputs.items()
    )
    return min(batch, max(1, int(BATCH_BYTES / max(row, 1.0))))


def write_tokens(
    network: Network, preparation: Preparation, name: str, views: list[View], batch: Batch, numbers: np.ndarray
) -> Tensor:
    """The tokens of the text that output `name` writes in each row of a batch, as `Decisions.values` holds them.

    numbers: of the rows, on which their draws depend
    """
    task = generation_task(preparation.tasks, name)
    written = write_texts(network, name, views, batch, task.writing, task.codec, task.most, numbers)
    first = [texts[0] for texts in written]
    before_stops = iter(task.codec.encode([one.text for one in first if one.ended == "stop"]))
    tokens = [next(before_stops) if one.ended == "stop" else one.tokens for one in first]
    return padded([np.asarray(one, np.int64) for one in tokens])


def marked(tokens: Tensor, prompts: np.ndarray | None, rows: np.ndarray) -> Tensor:
    """Written tokens with -2 first, and nothing behind, in every row whose prompt cannot be used."""
    lost = np.array([prompts is not None and prompts[row] is None for row in rows], dtype=bool)
    if not lost.any():
        return tokens
    tokens = functional.pad(tokens, (0, max(0, 1 - tokens.shape[1])), value=-1)
    lost_rows = torch.from_numpy(lost)
    tokens[lost_rows] = -1
    tokens[lost_rows, 0] = -2
    return tokens


def write_rows(
    network: Network,
    preparation: Preparation,
    name: str,
    prepared: PreparedTable,
    writing: Writing,
    *,
    machine: Machine,
    batch: int = PREDICTION_BATCH,
    numbers: np.ndarray | None = None,
) -> list[list[Written]]:
    """The texts that output `name` writes in every row of a prepared table; none where its prompt cannot be used.

    numbers: of the rows, on which their draws depend; silent: 0, 1, 2 ...
    """
    task = generation_task(preparation.tasks, name)
    rows = np.arange(prepared.rows)
    prompts = prepared.prompts.get(name)
    if prompts is not None:
        rows = rows[[prompt is not None for prompt in prompts]]
    found: list[list[Written]] = [[] for _ in range(prepared.rows)]
    network.eval()
    with torch.inference_mode(), machine.active():
        batch = min(bounded(batch, prepared, network), bounded_by_texts(preparation, writing))
        for places in sequential(rows, batch, *grouping(prepared, rows)):
            one = preparation.batch(prepared, places)
            own = places if numbers is None else numbers[places]
            texts = write_texts(network, name, network.views(one), one, writing, task.codec, task.most, own)
            for row, written in zip(places.tolist(), texts, strict=True):
                found[row] = written
    return found


def write_texts(
    network: Network,
    name: str,
    views: list[View],
    batch: Batch,
    writing: Writing,
    codec: Codec,
    most: int,
    numbers: np.ndarray | None = None,
) -> list[list[Written]]:
    """The texts that output `name` writes in each row of a batch, `writing.samples` for each row.

    most: tokens of a text where `writing` does not say
    numbers: of the rows, on which their draws depend; silent: those of the batch
    """
    steps = writing.max_tokens or most
    own: list[int] = batch.rows.tolist() if numbers is None else numbers.tolist()
    draft = network.draft(name, views, batch, steps)
    try:
        return generate(draft, len(batch), writing, codec, steps, numbers=own)
    except RecipeError as error:
        raise error.under(f"outputs.{name}.task.writing") from None


def bounded_by_texts(preparation: Preparation, writing: Writing | None = None) -> int:
    """The most rows whose texts are written or judged at once, as `writing` or else the recipe says: each token has a
    number for every token of the vocabulary, and each step keeps some for every number of the common width."""
    most = PREDICTION_BATCH
    for task in preparation.tasks.values():
        if isinstance(task, GenerationTask):
            own = writing or task.writing
            shape, beside = task.text_shape, max(own.beams, own.samples)
            kept = 16 * (shape.prompt + (own.max_tokens or shape.answer)) * preparation.recipe.width
            most = min(most, max(1, TEXT_NUMBERS // (beside * (3 * shape.vocabulary + kept))))
    return most


def _join(parts: list[Decisions], back: Tensor) -> Decisions:
    def joined(tensors: list[Tensor]) -> Tensor:
        if tensors[0].dtype == torch.int64:
            longest = max(tensor.shape[1] for tensor in tensors)
            tensors = [functional.pad(one, (0, longest - one.shape[1]), value=-1) for one in tensors]
        return torch.cat(tensors).index_select(0, back)

    first = parts[0]
    losses = None if first.losses is None else joined([part.losses for part in parts if part.losses is not None])
    return Decisions(
        joined([part.values for part in parts]),
        {name: joined([part.views[name] for part in parts]) for name in first.views},
        {name: joined([part.view_weights[name] for part in parts]) for name in first.view_weights},
        losses,
    )


def grouping(prepared: PreparedTable, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """How to order `rows`: the item index of the most shared input (None if nothing is shared by two rows on
    average), and otherwise the summed length of ragged inputs (None if there is none)."""
    shared, most = None, 2.0
    lengths: np.ndarray | None = None
    for source in prepared.inputs.values():
        index = source.index[rows]
        present = index[index >= 0]
        if len(present) == 0:
            continue
        item_lengths = source.items.lengths()
        if item_lengths is not None:
            own = np.where(index >= 0, item_lengths[index], 0)
            lengths = own if lengths is None else lengths + own
        elif len(present) / len(np.unique(present)) >= most:  # sharing saves most where items are large
            most = len(present) / len(np.unique(present))
            shared = index
    for value, _ in prepared.targets.values():
        if value.dtype == object:  # texts, which are written or learned token by token
            own = np.array([len(answer.ids) for answer in value[rows]], dtype=np.int64)
            lengths = own if lengths is None else lengths + own
    return shared, None if shared is not None else lengths


def mean_task_loss(task: Task, decisions: Decisions, target: np.ndarray, present: np.ndarray) -> float:
    """The mean loss of a task over the rows that have its target."""
    if not present.any():
        return float("nan")
    known = torch.from_numpy(present)
    if decisions.losses is not None:
        nats, tokens = decisions.losses[known].unbind(1)
        return float(nats.sum() / tokens.sum().clamp_min(1))
    return float(task.loss(decisions.values[known], task.collate(target[present])).mean())
