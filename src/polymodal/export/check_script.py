"""The script in an export that compares the graph with the model. It needs numpy, safetensors and onnxruntime alone."""

SCRIPT = '''\
"""Compares this export with the predictions of the model that it was made from: python check.py"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

folder = Path(__file__).parent
export = json.loads((folder / "export.json").read_text(encoding="utf-8"))
stored = load_file(folder / "parity.safetensors")
session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
names = [one.name for one in session.get_inputs()]
rows = export["parity_rows"]
gap = 0.0
for chosen in (slice(0, rows), slice(0, 1), slice(rows // 2, rows)):
    found = session.run(None, {name: stored["input." + name][chosen] for name in names})
    for output, values in zip(export["outputs"], found, strict=True):
        wanted = stored["output." + output["name"]][chosen]
        gap = max(gap, float(np.max(np.abs(values - wanted) / np.maximum(1.0, np.abs(wanted)), initial=0.0)))
print(json.dumps({"rows": rows, "gap": gap, "tolerance": export["tolerance"]}))
sys.exit(0 if gap <= export["tolerance"] else 1)
'''
