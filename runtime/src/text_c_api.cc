// The C API of the text library.
#include "mili/mili_text.h"

#include "mili/text/chat_template.h"
#include "mili/text/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

struct mili_tokenizer {
  std::vector<uint64_t> section;  // aligned as the tokenizer wants it
  std::optional<mili::Tokenizer> tokenizer;
};
struct mili_decoder {
  mili::StreamDecoder decoder;
  std::string text;
};

namespace {

thread_local std::string last_error;

mili_status fail(const mili::Status &status) {
  last_error = status.message();
  return static_cast<mili_status>(status.code());
}

mili_status fail(const char *message) {
  return fail(mili::invalid_argument(message));
}

// Runs a call; what the standard library throws becomes a status.
template <typename F>
mili_status guarded(F &&call) {
  try {
    mili::Status status = call();
    return status.ok() ? MILI_OK : fail(status);
  } catch (const std::bad_alloc &) {
    return fail(mili::resource_exhausted("the host has no memory left"));
  } catch (const std::exception &error) {
    return fail(mili::internal_error(error.what()));
  }
}

template <typename T>
mili::Status hand_out(const T *from, size_t count, T *to, size_t capacity, size_t *needed) {
  *needed = count;
  if (to)
    std::copy_n(from, std::min(count, capacity), to);
  return mili::ok_status();
}

}  // namespace

const char *mili_text_last_error(void) {
  return last_error.c_str();
}

mili_status mili_tokenizer_create(const void *section, size_t bytes, mili_tokenizer **tokenizer) {
  if (!tokenizer)
    return fail("mili_tokenizer_create: tokenizer must not be NULL");
  *tokenizer = nullptr;
  if (!section)
    return fail(mili::not_found("the plan has no tokenizer; give token ids instead"));
  return guarded([&]() -> mili::Status {
    auto made = std::make_unique<mili_tokenizer>();
    made->section.resize((bytes + 7) / 8);
    std::memcpy(made->section.data(), section, bytes);
    auto parsed = mili::Tokenizer::create({reinterpret_cast<const uint8_t *>(made->section.data()), bytes});
    if (!parsed.ok())
      return parsed.status();
    made->tokenizer.emplace(std::move(*parsed));
    *tokenizer = made.release();
    return mili::ok_status();
  });
}

void mili_tokenizer_destroy(mili_tokenizer *tokenizer) {
  delete tokenizer;
}

mili_status mili_tokenizer_encode(const mili_tokenizer *tokenizer, const char *text, size_t bytes, int32_t add_special,
                                  int32_t parse_special, int32_t *tokens, size_t capacity, size_t *needed) {
  if (!tokenizer || (!text && bytes > 0) || !needed)
    return fail("mili_tokenizer_encode: tokenizer, text and needed must not be NULL");
  return guarded([&]() -> mili::Status {
    mili::EncodeOptions options;
    options.add_special = add_special != 0;
    options.parse_special = parse_special != 0;
    MILI_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer->tokenizer->encode({text, bytes}, options));
    return hand_out(ids.data(), ids.size(), tokens, capacity, needed);
  });
}

mili_status mili_tokenizer_decode(const mili_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                                  int32_t skip_special, char *text, size_t capacity, size_t *needed) {
  if (!tokenizer || (!tokens && count > 0) || !needed)
    return fail("mili_tokenizer_decode: tokenizer, tokens and needed must not be NULL");
  return guarded([&]() -> mili::Status {
    const std::string decoded = tokenizer->tokenizer->decode({tokens, count}, skip_special != 0);
    return hand_out(decoded.data(), decoded.size(), text, capacity, needed);
  });
}

mili_status mili_decoder_create(const mili_tokenizer *tokenizer, int32_t skip_special, mili_decoder **decoder) {
  if (!tokenizer || !decoder)
    return fail("mili_decoder_create: tokenizer and decoder must not be NULL");
  *decoder = nullptr;
  return guarded([&]() -> mili::Status {
    *decoder = new mili_decoder{mili::StreamDecoder(*tokenizer->tokenizer, skip_special != 0), {}};
    return mili::ok_status();
  });
}

void mili_decoder_destroy(mili_decoder *decoder) {
  delete decoder;
}

const char *mili_decoder_put(mili_decoder *decoder, int32_t token) {
  const mili_status status = guarded([&] {
    decoder->text = decoder->decoder.put(token);
    return mili::ok_status();
  });
  return status == MILI_OK ? decoder->text.c_str() : nullptr;
}

const char *mili_decoder_finish(mili_decoder *decoder) {
  const mili_status status = guarded([&] {
    decoder->text = decoder->decoder.finish();
    return mili::ok_status();
  });
  return status == MILI_OK ? decoder->text.c_str() : nullptr;
}

mili_status mili_chat_render(const mili_tokenizer *tokenizer, const mili_chat_message *messages, size_t count,
                             int32_t add_generation_prompt, char *text, size_t capacity, size_t *needed) {
  if (!tokenizer || (!messages && count > 0) || !needed)
    return fail("mili_chat_render: tokenizer, messages and needed must not be NULL");
  return guarded([&]() -> mili::Status {
    const mili::Tokenizer &parts = *tokenizer->tokenizer;
    if (parts.chat_template().empty())
      return mili::not_found("the model has no chat template; write the prompt yourself");
    MILI_ASSIGN_OR_RETURN(mili::ChatTemplate chat, mili::ChatTemplate::parse(parts.chat_template()));
    mili::ChatInput input;
    for (size_t i = 0; i < count; ++i) {
      if (!messages[i].role || !messages[i].content)
        return mili::invalid_argument("mili_chat_render: message " + std::to_string(i) + " lacks its role or content");
      input.messages.push_back(mili::chat_message(messages[i].role, messages[i].content));
    }
    input.add_generation_prompt = add_generation_prompt != 0;
    if (parts.bos() >= 0)
      input.bos_token = parts.token_text(parts.bos());
    if (parts.eos() >= 0)
      input.eos_token = parts.token_text(parts.eos());
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    if (localtime_r(&now, &local))
      input.now = local;
    MILI_ASSIGN_OR_RETURN(std::string rendered, chat.render(input));
    return hand_out(rendered.data(), rendered.size(), text, capacity, needed);
  });
}
