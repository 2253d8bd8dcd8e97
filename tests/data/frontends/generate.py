#!/usr/bin/env python3
"""Writes the reference data of this folder with the reference implementations of each format.

    pip install gguf==0.19.0 safetensors==0.8.0 tokenizers==0.23.3 numpy
    python3 tests/data/frontends/generate.py

The output is deterministic; run it again only to change the data, and commit the result.

    tiny.gguf, tiny.json       every metadata type, every supported tensor type; what the gguf package reads back
    hf-single, hf-sharded      safetensors written by the safetensors package; tensors.json is what they hold
    tokenizers/NAME            trained tokenizers: tokenizer.json, tokenizer_config.json, and encodings.json with the ids
                               that the tokenizers package gives; NAME.gguf holds the same tokenizer as metadata
"""

import json
import os
import shutil

import gguf
import numpy as np
import safetensors
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))

CORPUS = """
MILI compiles transformer models. A model file goes in, a plan comes out, and a small runtime executes the plan.
We've said it before: it's the compiler that knows the shapes, isn't it? They'll see, I'd think, that you're right.
In 2024 there were 1234567 tokens; in 2025 there are 98765 more, and 3.14159 is still a number.
    def encode(self, text):
        return [self.vocab[t] for t in self.split(text)]
The capital of France is Paris. The capital of Spain is Madrid. The capital of Portugal is Lisbon.
Zażółć gęślą jaźń. Ein schöner Tag über den Dächern von Köln. Το τάχιστο κύμα. Съешь же ещё этих мягких булок.
日本語のテキストと中文文本。 안녕하세요 세계. नमस्ते दुनिया. مرحبا بالعالم.
Emoji are four bytes: 😀 🎉 🚀, and some are longer: 👩‍👩‍👧.
""" * 4

TEXTS = [
    "",
    "Hello, world!",
    "The capital of France is",
    " leading space",
    "  two leading spaces",
    "trailing space ",
    "tabs\tand\nlines\n\n\nand   runs  of   spaces\r\n",
    "1 12 123 1234 12345 3.14159 0x1F ½ ²³ Ⅷ ١٢٣",
    "We've it's I'd you'RE THEY'LL o'clock 'tis",
    "don't-stop_me.now(please)[x]{y}<z>",
    "    def f(x):\n        return x + 1\n",
    "CamelCaseWords and UPPERCASE words",
    "Zażółć gęślą jaźń",
    "schön Köln e\u0301te\u0301 a\u030Angstrom",
    "日本語のテキストと中文文本。",
    "안녕하세요 नमस्ते مرحبا",
    "😀🎉 👩‍👩‍👧!",
    "<|begin|>special<|end|> in the text<|end|>",
    "a <tool> b<tool>c  <tool>  d",
    "wordtool word tool toolbox",
    "\u00a0no-break\u2003em space\u3000ideographic",
    "...!!!???  ###$$$ ===>",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def fnv1a(data: bytes) -> str:
    """64-bit FNV-1a, in hexadecimal: easy to repeat in a test."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")


def fresh_folder(*parts):
    path = os.path.join(HERE, *parts)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def make_gguf():
    path = os.path.join(HERE, "tiny.gguf")
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.name", "Tiny, with ünïcode")
    writer.add_uint32("general.quantization_version", 2)
    writer.add_custom_alignment(64)
    writer.add_uint8("t.u8", 255)
    writer.add_int8("t.i8", -128)
    writer.add_uint16("t.u16", 65535)
    writer.add_int16("t.i16", -32768)
    writer.add_uint32("t.u32", 4294967295)
    writer.add_int32("t.i32", -2147483648)
    writer.add_uint64("t.u64", 18446744073709551615)
    writer.add_int64("t.i64", -9223372036854775808)
    writer.add_float32("t.f32", 0.5)
    writer.add_float64("t.f64", 1e-300)
    writer.add_bool("t.true", True)
    writer.add_bool("t.false", False)
    writer.add_array("t.ints", [1, -2, 3])
    writer.add_array("t.floats", [0.25, -8.0])
    writer.add_array("t.bools", [True, False, True])
    writer.add_array("t.strings", ["a", "", "żółć"])
    writer.add_array("t.nested", [[1, 2], [3]])
    writer.add_array("t.long", list(range(5000)))
    kinds = gguf.GGMLQuantizationType
    tensors = [
        ("f32", (3, 5), kinds.F32),
        ("f16", (2, 3, 4), kinds.F16),
        ("bf16", (7,), kinds.BF16),
        ("q4_0", (3, 64), kinds.Q4_0),
        ("q4_1", (2, 2, 2, 32), kinds.Q4_1),
        ("q8_0", (1, 96), kinds.Q8_0),
        ("q6_k", (2, 512), kinds.Q6_K),
    ]
    for name, shape, kind in tensors:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        raw = rng.integers(0, 256, size=(*shape[:-1], shape[-1] // block * size), dtype=np.uint8)
        writer.add_tensor(f"blk.0.{name}.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    reader = gguf.GGUFReader(path)
    expected = {
        t.name: {
            "format": t.tensor_type.name.lower(),
            "shape": [int(n) for n in reversed(t.shape)],
            "offset": int(t.data_offset),
            "bytes": int(t.n_bytes),
            "fnv1a": fnv1a(t.data.tobytes()),
        }
        for t in reader.tensors
    }
    write_json(os.path.join(HERE, "tiny.json"), expected)


CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "bos_token_id": 1,
          "eos_token_id": [2, 3]}


def make_safetensors():
    rng = np.random.default_rng(2)
    shapes = {
        "model.embed_tokens.weight": ("bfloat16", 2, (11, 8)),
        "model.layers.0.mlp.up_proj.weight": ("float16", 2, (16, 8)),
        "model.norm.weight": ("float32", 4, (8,)),
        "model.scale": ("float32", 4, ()),
    }
    data = {
        name: {"dtype": dtype, "shape": list(shape),
               "data": rng.integers(0, 256, size=size * int(np.prod(shape, dtype=int)), dtype=np.uint8)}
        for name, (dtype, size, shape) in shapes.items()
    }
    spelling = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}
    expected = {
        name: {"format": spelling[t["dtype"]], "shape": t["shape"], "bytes": t["data"].size,
               "fnv1a": fnv1a(t["data"].tobytes())}
        for name, t in data.items()
    }
    for folder, groups in {
        "hf-single": [list(data)],
        "hf-sharded": [list(data)[:1], list(data)[1:]],
    }.items():
        path = fresh_folder(folder)
        write_json(os.path.join(path, "config.json"), CONFIG)
        write_json(os.path.join(path, "generation_config.json"), {"eos_token_id": [2, 3], "temperature": 0.6})
        write_json(os.path.join(path, "tensors.json"), expected)
        weight_map = {}
        for number, names in enumerate(groups, 1):
            file = "model.safetensors" if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors"
            with open(os.path.join(path, file), "wb") as out:
                specs = {n: safetensors.TensorSpec(dtype=data[n]["dtype"], shape=data[n]["shape"],
                                                   data_ptr=data[n]["data"].ctypes.data, data_len=data[n]["data"].size)
                         for n in names}
                out.write(safetensors.serialize(specs, metadata={"format": "pt"}))
            weight_map.update({name: file for name in names})
        if len(groups) > 1:
            total = sum(t["data"].size for t in data.values())
            write_json(os.path.join(path, "model.safetensors.index.json"),
                       {"metadata": {"total_size": total}, "weight_map": weight_map})


def train(pre_tokenizer, normalizer=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False, special_tokens=["<|begin|>", "<|end|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS.split("\n"), trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer


def byte_level(regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert)


def template(tokenizer):
    begin, end = tokenizer.token_to_id("<|begin|>"), tokenizer.token_to_id("<|end|>")
    return processors.TemplateProcessing(single="<|begin|> $A <|end|>", pair="<|begin|> $A $B",
                                         special_tokens=[("<|begin|>", begin), ("<|end|>", end)])


CHAT = "{% for m in messages %}<|begin|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}"


def make_tokenizers():
    made = {}
    made["gpt-2"] = train(byte_level(True))
    made["smollm"] = train(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)]))
    made["qwen2"] = train(pre_tokenizers.Sequence([split(Regex(QWEN2)), byte_level(False)]), normalizers.NFC())
    llama = train(pre_tokenizers.Sequence([split(Regex(LLAMA3)), byte_level(False)]), ignore_merges=True)
    llama.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template(llama)])
    made["llama-bpe"] = llama
    # Every behaviour of Split, patterns given as text, the other kind of Digits, strips and whole words.
    odd = train(
        pre_tokenizers.Sequence([
            split(Regex(r"\s+"), "merged_with_next"),
            split("-", "merged_with_previous"),
            split(Regex(r"[.!?]"), "contiguous"),
            split("_", "removed"),
            split(Regex(r"[^=]+"), "isolated", True),
            pre_tokenizers.Digits(individual_digits=False),
            byte_level(False),
        ]),
        normalizers.Sequence([normalizers.NFC()]))
    odd.add_tokens([AddedToken("tool", single_word=True), AddedToken("<tool>", lstrip=True, rstrip=True)])
    odd.post_processor = template(odd)
    made["odd"] = odd

    # A space before every piece, also behind a split and an added token.
    made["spaced"] = train(
        pre_tokenizers.Sequence([split(Regex(r"\n"), "isolated"),
                                 pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)]))

    root = fresh_folder("tokenizers")
    for name, tokenizer in made.items():
        path = fresh_folder("tokenizers", name)
        tokenizer.save(os.path.join(path, "tokenizer.json"), pretty=False)
        if name in ("gpt-2", "odd"):  # merges in the older spelling, "a b"
            file = os.path.join(path, "tokenizer.json")
            with open(file, encoding="utf-8") as stream:
                value = json.load(stream)
            value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]
            with open(file, "w", encoding="utf-8") as stream:
                json.dump(value, stream, ensure_ascii=False)
        chat = [{"name": "tool_use", "template": "unused"}, {"name": "default", "template": CHAT}]
        write_json(os.path.join(path, "tokenizer_config.json"), {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin|>",
            "eos_token": {"content": "<|end|>", "lstrip": False},
            "pad_token": None,
            "chat_template": chat if name == "odd" else CHAT,
        })
        write_json(os.path.join(path, "config.json"), {"model_type": "llama", "pad_token_id": 0})
        encodings = []
        for text in TEXTS:
            ids = tokenizer.encode(text).ids
            encodings.append({
                "text": text,
                "ids": ids,
                "plain": tokenizer.encode(text, add_special_tokens=False).ids,
                "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True),
            })
        write_json(os.path.join(path, "encodings.json"), encodings)
        if name not in ("odd", "spaced"):
            make_tokenizer_gguf(os.path.join(root, f"{name}.gguf"), name, tokenizer)


def make_tokenizer_gguf(path, name, tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    added = tokenizer.get_added_tokens_decoder()
    tokens, types = [], []
    for i in range(tokenizer.get_vocab_size()):
        tokens.append(tokenizer.id_to_token(i))
        types.append((3 if added[i].special else 4) if i in added else 1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(tokenizer.token_to_id("<|begin|>"))
    writer.add_eos_token_id(tokenizer.token_to_id("<|end|>"))
    writer.add_pad_token_id(0)
    if name == "llama-bpe":
        writer.add_add_eos_token(True)
    writer.add_chat_template(CHAT)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


if __name__ == "__main__":
    print("safetensors", safetensors.__version__, "tokenizers", tokenizers.__version__)
    make_gguf()
    make_safetensors()
    make_tokenizers()
