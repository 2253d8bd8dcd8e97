"""compare_logits.py A B BOUND: two files of mili-run --logits-out; fails where the relative error is above BOUND."""
import array
import json
import sys


def load(path):
    data = open(path, "rb").read()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    begin, end = next(entry for key, entry in header.items() if key != "__metadata__")["data_offsets"]
    return array.array("f", data[8 + size + begin : 8 + size + end])


a, b = load(sys.argv[1]), load(sys.argv[2])
assert len(a) == len(b) > 0, f"{len(a)} values against {len(b)}"
error = (sum((x - y) ** 2 for x, y in zip(a, b)) / sum(y * y for y in b)) ** 0.5
print(f"{len(a)} logits: relative error {error:.2e}")
sys.exit(not error <= float(sys.argv[3]))
