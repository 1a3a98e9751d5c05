"""Times the feature extractor of Whisper in transformers. Arguments: clips.npy, variant, features.npy, seconds.

The clips, `[clips, samples]` at 16 kHz, are read, the features written, and one line of JSON printed. `padded`: one
call with the extractor's defaults, which pads to 30 s. `longest`: one call padded to the longest clip. `single`: a call
for each clip, not padded at all.
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

clips_file, variant, features_file, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
if not is_torch_available():
    sys.exit("the extractor would fall back to its slower way")
clips = list(np.load(clips_file))
extractor = WhisperFeatureExtractor()


def features() -> np.ndarray:
    if variant == "single":
        every = [extractor(clip, sampling_rate=16_000, padding="do_not_pad")["input_features"] for clip in clips]
        return np.concatenate(every)
    padding = {"padded": "max_length", "longest": "longest"}[variant]
    return np.asarray(extractor(clips, sampling_rate=16_000, padding=padding)["input_features"])


found = features()
np.save(features_file, found[:, :, : -(-len(clips[0]) // 160)].astype(np.float32))
rates: list[float] = []
start = time.perf_counter()
while time.perf_counter() - start < seconds or len(rates) < 2:
    before = time.perf_counter()
    features()
    rates.append(len(clips) / (time.perf_counter() - before))
versions = {"transformers": transformers.__version__, "torch": torch.__version__}
print(json.dumps({"clips_per_second": float(np.median(rates)), "threads": torch.get_num_threads(), **versions}))
