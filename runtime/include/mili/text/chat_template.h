// Chat templates: the Jinja source that a model carries, which turns messages into the text that it was trained on.
//
//   auto chat = ChatTemplate::parse(tokenizer.chat_template());
//   ChatInput input;
//   input.messages = {chat_message("user", "What is the capital of France?")};
//   input.add_generation_prompt = true;
//   input.eos_token = tokenizer.token_text(tokenizer.eos());
//   auto prompt = chat->render(input);  // then encode(*prompt, {.add_special = false, .parse_special = true})
//
// The language is a subset of Jinja 3.1 as transformers configures it (trim_blocks, lstrip_blocks, break and continue,
// `generation`, JSON without HTML escapes), with Python's rules for values: for, if, set, macro, filter blocks and
// expressions with filters, tests and methods. Not supported, and refused with their place: include, import, extends,
// block, call, with, recursive loops.
//
// A template is a program from a stranger: steps, output, memory and nesting are bounded, and it reaches nothing but
// the values it is given and the clock.
#pragma once

#include "mili/runtime/status.h"
#include "mili/text/value.h"

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace mili {

struct ChatLimits {
  uint64_t steps = 5'000'000;  // evaluated nodes, and one for every 64 bytes that an operation touches
  size_t output_bytes = size_t{16} << 20;
  size_t memory_bytes = size_t{64} << 20;  // of values that the template makes, beside a copy of the input
};

struct ChatInput {
  Value::List messages;  // objects with "role", "content" and whatever else the template reads
  Value tools;           // a list, or null for none
  bool add_generation_prompt = false;
  // Undefined in the template when absent.
  std::optional<std::string> bos_token, eos_token;
  // Further variables ("enable_thinking"); they take precedence over those above.
  Value::Object extra;
  // What strftime_now() tells; the local time of the call when absent.
  std::optional<std::tm> now;
  ChatLimits limits;
};

Value chat_message(std::string role, std::string content);

class ChatTemplate {
public:
  // At most 1 MiB, UTF-8. Errors, located as "chat template:LINE:COLUMN": invalid argument (no Jinja), unimplemented
  // (Jinja that is not supported: the construct, filter or test by name), resource exhausted (nested too deeply).
  static StatusOr<ChatTemplate> parse(std::string_view source);

  ChatTemplate(ChatTemplate &&) noexcept;
  ChatTemplate &operator=(ChatTemplate &&) noexcept;
  ~ChatTemplate();

  // Safe from several threads at once. Errors, located likewise: invalid argument (values that do not fit the template,
  // or what it says through raise_exception), resource exhausted (a limit).
  StatusOr<std::string> render(const ChatInput &input) const;

  // The same with nothing but `variables`.
  StatusOr<std::string> render(const Value::Object &variables, const ChatLimits &limits = {},
                               std::optional<std::tm> now = std::nullopt) const;

private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mili
