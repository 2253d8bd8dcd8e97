#!/usr/bin/env python3
"""A Llama-shaped Hugging Face folder of any size, for measuring the compiler's memory.

    python3 make_large_model.py OUT_DIR [--gigabytes 8] [--shards 2]

The weights are holes of a sparse file (zeros), so it costs no disk; the compiler reads every byte all the same.
"""
import argparse
import json
import pathlib
import struct

HIDDEN, FFN, VOCAB, HEADS, KV_HEADS = 4096, 14336, 128256, 32, 8


def layer(i):
    p = f"model.layers.{i}."
    kv = HIDDEN // HEADS * KV_HEADS
    return {
        p + "input_layernorm.weight": [HIDDEN],
        p + "self_attn.q_proj.weight": [HIDDEN, HIDDEN],
        p + "self_attn.k_proj.weight": [kv, HIDDEN],
        p + "self_attn.v_proj.weight": [kv, HIDDEN],
        p + "self_attn.o_proj.weight": [HIDDEN, HIDDEN],
        p + "post_attention_layernorm.weight": [HIDDEN],
        p + "mlp.gate_proj.weight": [FFN, HIDDEN],
        p + "mlp.up_proj.weight": [FFN, HIDDEN],
        p + "mlp.down_proj.weight": [HIDDEN, FFN],
    }


def nbytes(shape):
    n = 2
    for d in shape:
        n *= d
    return n


def write(path, tensors):
    header, offset = {}, 0
    for name, shape in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + nbytes(shape)]}
        offset += nbytes(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + offset)
    return offset


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--gigabytes", type=float, default=8)
    p.add_argument("--shards", type=int, default=2)
    o = p.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    tensors = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN], "lm_head.weight": [VOCAB, HIDDEN]}
    layers = 0
    while sum(map(nbytes, tensors.values())) < o.gigabytes * 1e9:
        tensors.update(layer(layers))
        layers += 1
    json.dump({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HIDDEN // HEADS,
        "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192, "hidden_act": "silu",
        "tie_word_embeddings": False, "torch_dtype": "bfloat16"}, open(o.out / "config.json", "w"), indent=1)
    names, index, total = sorted(tensors), {}, 0
    for s in range(o.shards):
        part = {n: tensors[n] for n in names[s::o.shards]}
        file = f"model-{s + 1:05d}-of-{o.shards:05d}.safetensors"
        total += write(o.out / file, part)
        index.update({n: file for n in part})
    json.dump({"metadata": {"total_size": total}, "weight_map": index}, open(o.out / "model.safetensors.index.json", "w"))
    print(f"{o.out}: {layers} layers, {total / 1e9:.1f} GB in {o.shards} shards")


if __name__ == "__main__":
    main()
