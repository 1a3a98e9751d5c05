"""Training and generation against the Trainer of transformers and a hand-written loop, and the roofline."""

from __future__ import annotations

import time
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import polymodal
from benchmarks.gpu.clock import peak_mib, seconds_of, synchronize
from polymodal.runtime.compute import has_bf16

#: Width, layers, heads, words, length of the texts, rows, rows of a batch.
Sizes = tuple[int, int, int, int, int, int, int]
LARGE: Sizes = (768, 12, 12, 32_000, 256, 4_096, 64)
SMALL: Sizes = (16, 1, 2, 64, 8, 48, 16)


class Texts(Dataset[dict[str, Tensor]]):
    """Random texts of one length, as tokens."""

    def __init__(self, sizes: Sizes) -> None:
        _, _, _, words, length, rows, _ = sizes
        self.tokens = torch.randint(3, words, (rows, length), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[row], "labels": self.tokens[row]}


def language_model(sizes: Sizes) -> nn.Module:
    """A GPT-2 of these sizes, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    width, layers, heads, words, length, *_ = sizes
    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=words, n_positions=2 * length, n_embd=width, n_layer=layers, n_head=heads, **quiet)
    )


def training(device: str, sizes: Sizes, *, steps: int) -> dict[str, Any]:
    """Tokens per second of a language model with the Trainer and with a hand-written loop."""
    _, _, _, _, length, _, batch = sizes
    tokens = batch * length
    trainer = _trainer_seconds(device, sizes, steps)
    network = language_model(sizes).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    rows = Texts(sizes).tokens[:batch].to(device)
    kind = torch.device(device).type

    def step() -> None:
        with torch.autocast(kind, torch.bfloat16, enabled=has_bf16(device)):
            loss = network(input_ids=rows, labels=rows).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    seconds = seconds_of(step, device, steps, warm=2)
    flops = 6 * sum(one.numel() for one in network.parameters()) * tokens
    roof = _matrix_flops(device, sizes[0])
    return {
        "trainer_tokens_per_second": round(tokens / trainer),
        "loop_tokens_per_second": round(tokens / seconds),
        "loop_share_of_matrix_product": round(flops / seconds / roof, 3),
        "matrix_product_tflops": round(roof / 1e12, 3),
        "loop_peak_mib": peak_mib(step, device),
    }


def own_training(device: str, sizes: Sizes) -> dict[str, Any]:
    """Tokens per second of our language model of the same sizes, and of its generation."""
    width, layers, heads, words, length, rows, batch = sizes
    drawn = torch.randint(0, words, (rows, length), generator=torch.Generator().manual_seed(0)).tolist()
    table = {"text": [" ".join(f"w{word}" for word in row) for row in drawn]}
    decoder = {"name": "transformer", "num_layers": layers, "num_heads": heads, "dropout": 0.0}
    task = {"name": "text_generation", "vocab_size": max(300, words), "max_target_length": length + 1}
    recipe = {
        "inputs": {},
        "hidden_size": width,
        "outputs": {"text": {"task": task, "decoder": decoder}},
        "training": {"epochs": 1, "batch_size": batch, "device": device, "average_top_k": 1},
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
    }
    model = polymodal.fit(table, recipe=recipe)
    begun = time.perf_counter()
    texts = model.generate({"text": table["text"][:batch]}, output="text", max_new_tokens=length)
    synchronize(device)
    compute = model.run.compute
    return {
        "rows_per_second": model.run.rows_per_second,
        "generated_rows_per_second": round(len(texts) / (time.perf_counter() - begun), 1),
        "compute": None if compute is None else f"{compute.precision} on {compute.device}: {compute.reason}",
    }


def generation(device: str, sizes: Sizes) -> dict[str, Any]:
    """Tokens per second of generation with transformers, with a static key-value cache on an accelerator."""
    network = language_model(sizes).to(device).eval()
    _, _, _, _, length, _, batch = sizes
    start = torch.full((batch, 1), 3, device=device)
    cache = {} if device == "cpu" else {"cache_implementation": "static"}

    def generate() -> None:
        network.generate(  # type: ignore[operator]
            start, max_new_tokens=length, min_new_tokens=length, do_sample=False, pad_token_id=0, **cache
        )

    return {"transformers_tokens_per_second": round(batch * length / seconds_of(generate, device, 1))}


def _trainer_seconds(device: str, sizes: Sizes, steps: int) -> float:
    """Seconds of a step of the Trainer with bf16 and fused AdamW, without the first steps."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronize(device)
            marks.append(time.perf_counter())

    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps + 2,
            per_device_train_batch_size=sizes[-1],
            bf16=has_bf16(device),
            use_cpu=device == "cpu",
            optim="adamw_torch_fused",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        Trainer(language_model(sizes), arguments, train_dataset=Texts(sizes), callbacks=[Clock()]).train()
    return (marks[-1] - marks[1]) / (len(marks) - 2)


def _matrix_flops(device: str, width: int) -> float:
    """FLOP per second of one large matrix product in the format of the training."""
    size = max(64, width * 8)
    dtype = torch.bfloat16 if has_bf16(device) else torch.float32
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: functional.linear(one, other), device, 5, warm=3)
