"""Quantized weights are read one by one: the same weights, and less memory than in fp32."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch

from laws.audio_checkpoints import folder as audio_checkpoint
from laws.checkpoints import checkpoint
from laws.lm_checkpoints import language_model
from laws.multimodal_checkpoints import multimodal_checkpoint
from laws.seq2seq_checkpoints import seq2seq_checkpoint
from polymodal.pretrained import weights
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.quantized_linear import with_quantized_layers
from polymodal.pretrained.resolve import read_checkpoint_config

#: A folder and a part of it. Some share weights, some have names that transformers changes, some are converted.
CHECKPOINTS: list[tuple[str, Callable[[], str]]] = [
    ("text", lambda: checkpoint("text")),
    ("image", lambda: checkpoint("image")),
    ("video", lambda: checkpoint("video")),
    ("audio", lambda: audio_checkpoint("clap")),
    ("language", lambda: language_model("gpt2")),
    ("language", lambda: language_model("qwen2")),
    ("sequence", lambda: seq2seq_checkpoint("t5")),
    ("sequence", lambda: seq2seq_checkpoint("marian")),
    ("speech", lambda: seq2seq_checkpoint("whisper")),
    ("multimodal", lambda: multimodal_checkpoint("llava")),
]


@pytest.mark.parametrize(("part", "made"), CHECKPOINTS)
def test_one_by_one_gives_what_transformers_reads(part: str, made: Callable[[], str]) -> None:
    found = config(made())
    plain = weights.checkpoint_state(found, part, keep=False)
    shared = [name for name, one in plain.items() if sum(other is one for other in plain.values()) > 1]
    layers = [name for name, one in plain.items() if name.endswith(".weight") and one.ndim == 2 and name not in shared]
    quantized: dict[str, Literal["int8", "nf4"]] = {name.removesuffix(".weight"): "nf4" for name in layers[:4]}
    expected = with_quantized_layers(dict(plain), quantized)
    read = weights.checkpoint_state(found, part, keep=False, quantized=quantized)
    assert read.keys() == expected.keys()
    assert all(torch.equal(one, expected[name]) for name, one in read.items())
    assert all(any(read[name] is read[other] for other in shared if other != name) for name in shared)


def config(folder: str) -> CheckpointConfig:
    return read_checkpoint_config(folder, "text")


#: Prints the peak of the memory of building and loading a checkpoint, as a share of its size in fp32.
MEASURED = """
import json, sys
from pathlib import Path
import torch, transformers
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.fine_tuning import FineTuningOptions, apply_fine_tuning

def memory(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])

def load(folder):
    values = json.loads((folder / "config.json").read_text())
    found = CheckpointConfig(str(folder), str(folder), "", "", {"config": values})
    backbone = Backbone(found, "language", is_quantized=quantization != "none")
    apply_fine_tuning(backbone, FineTuningOptions(fine_tuning="lora", quantization=quantization))
    backbone.load()
    return backbone

folder, quantization = Path(sys.argv[1]), sys.argv[2]
load(folder / "tiny")  # imports
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
backbone = load(folder / "large")
print((memory("VmHWM") - before) / int((folder / "bytes").read_text()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_peak_is_below_the_size_in_fp32(tmp_path: Path) -> None:
    import transformers

    for name, layers, width in (("tiny", 1, 64), ("large", 12, 512)):
        sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
        heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 64, "tie_word_embeddings": False}
        network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads))
        network.save_pretrained(tmp_path / name, max_shard_size="30MB")
    (tmp_path / "bytes").write_text(str(sum(4 * one.numel() for one in network.parameters())))
    peaks = {kind: peak(tmp_path, kind) for kind in ("none", "int8", "nf4")}
    assert peaks["nf4"] < peaks["int8"] < 0.75 < 1 < peaks["none"], peaks


def peak(folder: Path, quantization: str) -> float:
    command = [sys.executable, "-c", MEASURED, str(folder), quantization]
    # glibc returns the memory of matrices above 32 MiB at once; these here are smaller
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**17)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stdout.splitlines()[-1])
