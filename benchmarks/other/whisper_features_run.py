"""Times the feature extractor of Whisper in transformers. Arguments: segments.npy, variant, features.npy, seconds.

Reads audio segments, `[segments, samples]` at 16 kHz, writes the features and prints one line of JSON. `padded`: one
call with the extractor's defaults, which pads to 30 s. `longest`: one call padded to the longest segment. `single`: a
call for each segment, without padding.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
import transformers
from transformers import WhisperFeatureExtractor
from transformers.utils import is_torch_available

segments_file, variant, features_file, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
if not is_torch_available():
    sys.exit("the extractor would use its slower implementation")
segments = list(np.load(segments_file))
extractor = WhisperFeatureExtractor()


def features() -> np.ndarray:
    if variant == "single":
        every = [
            extractor(segment, sampling_rate=16_000, padding="do_not_pad")["input_features"] for segment in segments
        ]
        return np.concatenate(every)
    padding = {"padded": "max_length", "longest": "longest"}[variant]
    return np.asarray(extractor(segments, sampling_rate=16_000, padding=padding)["input_features"])


extracted = features()
np.save(features_file, extracted[:, :, : -(-len(segments[0]) // 160)].astype(np.float32))
rates: list[float] = []
start = time.perf_counter()
while time.perf_counter() - start < seconds or len(rates) < 2:
    before = time.perf_counter()
    features()
    rates.append(len(segments) / (time.perf_counter() - before))
versions = {"transformers": transformers.__version__, "torch": torch.__version__}
print(json.dumps({"segments_per_second": float(np.median(rates)), "threads": torch.get_num_threads(), **versions}))
