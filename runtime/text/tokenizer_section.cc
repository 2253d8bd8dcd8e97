#include "tokenizer_section.h"

#include "added_tokens.h"
#include "bpe.h"
#include "unicode.h"

#include <string>
#include <string_view>

namespace mili::text {

namespace {

constexpr uint32_t kMaxTokens = 1u << 22;
constexpr uint32_t kMaxTokenBytes = 1u << 16;
constexpr uint32_t kMaxSplits = 32;
constexpr uint32_t kMaxPatternBytes = 1u << 16;
constexpr uint32_t kMaxAffix = 64;
constexpr uint32_t kMaxTemplateBytes = 1u << 20;

std::string_view view(const flatbuffers::String *s) {
  return {s->c_str(), s->size()};
}

class Checker {
public:
  explicit Checker(const tok::Tokenizer &section) : section_(section), vocabulary_(section.tokens()->size()) {}

  Status check() {
    if (section_.kind() != tok::Kind::ByteLevelBpe)
      return unimplemented("tokenizer: kind " + std::to_string(static_cast<int>(section_.kind())) +
                           "; this version reads byte-level BPE (0)");
    MILI_RETURN_IF_ERROR(tokens());
    MILI_RETURN_IF_ERROR(merges());
    MILI_RETURN_IF_ERROR(added());
    MILI_RETURN_IF_ERROR(splits());
    MILI_RETURN_IF_ERROR(affix("prefix", section_.prefix()));
    MILI_RETURN_IF_ERROR(affix("suffix", section_.suffix()));
    const std::pair<const char *, int32_t> named[] = {
        {"bos", section_.bos()}, {"eos", section_.eos()}, {"unk", section_.unk()}, {"pad", section_.pad()}};
    for (const auto &[name, id] : named)
      if (id != -1)
        MILI_RETURN_IF_ERROR(in_vocabulary(name, id));
    if (const flatbuffers::String *source = section_.chat_template()) {
      if (source->size() > kMaxTemplateBytes)
        return too_many("chat_template: bytes", source->size(), kMaxTemplateBytes);
      if (!is_utf8(view(source)))
        return data_loss("tokenizer: chat_template is not UTF-8");
    }
    return ok_status();
  }

private:
  static Status too_many(const std::string &what, uint64_t found, uint64_t most) {
    return data_loss("tokenizer: " + what + ": found " + std::to_string(found) + ", at most " + std::to_string(most) +
                     " are accepted");
  }

  Status in_vocabulary(const std::string &what, int64_t id) const {
    if (id >= 0 && id < vocabulary_)
      return ok_status();
    return data_loss("tokenizer: " + what + " is token " + std::to_string(id) + ", but the vocabulary has " +
                     std::to_string(vocabulary_) + " tokens");
  }

  Status tokens() const {
    if (vocabulary_ == 0)
      return data_loss("tokenizer: the vocabulary is empty");
    if (vocabulary_ > kMaxTokens)
      return too_many("tokens", vocabulary_, kMaxTokens);
    if (section_.types()->size() != vocabulary_)
      return data_loss("tokenizer: " + std::to_string(vocabulary_) + " tokens, but " +
                       std::to_string(section_.types()->size()) + " types");
    std::string bytes;
    for (uint32_t id = 0; id < vocabulary_; ++id) {
      const flatbuffers::String *text = (*section_.tokens())[id];
      const tok::TokenType type = (*section_.types())[id];
      const std::string what = "token " + std::to_string(id);
      if (type > tok::TokenType::MAX)
        return data_loss("tokenizer: " + what + " has the unknown type " + std::to_string(static_cast<int>(type)));
      if (text->size() > kMaxTokenBytes)
        return too_many(what + ": bytes", text->size(), kMaxTokenBytes);
      if (type == tok::TokenType::Unused)
        continue;
      if (text->size() == 0)
        return data_loss("tokenizer: " + what + " is empty");
      if (!is_utf8(view(text)))
        return data_loss("tokenizer: " + what + " is not UTF-8");
      bytes.clear();
      if (type == tok::TokenType::Normal && !append_spelled_bytes(view(text), bytes))
        return data_loss("tokenizer: " + what + " (\"" + std::string(view(text)) +
                         "\") has a character outside the byte-level alphabet");
    }
    return ok_status();
  }

  Status merges() const {
    const auto *pairs = section_.merges();
    const auto *merged = section_.merged();
    const uint64_t pair_ids = pairs ? pairs->size() : 0, results = merged ? merged->size() : 0;
    if (pair_ids != 2 * results)
      return data_loss("tokenizer: " + std::to_string(pair_ids) + " ids in merges, but " + std::to_string(results) +
                       " in merged; expected two for one");
    if (results > kMaxTokens)
      return too_many("merges", results, kMaxTokens);
    for (uint32_t i = 0; i < results; ++i) {
      const uint32_t ids[3] = {pairs->Get(2 * i), pairs->Get(2 * i + 1), merged->Get(i)};
      std::string_view texts[3];
      for (int k = 0; k < 3; ++k) {
        if (ids[k] >= vocabulary_)
          return in_vocabulary("an id of merge " + std::to_string(i), ids[k]);
        if ((*section_.types())[ids[k]] == tok::TokenType::Unused)
          return data_loss("tokenizer: merge " + std::to_string(i) + " has the unused token " + std::to_string(ids[k]));
        texts[k] = view((*section_.tokens())[ids[k]]);
      }
      if (texts[2].size() != texts[0].size() + texts[1].size() || !texts[2].starts_with(texts[0]) ||
          !texts[2].ends_with(texts[1]))
        return data_loss("tokenizer: merge " + std::to_string(i) + ": token " + std::to_string(ids[2]) +
                         " is not spelled as tokens " + std::to_string(ids[0]) + " and " + std::to_string(ids[1]) +
                         " joined");
    }
    return ok_status();
  }

  Status added() const {
    if (!section_.added())
      return ok_status();
    if (section_.added()->size() > vocabulary_)
      return too_many("added tokens", section_.added()->size(), vocabulary_);
    std::vector<bool> seen(vocabulary_);
    for (const tok::AddedToken *token : *section_.added()) {
      const std::string_view text = view(token->text());
      const std::string what = "the added token \"" + std::string(text.substr(0, 64)) + "\"";
      MILI_RETURN_IF_ERROR(in_vocabulary(what, token->id()));
      if (text.empty() || text.size() > kMaxAddedTokenBytes)
        return data_loss("tokenizer: " + what + " has " + std::to_string(text.size()) + " bytes, expected 1 to " +
                         std::to_string(kMaxAddedTokenBytes));
      if (seen[token->id()])
        return data_loss("tokenizer: token " + std::to_string(token->id()) + " is added twice");
      seen[token->id()] = true;
      const tok::TokenType type = (*section_.types())[token->id()];
      const tok::TokenType expected = token->special() ? tok::TokenType::Control : tok::TokenType::UserDefined;
      if (type != expected)
        return data_loss("tokenizer: " + what + " has the type " + tok::EnumNameTokenType(type) + ", expected " +
                         tok::EnumNameTokenType(expected));
      if (view((*section_.tokens())[token->id()]) != text)
        return data_loss("tokenizer: " + what + " is spelled otherwise in the vocabulary (token " +
                         std::to_string(token->id()) + ")");
    }
    return ok_status();
  }

  Status splits() const {
    if (!section_.splits())
      return ok_status();
    if (section_.splits()->size() > kMaxSplits)
      return too_many("splits", section_.splits()->size(), kMaxSplits);
    for (const tok::Split *split : *section_.splits()) {
      if (split->behavior() > tok::SplitBehavior::MAX)
        return data_loss("tokenizer: unknown split behavior " + std::to_string(static_cast<int>(split->behavior())));
      const uint32_t size = split->pattern()->size();
      if (size == 0 || size > kMaxPatternBytes)
        return data_loss("tokenizer: a split pattern of " + std::to_string(size) + " bytes, expected 1 to " +
                         std::to_string(kMaxPatternBytes));
      if (!is_utf8(view(split->pattern())))
        return data_loss("tokenizer: a split pattern is not UTF-8");
    }
    return ok_status();
  }

  Status affix(const char *name, const flatbuffers::Vector<int32_t> *ids) const {
    if (!ids)
      return ok_status();
    if (ids->size() > kMaxAffix)
      return too_many(name, ids->size(), kMaxAffix);
    for (int32_t id : *ids)
      MILI_RETURN_IF_ERROR(in_vocabulary(name, id));
    return ok_status();
  }

  const tok::Tokenizer &section_;
  const int64_t vocabulary_;
};

}  // namespace

StatusOr<const tok::Tokenizer *> check_tokenizer(std::span<const uint8_t> section) {
  if (reinterpret_cast<uintptr_t>(section.data()) % 8 != 0)
    return invalid_argument("tokenizer: the section must start at a multiple of 8 bytes");
  // 16 bytes hold no table; FlatBuffers itself asserts sizes below 2 GiB.
  if (section.size() < 16 || section.size() >= FLATBUFFERS_MAX_BUFFER_SIZE)
    return data_loss("tokenizer: a section of " + std::to_string(section.size()) + " bytes");
  flatbuffers::Verifier verifier(section.data(), section.size(), /*max_depth=*/8, /*max_tables=*/2 * kMaxTokens);
  if (!tok::VerifyTokenizerBuffer(verifier))
    return data_loss("tokenizer: the section is truncated or corrupt (no valid MITK FlatBuffer of " +
                     std::to_string(section.size()) + " bytes)");
  const tok::Tokenizer *root = tok::GetTokenizer(section.data());
  MILI_RETURN_IF_ERROR(Checker(*root).check());
  return root;
}

}  // namespace mili::text
