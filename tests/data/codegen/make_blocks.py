"""Writes blocks.bin: rows of random quantized blocks and their values by PyPI `gguf` (made with 0.19).

For each of q4_0, q4_1, q8_0, q6_k: 2 rows of 512 elements as a GGUF file stores them, then the 1024 values as f32.
Run: python make_blocks.py
"""
import os
import numpy as np
from gguf import GGMLQuantizationType as T, quants

rng = np.random.default_rng(7)
out = b""
# f16 fields of a block: (offset of each), elements, bytes.
for kind, elements, size, halves in ((T.Q4_0, 32, 18, (0,)), (T.Q4_1, 32, 20, (0, 2)), (T.Q8_0, 32, 34, (0,)),
                                     (T.Q6_K, 256, 210, (208,))):
    blocks = rng.integers(0, 256, size=(1024 // elements, size), dtype=np.uint8)
    for at in halves:
        scale = (rng.standard_normal(len(blocks)) * 0.05).astype(np.float16)
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(-1, 2)
    rows = blocks.reshape(2, -1)
    out += rows.tobytes() + quants.dequantize(rows, kind).astype(np.float32).tobytes()
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "blocks.bin"), "wb") as f:
    f.write(out)
