// JsonFields: reads the fields of a model's configuration with errors a person can act on:
//
//   config.json: field 'rope_scaling.factor': expected a number, found "abc"
//
// The first error sticks: every read after it returns the fallback (or the smallest allowed value), so an importer
// reads all its fields in a row and asks once. Nothing read may be used before status() is known to be ok.
//
//   JsonFields fields(model.config(), "config.json");
//   int64_t hidden = fields.positive("hidden_size");
//   double eps = fields.number_or("rms_norm_eps", 1e-6);
//   bool tied = fields.boolean_or("tie_word_embeddings", false);
//   fields.only_string("hidden_act", {"silu"});              // anything else is refused by name
//   fields.ignore({"torch_dtype", "transformers_version"});  // known, without influence on the graph
//   fields.refuse_unread();                                  // a field nobody asked about: refused by name
//   MILI_RETURN_IF_ERROR(fields.status());
//
// A JSON null counts as an absent field: Hugging Face configurations spell "not set" that way.
// Free of LLVM and of exceptions.
#pragma once

#include "mili/runtime/status.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mili {

class JsonFields {
public:
  // The largest value of positive(): sizes in configurations beyond it are mistakes or attacks, and products of two of
  // them still fit 64 bits.
  static constexpr int64_t kMaxSize = std::numeric_limits<int32_t>::max();

  // `json` must outlive the reader and stay unchanged. `where` is the file's name for messages. A value that is not an
  // object makes status() an error at once.
  JsonFields(const nlohmann::json &json, std::string where);

  // Present and not null. Does not count as reading.
  bool has(std::string_view key) const;
  // Present, be it as null: for the fields where "not set" and "left out" differ. Does not count as reading.
  bool contains(std::string_view key) const;

  // Integers. A number such as 8192.0 counts as an integer; 0.5, "8" and true do not. Limits are inclusive.
  int64_t integer(std::string_view key, int64_t min = std::numeric_limits<int64_t>::min(),
                  int64_t max = std::numeric_limits<int64_t>::max());
  int64_t integer_or(std::string_view key, int64_t fallback, int64_t min = std::numeric_limits<int64_t>::min(),
                     int64_t max = std::numeric_limits<int64_t>::max());
  // 1 .. kMaxSize; a failed read returns 1.
  int64_t positive(std::string_view key);
  int64_t positive_or(std::string_view key, int64_t fallback);

  // Finite numbers, written as integers or with a point.
  double number(std::string_view key);
  double number_or(std::string_view key, double fallback);
  // > 0; a failed read returns 1.
  double positive_number(std::string_view key);
  double positive_number_or(std::string_view key, double fallback);

  bool boolean(std::string_view key);
  bool boolean_or(std::string_view key, bool fallback);

  std::string string(std::string_view key);
  std::string string_or(std::string_view key, std::string_view fallback);

  // Arrays whose elements are all of one kind. An absent optional array is nullopt, an empty one is empty.
  std::vector<int64_t> integers(std::string_view key);
  std::optional<std::vector<int64_t>> optional_integers(std::string_view key);
  std::vector<double> numbers(std::string_view key);
  std::optional<std::vector<double>> optional_numbers(std::string_view key);
  std::vector<std::string> strings(std::string_view key);
  std::optional<std::vector<std::string>> optional_strings(std::string_view key);
  // One integer or an array of them ("eos_token_id": 2, or [2, 32000]); empty when absent.
  std::vector<int64_t> integer_or_list(std::string_view key);

  // A nested object; shares errors and the record of read fields with this reader. object() of an absent field is an
  // error and returns a reader of an empty object.
  JsonFields object(std::string_view key);
  std::optional<JsonFields> optional_object(std::string_view key);

  // Features that exist in one value only: absent is fine, anything else is an error of kind unimplemented that names
  // field and value.
  void only_boolean(std::string_view key, bool supported);
  void only_string(std::string_view key, std::initializer_list<std::string_view> supported);
  void only_number(std::string_view key, double supported);
  // Like only_string for a field that must be there; returns the value (the first of `supported` after an error).
  std::string one_of(std::string_view key, std::initializer_list<std::string_view> supported);

  // The value itself, counted as read; null when absent.
  const nlohmann::json *raw(std::string_view key);

  // Marks fields as known. A key ending in '*' covers every key with that prefix.
  void ignore(std::initializer_list<std::string_view> keys);
  // Fields of this object and of every nested object opened by object() that nobody read or ignored, as full paths.
  std::vector<std::string> unread() const;
  // An error of kind unimplemented that lists unread(), if there are any.
  void refuse_unread();

  // Records an error about a field unless one is recorded already:
  // "config.json: field 'sliding_window': <message>".
  void fail(std::string_view key, std::string_view message, StatusCode code = StatusCode::kDataLoss);

  const Status &status() const;

private:
  struct State;
  JsonFields(const nlohmann::json *object, std::string prefix, std::shared_ptr<State> state);

  const nlohmann::json *find(std::string_view key) const;
  // Counts as read; an absent field is an error if `required`.
  const nlohmann::json *take(std::string_view key, bool required);
  void wrong_type(std::string_view key, std::string_view expected, const nlohmann::json &found);
  int64_t to_integer(std::string_view key, const nlohmann::json &value, int64_t min, int64_t max, int64_t fallback,
                     std::string_view expected);
  template <typename T, typename Convert>
  std::vector<T> to_array(std::string_view key, const nlohmann::json *value, std::string_view expected,
                          Convert convert);

  const nlohmann::json *object_;
  std::string prefix_;  // "rope_scaling." for a nested object
  std::shared_ptr<State> state_;
};

// A value as messages show it: its JSON text, shortened to about 60 bytes.
std::string json_excerpt(const nlohmann::json &value);

}  // namespace mili
