#!/usr/bin/env python3
"""What llama.cpp says of SmolLM2-135M-Instruct Q4_1, greedy, as a reference that MILI did not write.

    pip install xllamacpp      (prebuilt llama.cpp)
    python3 make_smollm2_reference.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2_llamacpp.json

Each entry: the prompt text (special tokens are parsed), how many tokens it is, and per generated token its id and the
five best (id, log-probability).
"""
import json
import sys

import xllamacpp

CHAT = "<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [
    CHAT.format("What is the capital of France?"),
    CHAT.format("Name the three primary colors."),
    CHAT.format("What is 2 + 2?"),
    "The capital of France is",
    "Once upon a time, in a small village at the foot of a mountain, there lived",
    "def fibonacci(n):\n    ",
    "Water boils at 100 degrees Celsius because",
]

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = 2048
params.n_parallel = 1
params.cpuparams.n_threads = 2
server = xllamacpp.Server(params)
out = []
for prompt in PROMPTS:
    r = server.handle_completions(
        {"prompt": prompt, "max_tokens": 24, "temperature": 0, "logprobs": 5, "cache_prompt": False, "samplers": ["temperature"]})
    choice = r["choices"][0]
    out.append({
        "prompt": prompt,
        "prompt_tokens": r["usage"]["prompt_tokens"],
        "text": choice["text"],
        "tokens": [t["id"] for t in choice["logprobs"]["content"]],
        "top": [[[k["id"], round(k["logprob"], 5)] for k in t["top_logprobs"]] for t in choice["logprobs"]["content"]],
    })
json.dump({"model": "SmolLM2-135M-Instruct.Q4_1", "llama.cpp": "xllamacpp 2026.10.11549", "prompts": out}, sys.stdout, indent=None, separators=(",", ":"))
print()
