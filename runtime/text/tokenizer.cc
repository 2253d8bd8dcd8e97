#include "mili/text/tokenizer.h"

#include "added_tokens.h"
#include "bpe.h"
#include "splitter.h"
#include "tokenizer_section.h"
#include "unicode.h"

namespace mili {

using text::AddedToken;
using text::AddedTokens;
using text::Piece;
using text::Segment;
using text::Splitter;

namespace {

std::string_view view(const flatbuffers::String *s) {
  return s ? std::string_view(s->c_str(), s->size()) : std::string_view();
}

std::span<const int32_t> ids_of(const flatbuffers::Vector<int32_t> *ids) {
  return ids ? std::span<const int32_t>(ids->data(), ids->size()) : std::span<const int32_t>();
}

text::SplitBehavior behavior_of(tok::SplitBehavior behavior) {
  switch (behavior) {
  case tok::SplitBehavior::Isolated: return text::SplitBehavior::kIsolated;
  case tok::SplitBehavior::Removed: return text::SplitBehavior::kRemoved;
  case tok::SplitBehavior::MergedWithPrevious: return text::SplitBehavior::kMergedWithPrevious;
  case tok::SplitBehavior::MergedWithNext: return text::SplitBehavior::kMergedWithNext;
  case tok::SplitBehavior::Contiguous: return text::SplitBehavior::kContiguous;
  }
  return text::SplitBehavior::kIsolated;
}

// A control token in the place of an unknown byte would let plain text make one.
int32_t ordinary_unk(const tok::Tokenizer &section) {
  const int32_t unk = section.unk();
  if (unk < 0)
    return -1;
  const tok::TokenType type = (*section.types())[static_cast<uint32_t>(unk)];
  return type == tok::TokenType::Normal || type == tok::TokenType::UserDefined ? unk : -1;
}

}  // namespace

struct Tokenizer::Impl {
  const tok::Tokenizer *section;
  text::Bpe bpe;
  // Those matched in the text as it comes, and those matched after normalization.
  AddedTokens raw, normalized;
  std::vector<Splitter> splitters;

  // Working memory of one encode().
  struct Work {
    std::vector<int32_t> ids;
    std::vector<Piece> pieces, next;
    text::Bpe::Scratch bpe;
    std::string prefixed;
  };

  Status encode_piece(std::string_view text, Work &work) const {
    if (!section->add_prefix_space() || text.starts_with(' ')) {
      return encode_words(text, work);
    }
    work.prefixed.clear();
    work.prefixed += ' ';
    work.prefixed += text;
    return encode_words(work.prefixed, work);
  }

  // The ByteLevel pattern, if used, is the last of `splitters`.
  Status encode_words(std::string_view text, Work &work) const {
    if (!section->byte_level_splits()) {
      bpe.encode(text, work.ids, work.bpe);
      return ok_status();
    }
    work.next.clear();
    MILI_RETURN_IF_ERROR(splitters.back().split(text, 0, work.next));
    for (const Piece &word : work.next)
      bpe.encode(text.substr(word.begin, word.end - word.begin), work.ids, work.bpe);
    return ok_status();
  }

  // Text without added tokens, normalized.
  Status encode_plain(std::string_view text, Work &work) const {
    std::vector<Piece> pieces = {{0, text.size()}}, next;
    const size_t chain = splitters.size() - (section->byte_level_splits() ? 1 : 0);
    for (size_t i = 0; i < chain; ++i) {
      next.clear();
      for (const Piece &piece : pieces)
        MILI_RETURN_IF_ERROR(splitters[i].split(text.substr(piece.begin, piece.end - piece.begin), piece.begin, next));
      pieces.swap(next);
    }
    for (const Piece &piece : pieces)
      MILI_RETURN_IF_ERROR(encode_piece(text.substr(piece.begin, piece.end - piece.begin), work));
    return ok_status();
  }

  Status encode_normalized(std::string_view text, bool parse_special, Work &work) const {
    std::vector<Segment> segments;
    normalized.segment(text, parse_special, segments);
    for (const Segment &segment : segments) {
      if (segment.id >= 0)
        work.ids.push_back(segment.id);
      else
        MILI_RETURN_IF_ERROR(encode_plain(text.substr(segment.begin, segment.end - segment.begin), work));
    }
    return ok_status();
  }

  Status encode(std::string_view text, bool parse_special, Work &work) const {
    std::vector<Segment> segments;
    raw.segment(text, parse_special, segments);
    for (const Segment &segment : segments) {
      const std::string_view part = text.substr(segment.begin, segment.end - segment.begin);
      if (segment.id >= 0)
        work.ids.push_back(segment.id);
      else if (section->normalizer_nfc())
        MILI_RETURN_IF_ERROR(encode_normalized(text::nfc(part), parse_special, work));
      else
        MILI_RETURN_IF_ERROR(encode_normalized(part, parse_special, work));
    }
    return ok_status();
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer &&) noexcept = default;
Tokenizer &Tokenizer::operator=(Tokenizer &&) noexcept = default;
Tokenizer::~Tokenizer() = default;

StatusOr<Tokenizer> Tokenizer::create(std::span<const uint8_t> bytes) {
  MILI_ASSIGN_OR_RETURN(const tok::Tokenizer *section, text::check_tokenizer(bytes));

  std::vector<AddedToken> raw, normalized;
  if (section->added())
    for (const tok::AddedToken *token : *section->added()) {
      AddedToken added;
      added.id = static_cast<int32_t>(token->id());
      added.text = view(token->text());
      added.special = token->special();
      added.lstrip = token->lstrip();
      added.rstrip = token->rstrip();
      added.single_word = token->single_word();
      if (token->normalized() && section->normalizer_nfc())
        added.text = text::nfc(added.text);
      (token->normalized() ? normalized : raw).push_back(std::move(added));
    }

  std::vector<Splitter> splitters;
  if (section->splits())
    for (const tok::Split *split : *section->splits()) {
      StatusOr<Splitter> splitter =
          Splitter::create(view(split->pattern()), behavior_of(split->behavior()), split->invert());
      if (!splitter.ok())
        return splitter.status().with_context("tokenizer");
      splitters.push_back(std::move(*splitter));
    }
  if (section->byte_level_splits()) {
    MILI_ASSIGN_OR_RETURN(Splitter words,
                          Splitter::create(text::gpt2_pattern(), text::SplitBehavior::kIsolated, false));
    splitters.push_back(std::move(words));
  }
  auto impl =
      std::make_unique<Impl>(Impl{section, text::Bpe(*section, ordinary_unk(*section)), AddedTokens(std::move(raw)),
                                  AddedTokens(std::move(normalized)), std::move(splitters)});
  return Tokenizer(std::move(impl));
}

StatusOr<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions &options) const {
  if (text.size() > kMaxEncodeBytes)
    return invalid_argument("tokenizer: a text of " + std::to_string(text.size()) + " bytes, at most " +
                            std::to_string(kMaxEncodeBytes) + " are accepted");
  Impl::Work work;
  if (options.add_special)
    work.ids.assign(prefix().begin(), prefix().end());
  if (text::is_utf8(text)) {
    MILI_RETURN_IF_ERROR(impl_->encode(text, options.parse_special, work));
  } else {
    std::string repaired;
    text::append_well_formed(repaired, text, /*keep_incomplete=*/false);
    MILI_RETURN_IF_ERROR(impl_->encode(repaired, options.parse_special, work));
  }
  if (options.add_special)
    work.ids.insert(work.ids.end(), suffix().begin(), suffix().end());
  return std::move(work.ids);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes, out;
  for (int32_t id : ids)
    if (!skip_special || !is_special(id))
      append_token_text(id, bytes);
  text::append_well_formed(out, bytes, /*keep_incomplete=*/false);
  return out;
}

void Tokenizer::append_token_text(int32_t id, std::string &out) const {
  if (id < 0 || id >= vocab_size())
    return;
  const std::string_view spelled = view((*impl_->section->tokens())[static_cast<uint32_t>(id)]);
  switch ((*impl_->section->types())[static_cast<uint32_t>(id)]) {
  case tok::TokenType::Normal: text::append_spelled_bytes(spelled, out); break;
  case tok::TokenType::Control:
  case tok::TokenType::UserDefined: out.append(spelled); break;
  case tok::TokenType::Unused: break;
  }
}

std::string Tokenizer::token_text(int32_t id) const {
  std::string out;
  append_token_text(id, out);
  return out;
}

std::optional<int32_t> Tokenizer::find_added(std::string_view text) const {
  for (const AddedTokens *tokens : {&impl_->raw, &impl_->normalized})
    if (const AddedToken *token = tokens->find(text))
      return token->id;
  return std::nullopt;
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() &&
         (*impl_->section->types())[static_cast<uint32_t>(id)] == tok::TokenType::Control;
}

int32_t Tokenizer::vocab_size() const {
  return static_cast<int32_t>(impl_->section->tokens()->size());
}
int32_t Tokenizer::bos() const {
  return impl_->section->bos();
}
int32_t Tokenizer::eos() const {
  return impl_->section->eos();
}
int32_t Tokenizer::unk() const {
  return impl_->section->unk();
}
int32_t Tokenizer::pad() const {
  return impl_->section->pad();
}
std::span<const int32_t> Tokenizer::prefix() const {
  return ids_of(impl_->section->prefix());
}
std::span<const int32_t> Tokenizer::suffix() const {
  return ids_of(impl_->section->suffix());
}
std::string_view Tokenizer::chat_template() const {
  return view(impl_->section->chat_template());
}

size_t Tokenizer::memory_bytes() const {
  size_t bytes =
      sizeof(Impl) + impl_->bpe.memory_bytes() + impl_->raw.memory_bytes() + impl_->normalized.memory_bytes();
  for (const Splitter &splitter : impl_->splitters)
    bytes += splitter.memory_bytes();
  return bytes;
}

std::string StreamDecoder::put(int32_t id) {
  if (!skip_special_ || !tokenizer_->is_special(id))
    tokenizer_->append_token_text(id, pending_);
  std::string out;
  pending_.erase(0, text::append_well_formed(out, pending_, /*keep_incomplete=*/true));
  return out;
}

std::string StreamDecoder::finish() {
  std::string out;
  text::append_well_formed(out, pending_, /*keep_incomplete=*/false);
  pending_.clear();
  return out;
}

}  // namespace mili
