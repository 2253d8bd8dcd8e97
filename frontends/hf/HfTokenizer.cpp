// tokenizer.json (the serialization of Hugging Face's tokenizers library), tokenizer_config.json and
// chat_template.jinja. Format: https://huggingface.co/docs/tokenizers. Only byte-level BPE; every other component is
// refused by name.
#include "common/File.h"
#include "common/JsonFile.h"
#include "common/TensorLayout.h"
#include "common/Text.h"
#include "common/TokenizerBuilder.h"
#include "hf/HfModelFile.h"
#include "mili/Frontends/JsonFields.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <functional>
#include <optional>
#include <unordered_map>

using nlohmann::json;

namespace mili {

namespace {

using tok::SplitBehavior;
using tok::TokenType;

// Reads tokenizer.json into a TokenizerSpec. Errors stick in the JsonFields readers, so most members return nothing.
class TokenizerJson {
public:
  TokenizerJson(const json &root, const std::string &where) : where_(where), root_(root, where) {}

  StatusOr<TokenizerSpec> read() {
    model();
    added_tokens();
    normalizer();
    pre_tokenizer();
    post_processor();
    decoder();
    // Settings of one program's calls, not of the tokenizer.
    root_.ignore({"version", "truncation", "padding"});
    root_.refuse_unread();
    if (!root_.status().ok())
      return root_.status();
    return std::move(spec_);
  }

  // Ids by spelling, for tokenizer_config.json.
  const std::unordered_map<std::string_view, uint32_t> &ids() const { return ids_; }

private:
  void refuse(JsonFields &fields, std::string_view what, const std::string &kind, std::string_view supported) {
    fields.fail("type",
                "the " + std::string(what) + " " + quote(kind) +
                    " is not supported; supported: " + std::string(supported),
                StatusCode::kUnimplemented);
  }

  // Calls `each` for the elements of an array of objects, with a reader of each.
  void objects(JsonFields &fields, std::string_view key, const std::function<void(JsonFields &)> &each) {
    const json *list = fields.raw(key);
    if (!list || !list->is_array()) {
      fields.fail(key, "expected an array of objects");
      return;
    }
    for (size_t i = 0; i < list->size() && root_.status().ok(); ++i) {
      JsonFields element((*list)[i], "entry " + std::to_string(i));
      each(element);
      element.refuse_unread();
      if (!element.status().ok())
        fields.fail(key, element.status().message(), element.status().code());
    }
  }

  void model() {
    JsonFields model = root_.object("model");
    // Files older than the key are BPE if they have merges.
    const std::string kind = model.string_or("type", model.has("merges") ? "BPE" : "(none)");
    if (kind != "BPE")
      return refuse(model, "model", kind, "BPE (byte-level)");
    model.only_number("dropout", 0);
    model.only_string("continuing_subword_prefix", {""});
    model.only_string("end_of_word_suffix", {""});
    model.only_boolean("byte_fallback", false);
    model.boolean_or("fuse_unk", false);  // bytes are never unknown
    spec_.ignore_merges = model.boolean_or("ignore_merges", false);
    const std::string unk = model.string_or("unk_token", "");
    vocabulary(model);
    merges(model);
    if (!unk.empty() && model.status().ok()) {
      auto it = ids_.find(unk);
      if (it == ids_.end())
        return model.fail("unk_token", quote(unk) + " is not in the vocabulary");
      spec_.unk = it->second;
    }
  }

  void vocabulary(JsonFields &model) {
    const json *vocab = model.raw("vocab");
    if (!vocab || !vocab->is_object() || vocab->empty())
      return model.fail("vocab", "expected a non-empty object of tokens and their ids");
    ids_.reserve(vocab->size());
    for (auto it = vocab->begin(); it != vocab->end(); ++it)
      if (!put(model, "vocab", it.key(), *it, TokenType::Normal))
        return;
  }

  // Puts a token at the id that `value` holds.
  bool put(JsonFields &fields, std::string_view key, const std::string &text, const json &value, TokenType type) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() >= kMaxTokens) {
      fields.fail(key, "token " + quote(text) + ": expected an id below " + std::to_string(kMaxTokens) + ", found " +
                           json_excerpt(value));
      return false;
    }
    const uint32_t id = value.get<uint32_t>();
    if (id >= spec_.tokens.size()) {
      spec_.tokens.resize(id + 1);
      spec_.types.resize(id + 1, TokenType::Unused);
    }
    if (spec_.types[id] != TokenType::Unused) {
      fields.fail(key, "tokens " + quote(spec_.tokens[id]) + " and " + quote(text) + " have the same id " +
                           std::to_string(id));
      return false;
    }
    spec_.tokens[id] = text;
    spec_.types[id] = type;
    ids_.emplace(std::string_view(text), id);
    return true;
  }

  void merges(JsonFields &model) {
    const json *merges = model.raw("merges");
    if (!merges || !merges->is_array())
      return model.fail("merges", "expected an array");
    spec_.merges.reserve(merges->size());
    for (size_t i = 0; i < merges->size(); ++i) {
      const json &merge = (*merges)[i];
      std::optional<std::pair<std::string_view, std::string_view>> pair;
      if (merge.is_string())
        pair = split_merge(merge.get_ref<const std::string &>());
      else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
        pair = std::pair<std::string_view, std::string_view>(merge[0].get_ref<const std::string &>(),
                                                             merge[1].get_ref<const std::string &>());
      if (!pair)
        return model.fail("merges[" + std::to_string(i) + "]",
                          "expected \"left right\" or [\"left\", \"right\"], found " + json_excerpt(merge));
      spec_.merges.push_back(*pair);
    }
  }

  void added_tokens() {
    if (!root_.has("added_tokens")) {
      root_.ignore({"added_tokens"});
      return;
    }
    objects(root_, "added_tokens", [&](JsonFields &fields) {
      TokenizerSpec::Added added;
      const json *content = fields.raw("content"), *id = fields.raw("id");
      added.text = fields.string("content");
      added.special = fields.boolean_or("special", false);
      added.single_word = fields.boolean_or("single_word", false);
      added.lstrip = fields.boolean_or("lstrip", false);
      added.rstrip = fields.boolean_or("rstrip", false);
      added.normalized = fields.boolean_or("normalized", !added.special);
      if (!fields.status().ok())
        return;
      if (added.text.empty() || !id)
        return fields.fail("content", "an added token needs a text and an id");
      const TokenType type = added.special ? TokenType::Control : TokenType::UserDefined;
      auto known = ids_.find(added.text);
      if (known == ids_.end()) {
        if (!put(fields, "id", content->get_ref<const std::string &>(), *id, type))
          return;
      } else if (!id->is_number_unsigned() || id->get<uint64_t>() != known->second) {
        return fields.fail("id", quote(added.text) + " has the id " + json_excerpt(*id) + " here, but " +
                                     std::to_string(known->second) + " before");
      } else if (spec_.types[known->second] != TokenType::Normal) {
        return fields.fail("content", quote(added.text) + " is added twice");
      } else {
        spec_.types[known->second] = type;
      }
      added.id = id->get<uint32_t>();
      spec_.added.push_back(std::move(added));
    });
  }

  // Calls `each` for a component, or for those inside it if it is a Sequence; Sequences nest.
  void components(JsonFields fields, std::string_view list,
                  const std::function<void(JsonFields &, const std::string &)> &each) {
    const std::string kind = fields.string("type");
    if (kind != "Sequence")
      return each(fields, kind);
    objects(fields, list, [&](JsonFields &element) { components(element, list, each); });
  }

  void normalizer() {
    if (std::optional<JsonFields> fields = root_.optional_object("normalizer"))
      components(*fields, "normalizers", [&](JsonFields &component, const std::string &kind) {
        if (kind != "NFC")
          return refuse(component, "normalizer", kind, "NFC");
        spec_.normalizer_nfc = true;
      });
  }

  void pre_tokenizer() {
    components(root_.object("pre_tokenizer"), "pretokenizers", [&](JsonFields &component, const std::string &kind) {
      if (byte_level_)
        return component.fail("type", "a pre-tokenizer (" + quote(kind) + ") after ByteLevel is not supported",
                              StatusCode::kUnimplemented);
      if (kind == "ByteLevel") {
        byte_level_ = true;
        spec_.add_prefix_space = component.boolean_or("add_prefix_space", true);
        spec_.byte_level_splits = component.boolean_or("use_regex", true);
        component.boolean_or("trim_offsets", true);
      } else if (kind == "Split") {
        split(component);
      } else if (kind == "Digits") {
        // Numeric in Unicode's sense: Nd, Nl and No.
        const bool single = component.boolean_or("individual_digits", false);
        spec_.splits.push_back({single ? R"(\p{N})" : R"(\p{N}+)", SplitBehavior::Isolated, false});
      } else {
        refuse(component, "pre-tokenizer", kind, "ByteLevel, Split, Digits, Sequence");
      }
    });
    if (!byte_level_)
      root_.fail("pre_tokenizer",
                 "expected a ByteLevel pre-tokenizer; BPE over characters (SentencePiece's kind) is not "
                 "supported",
                 StatusCode::kUnimplemented);
  }

  void split(JsonFields &fields) {
    TokenizerSpec::Split split;
    static constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
        {"Isolated", SplitBehavior::Isolated},
        {"Removed", SplitBehavior::Removed},
        {"MergedWithPrevious", SplitBehavior::MergedWithPrevious},
        {"MergedWithNext", SplitBehavior::MergedWithNext},
        {"Contiguous", SplitBehavior::Contiguous}};
    const std::string behavior =
        fields.one_of("behavior", {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"});
    for (const auto &[name, value] : kBehaviors)
      if (name == behavior)
        split.behavior = value;
    split.invert = fields.boolean_or("invert", false);
    JsonFields pattern = fields.object("pattern");
    if (pattern.has("Regex")) {
      split.pattern = pattern.string("Regex");
    } else {
      for (char c : pattern.string("String")) {
        if (std::string_view(R"(\^$.|?*+()[]{}-#)").find(c) != std::string_view::npos)
          split.pattern += '\\';
        split.pattern += c;
      }
    }
    spec_.splits.push_back(std::move(split));
  }

  void post_processor() {
    std::optional<JsonFields> fields = root_.optional_object("post_processor");
    if (!fields)
      return;
    components(*fields, "processors", [&](JsonFields &component, const std::string &kind) {
      if (kind == "ByteLevel")  // trims offsets; no token comes or goes
        component.ignore({"add_prefix_space", "trim_offsets", "use_regex"});
      else if (kind == "TemplateProcessing")
        template_processing(component);
      else
        refuse(component, "post-processor", kind, "TemplateProcessing, ByteLevel, Sequence");
    });
  }

  // {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"ids": [1]}}}
  void template_processing(JsonFields &fields) {
    fields.ignore({"pair"});  // two texts in one input: for encoders
    const json *specials = fields.raw("special_tokens");
    std::vector<int32_t> prefix, suffix;
    bool seen_text = false;
    objects(fields, "single", [&](JsonFields &piece) {
      if (std::optional<JsonFields> sequence = piece.optional_object("Sequence")) {
        if (seen_text)
          piece.fail("Sequence", "the text appears twice in the template");
        seen_text = true;
        sequence->ignore({"id", "type_id"});
        return;
      }
      JsonFields special = piece.object("SpecialToken");
      const std::string name = special.string("id");
      special.ignore({"type_id"});
      if (!piece.status().ok())
        return;
      const json *entry = specials && specials->is_object() && specials->contains(name) ? &specials->at(name) : nullptr;
      const json *ids = entry && entry->is_object() && entry->contains("ids") ? &entry->at("ids") : nullptr;
      if (!ids || !ids->is_array() || ids->empty())
        return piece.fail("SpecialToken.id", quote(name) + " has no ids in 'special_tokens'");
      for (const json &id : *ids) {
        if (!id.is_number_unsigned() || id.get<uint64_t>() >= spec_.tokens.size())
          return piece.fail("SpecialToken.id", quote(name) + ": expected ids below " +
                                                   std::to_string(spec_.tokens.size()) + ", found " + json_excerpt(id));
        (seen_text ? suffix : prefix).push_back(id.get<int32_t>());
      }
    });
    if (fields.status().ok() && !seen_text)
      return fields.fail("single", "the template has no place for the text");
    // A later template wraps what an earlier one made.
    spec_.prefix.insert(spec_.prefix.begin(), prefix.begin(), prefix.end());
    spec_.suffix.insert(spec_.suffix.end(), suffix.begin(), suffix.end());
  }

  void decoder() {
    bool byte_level = false;
    if (std::optional<JsonFields> fields = root_.optional_object("decoder"))
      components(*fields, "decoders", [&](JsonFields &component, const std::string &kind) {
        if (kind != "ByteLevel")
          return refuse(component, "decoder", kind, "ByteLevel");
        component.ignore({"add_prefix_space", "trim_offsets", "use_regex"});
        byte_level = true;
      });
    if (!byte_level)
      root_.fail("decoder", "expected ByteLevel", StatusCode::kUnimplemented);
  }

  const std::string &where_;
  JsonFields root_;
  TokenizerSpec spec_;
  std::unordered_map<std::string_view, uint32_t> ids_;  // spellings lie in the JSON
  bool byte_level_ = false;
};

// The chat template of tokenizer_config.json: a string, or a list of named ones of which the "default" counts.
Status read_chat_template(JsonFields &fields, std::string &out) {
  const json *value = fields.raw("chat_template");
  if (!value)
    return fields.status();
  if (value->is_string()) {
    out = value->get<std::string>();
    return ok_status();
  }
  if (!value->is_array())
    fields.fail("chat_template", "expected a string or an array of named templates, found " + json_excerpt(*value));
  std::string names;
  for (size_t i = 0; value->is_array() && i < value->size(); ++i) {
    const json &entry = (*value)[i];
    auto name = entry.is_object() ? entry.find("name") : entry.end();
    auto text = entry.is_object() ? entry.find("template") : entry.end();
    if (!entry.is_object() || name == entry.end() || !name->is_string() || text == entry.end() || !text->is_string()) {
      fields.fail("chat_template[" + std::to_string(i) + "]", "expected an object with the strings 'name' and "
                                                              "'template', found " +
                                                                  json_excerpt(entry));
      break;
    }
    if (*name == "default") {
      out = text->get<std::string>();
      return ok_status();
    }
    names += (names.empty() ? "" : ", ") + quote(name->get_ref<const std::string &>());
  }
  fields.fail("chat_template", "no template is called \"default\", there are: " + names);
  return fields.status();
}

class TokenizerConfig {
public:
  TokenizerConfig(const json &value, const std::string &where, const TokenizerJson &tokenizer)
      : fields_(value, where), tokenizer_(tokenizer) {}

  Status apply(TokenizerSpec &spec) {
    id("bos_token", spec.bos);
    id("eos_token", spec.eos);
    id("unk_token", spec.unk);
    id("pad_token", spec.pad);
    // transformers rebuilds the post-processor of tokenizer.json from these two, when they are given.
    if (fields_.has("add_bos_token"))
      require("add_bos_token", "bos_token", spec.bos, spec.prefix);
    if (fields_.has("add_eos_token"))
      require("add_eos_token", "eos_token", spec.eos, spec.suffix);
    MILI_RETURN_IF_ERROR(fields_.status());
    return read_chat_template(fields_, spec.chat_template);
  }

private:
  // A token is written as its text, or as an object with it.
  void id(const char *key, int64_t &out) {
    const json *value = fields_.raw(key);
    if (!value)
      return;
    if (value->is_object() && value->contains("content"))
      value = &value->at("content");
    if (!value->is_string())
      return fields_.fail(key, "expected a token's text, found " + json_excerpt(*value));
    auto it = tokenizer_.ids().find(value->get_ref<const std::string &>());
    if (it == tokenizer_.ids().end())
      return fields_.fail(key, json_excerpt(*value) + " is not in the vocabulary of tokenizer.json");
    out = it->second;
  }

  void require(const char *flag, const char *token, int64_t id, std::vector<int32_t> &affix) {
    if (!fields_.boolean(flag)) {
      std::erase(affix, static_cast<int32_t>(id));
    } else if (id < 0) {
      fields_.fail(flag, "true, but there is no " + std::string(token));
    } else if (std::find(affix.begin(), affix.end(), static_cast<int32_t>(id)) == affix.end()) {
      affix.insert(affix.begin(), static_cast<int32_t>(id));
    }
  }

  JsonFields fields_;
  const TokenizerJson &tokenizer_;
};

// Ids from config.json for what the tokenizer's own files leave open. A list (several ends of text) gives its first.
Status ids_from_config(const json &config, const std::string &where, TokenizerSpec &spec) {
  JsonFields fields(config, where);
  const std::pair<const char *, int64_t *> wanted[] = {
      {"bos_token_id", &spec.bos}, {"eos_token_id", &spec.eos}, {"pad_token_id", &spec.pad}};
  for (const auto &[key, id] : wanted) {
    if (*id >= 0)
      continue;
    const std::vector<int64_t> ids = fields.integer_or_list(key);
    // Some models write -1 for "none"; ids of rows beyond the tokenizer's vocabulary have no token.
    if (!ids.empty() && ids[0] >= 0 && static_cast<uint64_t>(ids[0]) < spec.tokens.size())
      *id = ids[0];
  }
  return fields.status();
}

}  // namespace

StatusOr<std::vector<uint8_t>> hf_tokenizer(const std::string &folder, const json &config) {
  const std::string path = folder + "/tokenizer.json", config_path = folder + "/tokenizer_config.json",
                    template_path = folder + "/chat_template.jinja";
  if (!is_regular_file(path)) {
    for (const char *other : {"tokenizer.model", "vocab.json", "vocab.txt", "tekken.json"})
      if (is_regular_file(folder + "/" + other))
        return unimplemented(folder + ": the tokenizer is in " + other +
                             " alone; save it as tokenizer.json first (transformers: AutoTokenizer.save_pretrained)");
    return not_found(folder + ": the model carries no tokenizer (no tokenizer.json)");
  }
  JsonLimits limits;
  limits.bytes = kMaxHeaderBytes;
  MILI_ASSIGN_OR_RETURN(const json root, read_json_file(path, limits));
  TokenizerJson reader(root, path);
  MILI_ASSIGN_OR_RETURN(TokenizerSpec spec, reader.read());
  if (is_regular_file(config_path)) {
    MILI_ASSIGN_OR_RETURN(const json tokenizer_config, read_json_file(config_path));
    MILI_RETURN_IF_ERROR(TokenizerConfig(tokenizer_config, config_path, reader).apply(spec));
  }
  // The newer place of the template wins, as in transformers.
  if (is_regular_file(template_path)) {
    MILI_ASSIGN_OR_RETURN(spec.chat_template, read_text_file(template_path, kMaxChatTemplateBytes));
    if (!is_utf8(spec.chat_template))
      return data_loss(template_path + ": not UTF-8");
  }
  MILI_RETURN_IF_ERROR(ids_from_config(config, folder + "/config.json", spec));
  return build_tokenizer(std::move(spec), path);
}

}  // namespace mili
