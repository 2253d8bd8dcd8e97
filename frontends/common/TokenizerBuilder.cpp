#include "common/TokenizerBuilder.h"

#include "common/Text.h"

#include <array>
#include <unordered_map>

namespace mili {

namespace {

// GPT-2's byte alphabet: the printable characters of Latin-1 stand for themselves, the other 68 bytes for U+0100
// onwards in order. (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", released vocabulary.)
bool is_byte_level(std::string_view token) {
  return for_each_code_point(token, [](char32_t c) {
    return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF) ||
           (c >= 0x100 && c < 0x100 + 68);
  });
}

using TokenIds = std::unordered_map<std::string_view, uint32_t>;

// Normal tokens are looked up by their spelling during merging, the others are matched in the text; within each group a
// spelling must be unique.
Status index_tokens(TokenizerSpec &spec, const std::string &where, TokenIds &ids) {
  ids.reserve(spec.tokens.size());
  for (uint32_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string &text = spec.tokens[id];
    if (spec.types[id] == tok::TokenType::Unused)
      continue;
    if (text.empty())
      return data_loss(where + ": token " + std::to_string(id) + " is empty");
    if (text.size() > kMaxTokenBytes)
      return data_loss(where + ": token " + std::to_string(id) + " has " + std::to_string(text.size()) +
                       " bytes, at most " + std::to_string(kMaxTokenBytes) + " are accepted");
    if (spec.types[id] == tok::TokenType::Normal && !is_byte_level(text))
      spec.types[id] = tok::TokenType::UserDefined;
    auto [it, inserted] = ids.emplace(text, id);
    if (!inserted)
      return data_loss(where + ": tokens " + std::to_string(it->second) + " and " + std::to_string(id) +
                       " are both spelled " + quote(text));
  }
  return ok_status();
}

Status resolve_merges(const TokenizerSpec &spec, const std::string &where, const TokenIds &ids,
                      std::vector<uint32_t> &pairs, std::vector<uint32_t> &merged) {
  pairs.reserve(spec.merges.size() * 2);
  merged.reserve(spec.merges.size());
  std::string joined;
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const auto &[left, right] = spec.merges[i];
    joined.assign(left).append(right);
    uint32_t found[3];
    const std::string_view wanted[3] = {left, right, joined};
    for (int k = 0; k < 3; ++k) {
      auto it = ids.find(wanted[k]);
      if (it == ids.end())
        return data_loss(where + ": merge " + std::to_string(i) + " (" + quote(left) + ", " + quote(right) +
                         "): " + quote(wanted[k]) + " is not in the vocabulary");
      found[k] = it->second;
    }
    pairs.push_back(found[0]);
    pairs.push_back(found[1]);
    merged.push_back(found[2]);
  }
  return ok_status();
}

Status check_id(int64_t id, std::string_view what, const TokenizerSpec &spec, const std::string &where) {
  if (id >= 0 && static_cast<uint64_t>(id) < spec.tokens.size())
    return ok_status();
  return data_loss(where + ": " + std::string(what) + " is token " + std::to_string(id) + ", but the vocabulary has " +
                   std::to_string(spec.tokens.size()) + " tokens");
}

Status check(const TokenizerSpec &spec, const std::string &where) {
  if (spec.tokens.empty())
    return data_loss(where + ": the vocabulary is empty");
  if (spec.tokens.size() > kMaxTokens)
    return data_loss(where + ": " + std::to_string(spec.tokens.size()) + " tokens, at most " +
                     std::to_string(kMaxTokens) + " are accepted");
  if (spec.types.size() != spec.tokens.size())
    return data_loss(where + ": " + std::to_string(spec.tokens.size()) + " tokens, but " +
                     std::to_string(spec.types.size()) + " token types");
  if (spec.chat_template.size() > kMaxChatTemplateBytes)
    return data_loss(where + ": a chat template of " + std::to_string(spec.chat_template.size()) + " bytes, at most " +
                     std::to_string(kMaxChatTemplateBytes) + " are accepted");
  for (const TokenizerSpec::Added &added : spec.added) {
    MILI_RETURN_IF_ERROR(check_id(added.id, "the added token " + quote(added.text), spec, where));
    if (added.text.empty() || added.text.size() > kMaxAddedTokenBytes)
      return data_loss(where + ": the added token " + quote(added.text) + " has " + std::to_string(added.text.size()) +
                       " bytes, expected 1 to " + std::to_string(kMaxAddedTokenBytes));
  }
  for (const std::vector<int32_t> *affix : {&spec.prefix, &spec.suffix})
    if (affix->size() > kMaxAffix)
      return data_loss(where + ": " + std::to_string(affix->size()) + " tokens before or after the text, at most " +
                       std::to_string(kMaxAffix) + " are accepted");
  for (int32_t id : spec.prefix)
    MILI_RETURN_IF_ERROR(check_id(id, "a token put before the text", spec, where));
  for (int32_t id : spec.suffix)
    MILI_RETURN_IF_ERROR(check_id(id, "a token put after the text", spec, where));
  const std::pair<const char *, int64_t> named[] = {
      {"bos", spec.bos}, {"eos", spec.eos}, {"unk", spec.unk}, {"pad", spec.pad}};
  for (const auto &[name, id] : named)
    if (id != -1)
      MILI_RETURN_IF_ERROR(check_id(id, name, spec, where));
  if (spec.splits.size() > kMaxSplits)
    return data_loss(where + ": " + std::to_string(spec.splits.size()) + " steps of splitting, at most " +
                     std::to_string(kMaxSplits) + " are accepted");
  for (const TokenizerSpec::Split &split : spec.splits)
    if (split.pattern.empty() || split.pattern.size() > kMaxPatternBytes)
      return data_loss(where + ": a split pattern of " + std::to_string(split.pattern.size()) +
                       " bytes, expected 1 to " + std::to_string(kMaxPatternBytes));
  return ok_status();
}

}  // namespace

std::optional<std::pair<std::string_view, std::string_view>> split_merge(std::string_view text) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == text.size() ||
      text.find(' ', space + 1) != std::string_view::npos)
    return std::nullopt;
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

StatusOr<std::vector<uint8_t>> build_tokenizer(TokenizerSpec spec, const std::string &where) {
  MILI_RETURN_IF_ERROR(check(spec, where));
  TokenIds ids;
  MILI_RETURN_IF_ERROR(index_tokens(spec, where, ids));
  std::vector<uint32_t> pairs, merged;
  MILI_RETURN_IF_ERROR(resolve_merges(spec, where, ids, pairs, merged));

  flatbuffers::FlatBufferBuilder builder(spec.tokens.size() * 24 + pairs.size() * 6 + 4096);
  std::vector<flatbuffers::Offset<tok::AddedToken>> added;
  added.reserve(spec.added.size());
  for (const TokenizerSpec::Added &token : spec.added)
    added.push_back(tok::CreateAddedToken(builder, token.id, builder.CreateString(token.text), token.special,
                                          token.lstrip, token.rstrip, token.single_word, token.normalized));
  std::vector<flatbuffers::Offset<tok::Split>> splits;
  splits.reserve(spec.splits.size());
  for (const TokenizerSpec::Split &split : spec.splits)
    splits.push_back(tok::CreateSplit(builder, builder.CreateString(split.pattern), split.behavior, split.invert));
  auto tokens = builder.CreateVectorOfStrings(spec.tokens);
  auto types = builder.CreateVector(spec.types);
  auto merges = builder.CreateVector(pairs);
  auto merged_ids = builder.CreateVector(merged);
  auto added_tokens = builder.CreateVector(added);
  auto split_steps = builder.CreateVector(splits);
  auto prefix = builder.CreateVector(spec.prefix);
  auto suffix = builder.CreateVector(spec.suffix);
  auto chat_template = builder.CreateString(spec.chat_template);

  tok::TokenizerBuilder table(builder);
  table.add_kind(tok::Kind::ByteLevelBpe);
  table.add_tokens(tokens);
  table.add_types(types);
  table.add_merges(merges);
  table.add_merged(merged_ids);
  table.add_added(added_tokens);
  table.add_splits(split_steps);
  table.add_byte_level_splits(spec.byte_level_splits);
  table.add_add_prefix_space(spec.add_prefix_space);
  table.add_ignore_merges(spec.ignore_merges);
  table.add_normalizer_nfc(spec.normalizer_nfc);
  table.add_prefix(prefix);
  table.add_suffix(suffix);
  table.add_bos(static_cast<int32_t>(spec.bos));
  table.add_eos(static_cast<int32_t>(spec.eos));
  table.add_unk(static_cast<int32_t>(spec.unk));
  table.add_pad(static_cast<int32_t>(spec.pad));
  table.add_chat_template(chat_template);
  tok::FinishTokenizerBuffer(builder, table.Finish());
  return std::vector<uint8_t>(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
}

}  // namespace mili
