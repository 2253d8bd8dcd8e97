#!/usr/bin/env python3
"""Two files of mili-run --logits-out: relative error and arg-max.

    compare_logits.py A B [BOUND]    fails where the relative error is above BOUND
"""
import json
import sys

import numpy as np


def load(path):
    data = open(path, "rb").read()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = next(key for key in header if key != "__metadata__")
    begin, end = header[name]["data_offsets"]
    return np.frombuffer(data[8 + size + begin : 8 + size + end], np.float32).reshape(header[name]["shape"])


a, b = load(sys.argv[1]), load(sys.argv[2])
error = np.linalg.norm(a - b) / np.linalg.norm(b)
rows = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
same = int((a.argmax(1) == b.argmax(1)).sum())
print(f"logits {a.shape}: relative error {error:.2e}, of the worst row {rows.max():.2e}, arg-max equal {same} of {len(a)}")
sys.exit(len(sys.argv) > 3 and not error <= float(sys.argv[3]))
