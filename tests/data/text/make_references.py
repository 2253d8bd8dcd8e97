#!/usr/bin/env python3
"""Writes the reference data of tests/text: ids from PyPI `tokenizers`, renderings from PyPI `jinja2`.

    pip install tokenizers==0.23.3 jinja2==3.1.6 gguf
    python make_references.py tokenizers [SmolLM2.gguf]   # *.tok.json
    python make_references.py templates                   # templates.json, from templates/*.jinja and template_cases.py

Without the GGUF the reference of SmolLM2's own vocabulary is left as it is.
"""
import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
WORDS_BY_CASE = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                 r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                 r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

CORPUS = [
    "The river ran past the mill, and the miller's daughter counted the turns of the wheel: 1, 2, 3, 10, 100, 1000.",
    "We don't know what they've seen; it's the others who'll say they're right, and I'd agree if I'm asked.",
    "Der Müller aß süße Äpfel, während die Straße überflutet war. L'été dernier, nous étions à Besançon, où il neigeait.",
    "int main(void) {\n    for (int i = 0; i < 128; ++i) {\n        total += values[i] * 3.1415;\n    }\n    return 0;\n}\n",
    "東京の天気は晴れです。今日は二〇二六年十一月。北京的天气很好,我们去公园吧。한국어 문장도 하나 있습니다.",
    "Погода сегодня хорошая, и мы идём гулять. Η γλώσσα είναι ελληνική. اللغة العربية جميلة. हिन्दी में लिखा गया।",
    "emoji 🙂🙃 👩‍👩‍👧‍👦 🇫🇷 👍🏽 and arrows → ← ↔, quotes “like these”, dashes – — and an ellipsis…",
    "HTTPServer parses JSONValue camelCaseNames and snake_case_names; XMLHttpRequest's status was 404.",
    "spaces   in    runs     and\ttabs\t\tand\n\n\nlines\r\nwith returns\r\n\r\n   indented\n\t\ttwice",
    "The the THE tHe. Yes! No? #hashtag @name 50% $5.00 3/4 2+2=4 a_b a-b a.b (c) [d] {e} <f> ~g ^h `i` \\j | k & l",
]

TEXTS = [
    "",
    " ",
    "a",
    "Hello world",
    " Hello  world ",
    "Hello, y'all! How are you?",
    "I'm, you're, he's, we've, they'll, I'd, don't, IT'S, WE'LL, o'clock, 'tis, ''s",
    "'S 'T 'Re 'VE 'm 'LL 'd ’s ’t",
    "'\u017f long s after an apostrophe, \u212a Kelvin",
    "1 12 123 1234 12345 123456789 3.14159 1,000,000 0x1F 1e-5",
    "\u0661\u0662\u0663 \u0967\u0968 \u2160\u2161 \u00bd\u00be \u00b2\u00b3 \u3007\u4e00",
    "東京タワー 今日は。ｆｕｌｌ　ｗｉｄｔｈ ﾊﾝｶｸ 中文字符测试，标点。",
    "한국어 텍스트 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "cafe\u0301 café e\u0301\u0327 \u1e9b\u0323 A\u030a Å \u212b q\u0307\u0323 \u0958",
    "नमस्ते दुनिया ক্ষ்த ไทย ภาษา",
    "🙂 👩‍👩‍👧‍👦🇫🇷🇩🇪 👍🏽 ❤️ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f ☃\ufe0f",
    "a          b",
    "    indented\n        more\n\ttab\n\n\n\nend   ",
    "\n",
    "\n\n\n",
    " \n \n ",
    "\r\n\r\nx\r\ny\r",
    "\t\t \t x \t",
    "x" * 300,
    "ab" * 200,
    " " * 200 + "z",
    " " * 257,
    "no\u00a0break\u2003em\u3000ideographic\u200bzero\u2028line\u2029para\u0085next",
    "\ufeffbom \u200d\u200c \u00ad soft",
    "nul \x00 bell \x07 escape \x1b del \x7f \x1c\x1d",
    "\U0001d518\U0001d52b\U0001d526 \U0010ffff \ue000 \ufdd0",
    "camelCase PascalCase HTTPServerError mixedCASEwords ÉCOLE école ǅungla",
    "foo/bar//baz\\qux https://example.org/a?b=c&d=e#f me@example.org",
    "def f(x):\n    return x**2  # square\n\n\nprint(f(3))\n",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "x<|endoftext|> <|endoftext|>y<|im_start|><|im_start",
    "a <left>  b  <right>  c <both> d word wordy sword WORD word.word word",
    "<left><right> <both>  <left>\u3000<right>\n\n<both>",
    "normal \u0435\u0435\u0308 \u0435\u0451 e\u0301t\u00e9 \u00e9t\u00e9 e\u0301te\u0301",
    "mongolian \u180e vowel \u180eseparator x_\u203fy \u24b6\u24d0 \u00bd",
    "мир Мир МИР ё е\u0308 ΑΒΓ αβγς İi ıI ß ẞ ﬁ",
    "!!!??? ... --- === ((())) [[[]]] {{{}}} ~~~ ___ ,,,;;;:::",
    "\"quoted\" 'single' `code` “curly” «angles» 「角」",
    "ﷺ ﷽ \u202eright to left\u202c שלום עולם مرحبا بالعالم",
]

INVALID = [
    b"\xff", b"abc\xff\xfedef", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x99", b"a\xf0\x9f\x99b", b"\xc0\xaf", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\x80\x80x", b"caf\xe9 latin-1", b"\xf0\x9f\x99\x82\xf0\x9f",
]


def random_texts(count, seed):
    rng = random.Random(seed)
    alphabet = (list("abcdefghiABCDstl '  \n\r\t0123456789.,!-_/") +
                list("éÉßñœ ´¨\u0301\u0308\u0327\u0345\u00a0\u2009\u3000\u200d東京タ한글мирעأहि") +
                ["🙂", "👍🏽", "'s", "'ll", "'RE", "  ", "   ", "\r\n", "\n\n", "½", "Ⅷ", "٣", "\u1100\u1161\u11a8", "\U0001f1eb",
                 "<|endoftext|>", "<left>", "word", "ing", "the"])
    return ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 60))) for _ in range(count)]


def section_of(tokenizer):
    """The fields of tokenizer.fbs, from the serialization of `tokenizers`."""
    config = json.loads(tokenizer.to_str())
    model = config["model"]
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    tokens, types = [""] * size, [3] * size
    for text, index in model["vocab"].items():
        tokens[index], types[index] = text, 0
    added = []
    for token in config["added_tokens"]:
        tokens[token["id"]], types[token["id"]] = token["content"], 1 if token["special"] else 2
        added.append({"id": token["id"], "text": token["content"], **{k: token[k] for k in
                      ("special", "lstrip", "rstrip", "single_word", "normalized")}})
    vocab = model["vocab"]
    merges = [vocab[t] for pair in model["merges"] for t in pair]
    merged = [vocab["".join(pair)] for pair in model["merges"]]
    section = {"tokens": tokens, "types": types, "merges": merges, "merged": merged, "added": added, "splits": [],
               "ignore_merges": bool(model.get("ignore_merges")), "prefix": [], "suffix": []}
    normalizer = config.get("normalizer")
    section["normalizer_nfc"] = bool(normalizer) and normalizer["type"] == "NFC"
    pre = config["pre_tokenizer"]
    for step in pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]:
        if step["type"] == "Split":
            pattern = step["pattern"]["Regex"]
            section["splits"].append({"pattern": pattern, "behavior": ["Isolated", "Removed", "MergedWithPrevious",
                                      "MergedWithNext", "Contiguous"].index(step["behavior"]), "invert": step["invert"]})
        elif step["type"] == "Digits":
            pattern = r"\p{N}" if step["individual_digits"] else r"\p{N}+"
            section["splits"].append({"pattern": pattern, "behavior": 0, "invert": False})
        elif step["type"] == "ByteLevel":
            section["byte_level_splits"], section["add_prefix_space"] = step["use_regex"], step["add_prefix_space"]
        else:
            raise ValueError(step["type"])
    post = config.get("post_processor")
    if post and post["type"] == "TemplateProcessing":
        place = "prefix"
        for item in post["single"]:
            if "Sequence" in item:
                place = "suffix"
            else:
                section[place] += post["special_tokens"][item["SpecialToken"]["id"]]["ids"]
    return section


def cases_of(tokenizer, texts):
    cases = []
    for text in texts:
        case = {"hex": text.hex()} if isinstance(text, bytes) else {"text": text}
        valid = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        tokenizer.encode_special_tokens = False
        case["ids"] = tokenizer.encode(valid, add_special_tokens=False).ids
        with_special = tokenizer.encode(valid, add_special_tokens=True).ids
        if with_special != case["ids"]:
            case["ids_special"] = with_special
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(valid, add_special_tokens=False).ids
        if plain != case["ids"]:
            case["ids_plain"] = plain
        tokenizer.encode_special_tokens = False
        case["decoded"] = tokenizer.decode(case["ids"], skip_special_tokens=True)
        kept = tokenizer.decode(case["ids"], skip_special_tokens=False)
        if kept != case["decoded"]:
            case["decoded_all"] = kept
        cases.append(case)
    return cases


def write(name, content):
    path = HERE / name
    path.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


def make_tokenizers(gguf_path):
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers, decoders

    byte_level = lambda **kw: pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": True, **kw})
    split = lambda pattern, behavior="isolated", invert=False: pre_tokenizers.Split(Regex(pattern), behavior, invert)
    raw = byte_level(use_regex=False)

    def train(pre, size=700, normalizer=None, ignore_merges=False, special=("<|endoftext|>", "<|im_start|>", "<|im_end|>")):
        tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
        tokenizer.pre_tokenizer = pre
        tokenizer.decoder = decoders.ByteLevel()
        if normalizer:
            tokenizer.normalizer = normalizer
        trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=list(special),
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator(CORPUS * 3, trainer)
        return tokenizer

    def add_flags(tokenizer, normalized):
        tokenizer.add_tokens([AddedToken("<left>", lstrip=True, normalized=normalized),
                              AddedToken("<right>", rstrip=True, normalized=normalized),
                              AddedToken("<both>", lstrip=True, rstrip=True, normalized=normalized),
                              AddedToken("word", single_word=True, normalized=normalized),
                              AddedToken("\u0435\u0451", normalized=True),
                              AddedToken("   ", normalized=False)])

    def bos_eos(tokenizer, bos, eos):
        ids = [(t, tokenizer.token_to_id(t)) for t in (bos, eos) if t]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=(f"{bos} " if bos else "") + "$A" + (f" {eos}" if eos else ""), special_tokens=ids)

    variants = {}
    variants["gpt2"] = train(byte_level())
    variants["prefix-space"] = train(byte_level(add_prefix_space=True), size=500)
    add_flags(variants["prefix-space"], False)
    bos_eos(variants["prefix-space"], "<|im_start|>", "<|im_end|>")
    variants["llama3"] = train(pre_tokenizers.Sequence([split(LLAMA3), raw]), ignore_merges=True)
    bos_eos(variants["llama3"], "<|im_start|>", None)
    # Words whose merges are missing: only ignore_merges finds them.
    config = json.loads(variants["llama3"].to_str())
    size = variants["llama3"].get_vocab_size()
    for i, word in enumerate(["Hello", "\u0120world", "\u00c3\u012b", "123"]):
        assert word not in config["model"]["vocab"], word
        config["model"]["vocab"][word] = size + i
    variants["llama3"] = Tokenizer.from_str(json.dumps(config))
    variants["qwen2"] = train(pre_tokenizers.Sequence([split(QWEN2), raw]), normalizer=normalizers.NFC())
    add_flags(variants["qwen2"], True)
    variants["smollm"] = train(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]))
    variants["by-case"] = train(pre_tokenizers.Sequence([split(WORDS_BY_CASE), raw]), size=500)
    variants["cjk-chain"] = train(pre_tokenizers.Sequence([
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
        split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+"), raw]), size=500)
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        variants[behavior.replace("_", "-")] = train(pre_tokenizers.Sequence([split(r"[ \-]|\p{Han}", behavior), raw]), size=400)
    variants["inverted"] = train(pre_tokenizers.Sequence([split(r"\w+", "removed", True), raw]), size=400)
    variants["empty-matches"] = train(pre_tokenizers.Sequence([split(r"x*|(?=o)", "isolated"), raw]), size=400)
    for i, (name, tokenizer) in enumerate(variants.items()):
        texts = TEXTS + INVALID + random_texts(60, i)
        write(f"{name}.tok.json", {"name": name, "section": section_of(tokenizer), "cases": cases_of(tokenizer, texts)})

    if not gguf_path:
        return
    from gguf import GGUFReader
    fields = GGUFReader(gguf_path).fields
    strings = lambda key: [bytes(fields[key].parts[i]).decode() for i in fields[key].data]
    tokens, merges = strings("tokenizer.ggml.tokens"), strings("tokenizer.ggml.merges")
    types = [int(fields["tokenizer.ggml.token_type"].parts[i][0]) for i in fields["tokenizer.ggml.token_type"].data]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges]))
    tokenizer.pre_tokenizer = variants["smollm"].pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, types) if kind == 3])
    section = section_of(tokenizer)
    # Merges as ranks of text: half the size of ids.
    for key in ("merges", "merged"):
        del section[key]
    section["merge_text"] = "\n".join(merges)
    section["bos"], section["eos"], section["unk"] = 1, 2, 0
    section["chat_template"] = strings("tokenizer.chat_template")[0]
    texts = TEXTS + CORPUS + INVALID + random_texts(300, 99)
    write("smollm2.tok.json", {"name": "smollm2", "section": section, "cases": cases_of(tokenizer, texts)})


def make_templates():
    sys.path.insert(0, str(HERE))
    import template_cases
    write("templates.json", template_cases.references())


if __name__ == "__main__":
    if sys.argv[1:2] == ["tokenizers"]:
        make_tokenizers(sys.argv[2] if len(sys.argv) > 2 else None)
    elif sys.argv[1:] == ["templates"]:
        make_templates()
    else:
        sys.exit(__doc__)
