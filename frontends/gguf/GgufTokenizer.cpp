// The tokenizer in GGUF metadata. The file names its pre-tokenizer ("tokenizer.ggml.pre") instead of giving its regular
// expressions, so the table of names below is part of the format; the patterns are those of the tokenizer.json files
// that each name stands for.
#include "common/Text.h"
#include "common/TokenizerBuilder.h"
#include "gguf/GgufModelFile.h"

#include <initializer_list>
#include <optional>

namespace mili {

namespace {

using tok::SplitBehavior;
using tok::TokenType;

// Families of patterns. Each is a list of steps that isolate their matches, in order.
enum class Family {
  kGpt2,        // GPT-2's own pattern
  kDefault,     // runs of punctuation, GPT-2, digits in threes
  kDigitsGpt2,  // single digits, then GPT-2
  kLlama3,      // contractions, words with one leading character, up to 3 digits, punctuation, line ends, spaces
  kQwen2,       // the same with single digits
  kQwen35,      // the same with combining marks in words
  kTekken,      // words split at a change from lower to upper case, single digits
  kGpt4o,       // the same with contractions kept at the word and up to 3 digits
  kDeepSeek3,   // up to 3 digits, runs of CJK, then words with marks
};

struct PreTokenizer {
  std::string_view name;
  Family family;
  // What the name implies beside the patterns, for models whose metadata does not say.
  bool ignore_merges = false;
  bool add_bos = false;
  bool nfc = false;
};

// Qwen's tokenizers normalize to NFC, which the metadata has no key for.
constexpr PreTokenizer kPreTokenizers[] = {
    {"default", Family::kDefault},
    {"gpt-2", Family::kGpt2},
    {"phi-2", Family::kGpt2},
    {"olmo", Family::kGpt2},
    {"mpt", Family::kGpt2},
    {"jais", Family::kGpt2},
    {"exaone4", Family::kGpt2},
    {"gigachat", Family::kGpt2},
    {"mellum", Family::kGpt2},
    {"trillion", Family::kGpt2},
    {"a.x-4.0", Family::kGpt2},
    {"granite-docling", Family::kGpt2},
    {"smollm", Family::kDigitsGpt2},
    {"starcoder", Family::kDigitsGpt2},
    {"refact", Family::kDigitsGpt2},
    {"command-r", Family::kDigitsGpt2},
    {"codeshell", Family::kDigitsGpt2},
    {"exaone", Family::kDigitsGpt2},
    {"minerva-7b", Family::kDigitsGpt2},
    {"mellum2", Family::kDigitsGpt2},
    {"llama3", Family::kLlama3, true, true},
    {"llama-v3", Family::kLlama3, true, true},
    {"llama-bpe", Family::kLlama3, true, true},
    {"falcon3", Family::kLlama3, true, true},
    {"falcon-h1", Family::kLlama3, true, true},
    {"pixtral", Family::kLlama3, true, true},
    {"midm-2.0", Family::kLlama3, true, true},
    {"lfm2", Family::kLlama3, true, true},
    {"dbrx", Family::kLlama3},
    {"smaug-bpe", Family::kLlama3},
    {"glm4", Family::kLlama3},
    {"chatglm-bpe", Family::kLlama3},
    {"qwen2", Family::kQwen2, false, false, true},
    {"deepseek-r1-qwen", Family::kQwen2},
    {"stablelm2", Family::kQwen2},
    {"hunyuan", Family::kQwen2},
    {"megrez", Family::kQwen2},
    {"kormo", Family::kQwen2},
    {"solar-open", Family::kQwen2},
    {"grok-2", Family::kQwen2},
    {"qwen35", Family::kQwen35, false, false, true},
    {"tekken", Family::kTekken, true, true},
    {"gpt-4o", Family::kGpt4o},
    {"llama4", Family::kGpt4o},
    {"kanana2", Family::kGpt4o},
    {"minimax-m2", Family::kGpt4o},
    {"deepseek-v3", Family::kDeepSeek3},
    {"hunyuan-dense", Family::kDeepSeek3},
    {"joyai-llm", Family::kDeepSeek3},
};

std::string alternatives(std::initializer_list<std::string_view> parts) {
  std::string pattern;
  for (std::string_view part : parts)
    pattern.append(pattern.empty() ? "" : "|").append(part);
  return pattern;
}

// Pieces that the patterns share.
constexpr std::string_view kContractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
constexpr std::string_view kGpt2Contractions = "'s|'t|'re|'ve|'m|'ll|'d";
constexpr std::string_view kPunctuation = R"( ?[^\s\p{L}\p{N}]+[\r\n]*)";
constexpr std::string_view kLineEnds = R"(\s*[\r\n]+)";
constexpr std::string_view kSpaces = R"(\s+(?!\S)|\s+)";

std::string gpt2_pattern() {
  return alternatives({kGpt2Contractions, R"( ?\p{L}+)", R"( ?\p{N}+)", R"( ?[^\s\p{L}\p{N}]+)", kSpaces});
}

std::string words_pattern(std::string_view digits) {
  return alternatives({kContractions, R"([^\r\n\p{L}\p{N}]?\p{L}+)", digits, kPunctuation, kLineEnds, kSpaces});
}

// `suffix` follows each word.
std::string cased_pattern(const std::string &suffix, std::string_view digits) {
  const std::string before = R"([^\r\n\p{L}\p{N}]?)";
  const std::string upper = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])";
  const std::string lower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";
  return alternatives({before + upper + "*" + lower + "+" + suffix, before + upper + "+" + lower + "*" + suffix, digits,
                       R"( ?[^\s\p{L}\p{N}]+[\r\n/]*)", kLineEnds, kSpaces});
}

void add_splits(TokenizerSpec &spec, Family family) {
  const auto isolate = [&](std::string pattern) {
    spec.splits.push_back({std::move(pattern), SplitBehavior::Isolated, false});
  };
  switch (family) {
  case Family::kGpt2: spec.byte_level_splits = true; return;
  case Family::kDefault:
    isolate(R"([\p{P}\$\+<=>\^~\|]+)");
    isolate(gpt2_pattern());
    isolate(R"(\p{N}+)");
    isolate("[0-9][0-9][0-9]");
    return;
  case Family::kDigitsGpt2:
    isolate(R"(\p{N})");
    spec.byte_level_splits = true;
    return;
  case Family::kLlama3: isolate(words_pattern(R"(\p{N}{1,3})")); return;
  case Family::kQwen2: isolate(words_pattern(R"(\p{N})")); return;
  case Family::kQwen35:
    isolate(alternatives({kContractions, R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+)", R"(\p{N})",
                          R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)", kLineEnds, kSpaces}));
    return;
  case Family::kTekken: isolate(cased_pattern("", R"(\p{N})")); return;
  case Family::kGpt4o: isolate(cased_pattern(std::string(kContractions) + "?", R"(\p{N}{1,3})")); return;
  case Family::kDeepSeek3:
    isolate(R"(\p{N}{1,3})");
    isolate(R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)");
    isolate(alternatives({R"([!-/:-@\[-`{-~][A-Za-z]+)", R"([^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)",
                          R"( ?[\p{P}\p{S}]+[\r\n]*)", kLineEnds, kSpaces}));
    return;
  }
}

// The metadata under "tokenizer.ggml.".
class Keys {
public:
  Keys(const GgufHeader &header, const std::string &where) : header_(header), where_(where) {}

  Status fail(std::string_view key, const std::string &message) const {
    return data_loss(where_ + ": metadata \"tokenizer.ggml." + std::string(key) + "\": " + message);
  }

  const GgufValue *find(std::string_view key) const { return header_.find("tokenizer.ggml." + std::string(key)); }

  template <typename T>
  StatusOr<const T *> get(std::string_view key, std::string_view expected, bool required) const {
    const GgufValue *value = find(key);
    if (!value)
      return required ? StatusOr<const T *>(fail(key, "required, but missing")) : StatusOr<const T *>(nullptr);
    const T *typed = std::get_if<T>(value);
    if (!typed)
      return fail(key, "expected " + std::string(expected));
    return typed;
  }

  StatusOr<const std::vector<std::string> *> strings(std::string_view key) const {
    MILI_ASSIGN_OR_RETURN(const GgufArray *array, get<GgufArray>(key, "an array of strings", true));
    if (array->type != GgufType::kString)
      return fail(key, "expected an array of strings, found an array of " + std::string(gguf_type_name(array->type)));
    return &array->strings;
  }

  // -1 when absent. Converters write 0xFFFFFFFF, or -1, for "none".
  StatusOr<int64_t> id(std::string_view key) const {
    const GgufValue *value = find(key);
    if (!value)
      return int64_t{-1};
    if (const uint64_t *n = std::get_if<uint64_t>(value)) {
      if (*n == 0xFFFFFFFF)
        return int64_t{-1};
      if (*n <= kMaxTokens)
        return static_cast<int64_t>(*n);
      return fail(key, "expected a token id, found " + std::to_string(*n));
    }
    if (const int64_t *n = std::get_if<int64_t>(value)) {
      if (*n >= -1 && *n <= static_cast<int64_t>(kMaxTokens))
        return *n;
      return fail(key, "expected a token id, found " + std::to_string(*n));
    }
    return fail(key, "expected a token id");
  }

  StatusOr<std::optional<bool>> flag(std::string_view key) const {
    MILI_ASSIGN_OR_RETURN(const bool *value, get<bool>(key, "a bool", false));
    return value ? std::optional<bool>(*value) : std::optional<bool>();
  }

private:
  const GgufHeader &header_;
  const std::string &where_;
};

// ggml's numbers for kinds of tokens.
Status read_types(const Keys &keys, TokenizerSpec &spec) {
  spec.types.assign(spec.tokens.size(), TokenType::Normal);
  MILI_ASSIGN_OR_RETURN(const GgufArray *types, keys.get<GgufArray>("token_type", "an array of int32", false));
  if (!types)
    return ok_status();
  if (!types->is_integer())
    return keys.fail("token_type",
                     "expected an array of int32, found one of " + std::string(gguf_type_name(types->type)));
  if (types->count != spec.tokens.size())
    return keys.fail("token_type",
                     std::to_string(types->count) + " types for " + std::to_string(spec.tokens.size()) + " tokens");
  for (uint64_t i = 0; i < types->count; ++i) {
    switch (types->integer(i)) {
    case 1: break;
    case 2:  // unknown
    case 3: spec.types[i] = TokenType::Control; break;
    case 4: spec.types[i] = TokenType::UserDefined; break;
    case 5: spec.types[i] = TokenType::Unused; break;
    default:
      return keys.fail("token_type", "token " + std::to_string(i) + " " + quote(spec.tokens[i]) + " has type " +
                                         std::to_string(types->integer(i)) +
                                         "; expected 1 (normal), 2 (unknown), 3 (control), 4 (user defined) or 5 "
                                         "(unused)");
    }
  }
  return ok_status();
}

Status read_vocabulary(const Keys &keys, TokenizerSpec &spec) {
  MILI_ASSIGN_OR_RETURN(const std::vector<std::string> *tokens, keys.strings("tokens"));
  spec.tokens = *tokens;
  MILI_RETURN_IF_ERROR(read_types(keys, spec));
  for (uint32_t id = 0; id < spec.tokens.size(); ++id)
    if (spec.types[id] == TokenType::Control || spec.types[id] == TokenType::UserDefined) {
      TokenizerSpec::Added added;
      added.id = id;
      added.text = spec.tokens[id];
      added.special = spec.types[id] == TokenType::Control;
      spec.added.push_back(std::move(added));
    }
  MILI_ASSIGN_OR_RETURN(const std::vector<std::string> *merges, keys.strings("merges"));
  spec.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    auto pair = split_merge((*merges)[i]);
    if (!pair)
      return keys.fail("merges", "merge " + std::to_string(i) + ": expected two tokens with one space between, found " +
                                     quote((*merges)[i]));
    spec.merges.push_back(*pair);
  }
  return ok_status();
}

}  // namespace

StatusOr<std::vector<uint8_t>> gguf_tokenizer(const GgufHeader &header, const std::string &where) {
  const Keys keys(header, where);
  MILI_ASSIGN_OR_RETURN(const std::string *model, keys.get<std::string>("model", "a string", false));
  if (!model || *model == "none" || *model == "no_vocab")
    return not_found(where + ": the model carries no tokenizer");
  if (*model != "gpt2") {
    const std::string_view kind = *model == "llama"  ? " (SentencePiece)"
                                  : *model == "bert" ? " (WordPiece)"
                                  : *model == "t5"   ? " (Unigram)"
                                                     : "";
    return unimplemented(where + ": tokenizer.ggml.model " + quote(*model) + std::string(kind) +
                         "; supported is \"gpt2\" (byte-level BPE)");
  }
  MILI_ASSIGN_OR_RETURN(const std::string *pre, keys.get<std::string>("pre", "a string", false));
  if (!pre)
    return unimplemented(where + ": metadata \"tokenizer.ggml.pre\" is missing, so how text is split before merging is "
                                 "not known; convert the model again with a current converter");
  const PreTokenizer *known = nullptr;
  for (const PreTokenizer &candidate : kPreTokenizers)
    if (candidate.name == *pre)
      known = &candidate;
  if (!known)
    return unimplemented(where + ": the pre-tokenizer " + quote(*pre) +
                         " (tokenizer.ggml.pre) is not known; the names are listed in frontends/README.md");

  TokenizerSpec spec;
  MILI_RETURN_IF_ERROR(read_vocabulary(keys, spec));
  add_splits(spec, known->family);
  spec.ignore_merges = known->ignore_merges;
  spec.normalizer_nfc = known->nfc;
  MILI_ASSIGN_OR_RETURN(spec.bos, keys.id("bos_token_id"));
  MILI_ASSIGN_OR_RETURN(spec.eos, keys.id("eos_token_id"));
  MILI_ASSIGN_OR_RETURN(spec.unk, keys.id("unknown_token_id"));
  MILI_ASSIGN_OR_RETURN(spec.pad, keys.id("padding_token_id"));

  MILI_ASSIGN_OR_RETURN(std::optional<bool> add_bos, keys.flag("add_bos_token"));
  MILI_ASSIGN_OR_RETURN(std::optional<bool> add_eos, keys.flag("add_eos_token"));
  MILI_ASSIGN_OR_RETURN(std::optional<bool> add_sep, keys.flag("add_sep_token"));
  if (add_sep.value_or(false))
    return unimplemented(where + ": metadata \"tokenizer.ggml.add_sep_token\": only false is supported, found true");
  if (add_bos.value_or(known->add_bos)) {
    if (spec.bos < 0)
      return keys.fail("bos_token_id", "missing, but every text begins with this token (add_bos_token, or the "
                                       "pre-tokenizer " +
                                           quote(*pre) + ")");
    spec.prefix.push_back(static_cast<int32_t>(spec.bos));
  }
  if (add_eos.value_or(false)) {
    if (spec.eos < 0)
      return keys.fail("eos_token_id", "missing, but add_eos_token is true");
    spec.suffix.push_back(static_cast<int32_t>(spec.eos));
  }
  if (const GgufValue *value = header.find("tokenizer.chat_template")) {
    const std::string *text = std::get_if<std::string>(value);
    if (!text)
      return data_loss(where + ": metadata \"tokenizer.chat_template\": expected a string");
    spec.chat_template = *text;
  }
  return build_tokenizer(std::move(spec), where);
}

}  // namespace mili
