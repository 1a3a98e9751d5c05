"""Tokens per second of writing: this package's loop against `generate` of transformers, the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import interleaved
from benchmarks.record import Record
from polymodal.nn.decoders.causal_lm_state import CausalLMState
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.language_model import LanguageModel
from polymodal.pretrained.resolve import read_checkpoint_config, weights_folder
from polymodal.runtime.random_state import isolated_random_state

MODEL = "starter/gemma3-270m"
PROMPT, BATCHES = 16, (1, 8)
TINY = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def run(smallest: bool = False) -> Record:
    """Greedy writing after prompts of 16 tokens, one row and eight, in fp32 and in bf16.

    Raises:
        RuntimeError: in fp32, the two wrote different tokens.
    """
    steps, rounds = (4, 1) if smallest else (24, 3)
    record = Record(
        name="decoding",
        title="Writing with Gemma 3 270M on this processor: tokens per second",
        method=f"Greedy, {steps} tokens in each row after prompts of {PROMPT} tokens, the same weights in memory on "
        "both sides, by turns. Matrices are laid out before the clock starts; reading the prompt counts. In fp32 the "
        "tokens of both are checked to be equal; in bf16, where sums are rounded in another order, the share of equal "
        "tokens is stated.",
        unit="tokens/s",
        larger_is_better=True,
    )
    for precision in (torch.float32, torch.bfloat16):
        name = "fp32" if precision == torch.float32 else "bf16"
        ours, theirs = language(smallest), reference(smallest, precision)
        runs: dict[str, Callable[[], float]] = {}
        for batch in BATCHES:
            ids = torch.randint(5, 500, (batch, PROMPT), generator=torch.Generator().manual_seed(batch))
            one, other = write(ours, ids, steps, precision), generate(theirs, ids, steps)
            same = float((one == other).float().mean())
            if precision == torch.float32 and same < 1:
                raise RuntimeError(f"with {batch} rows in fp32, only {same:.1%} of the tokens are equal")
            record.facts[f"equal tokens, {name}, {batch} rows"] = f"{same:.1%}"
            runs[f"polymodal, {name}, {batch} rows"] = clocked(write, ours, ids, steps, precision)
            runs[f"transformers generate, {name}, {batch} rows"] = clocked(generate, theirs, ids, steps)
        interleaved(record, runs, rounds)
        del ours, theirs, runs
    for name in ("fp32", "bf16"):
        for batch in BATCHES:
            record.compare(f"polymodal, {name}, {batch} rows", f"transformers generate, {name}, {batch} rows")
    return record


def clocked(writes: Callable[..., Tensor], model: Any, ids: Tensor, steps: int, *more: Any) -> Callable[[], float]:
    """Tokens per second of one call."""

    def once() -> float:
        start = time.perf_counter()
        writes(model, ids, steps, *more)
        return len(ids) * steps / (time.perf_counter() - start)

    return once


def write(model: LanguageModel, ids: Tensor, steps: int, precision: torch.dtype) -> Tensor:
    """What this package writes, `[rows, steps]`."""
    with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        draft = CausalLMState(model, model.embed(ids), torch.ones_like(ids, dtype=torch.bool), steps, None, [])
        written = [draft.step(None).argmax(-1)]
        while len(written) < steps:
            written.append(draft.step(written[-1]).argmax(-1))
    return torch.stack(written, dim=1)


def generate(model: Any, ids: Tensor, steps: int) -> Tensor:
    """What transformers writes, `[rows, steps]`."""
    with torch.inference_mode():
        whole: Tensor = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=steps,
            do_sample=False,
            use_cache=True,
            eos_token_id=None,
            pad_token_id=0,
        )
    return whole[:, ids.shape[1] :]


def language(smallest: bool) -> LanguageModel:
    """The model as this package has it; in the smallest size, random weights."""
    if not smallest:
        found = LanguageModel(read_checkpoint_config(MODEL, "text"))
        found.load()
        return found.eval()
    with isolated_random_state(0):
        return LanguageModel(CheckpointConfig("tiny", "", "", "", {"config": TINY})).eval()


def reference(smallest: bool, precision: torch.dtype) -> Any:
    """The same weights as transformers has them, in `precision`."""
    if smallest:
        return language(True).model.to(precision)
    from transformers import AutoModelForCausalLM

    folder = weights_folder(read_checkpoint_config(MODEL, "text"))
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=precision)
    return model.eval()
