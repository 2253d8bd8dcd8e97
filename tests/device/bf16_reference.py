#!/usr/bin/env python3
"""What transformers' own bfloat16 gives on golden models (folders with golden.safetensors): its relative error of the
logits against the float32 ones, over all rows and of the worst row, with both of its attentions. The smaller ones go to
bf16_error.txt of each folder: what honest bf16 rounding costs, which golden_plans_test takes as its bounds where they are
above its own.

    bf16_reference.py FOLDER    needs torch, transformers and a GPU; transformers needs the weights in the folder
"""
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    golden = load_file(folder / "golden.safetensors")
    ids = torch.tensor(golden["input_ids"]).long().cuda()
    reference = golden["logits"]
    errors = {}
    for attention in ("eager", "sdpa"):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=attention)
        with torch.no_grad():
            logits = model.cuda().eval()(ids).logits.float().cpu().numpy()
        rows = np.linalg.norm(logits - reference, axis=-1) / np.linalg.norm(reference, axis=-1)
        errors[attention] = (np.linalg.norm(logits - reference) / np.linalg.norm(reference), rows.max())
    total, worst = (min(error[i] for error in errors.values()) for i in (0, 1))
    (folder / "bf16_error.txt").write_text(f"{total:.6g} {worst:.6g}\n")
    print(f"{folder.name:16s}", ", ".join(f"{k} {v:.2e}, worst row {w:.2e}" for k, (v, w) in errors.items()), flush=True)
