#include "mili/Frontends/JsonFields.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <unordered_set>

using nlohmann::json;

namespace mili {

namespace {

const json &empty_object() {
  static const json empty = json::object();
  return empty;
}

// An integer, also when it is spelled with a point; nullopt when the value is anything else or beyond 64 bits.
std::optional<int64_t> as_integer(const json &value) {
  if (value.is_number_unsigned()) {
    const uint64_t n = value.get<uint64_t>();
    if (n > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return std::nullopt;
    return static_cast<int64_t>(n);
  }
  if (value.is_number_integer())
    return value.get<int64_t>();
  if (value.is_number_float()) {
    const double d = value.get<double>();
    if (std::abs(d) < 0x1p53 && d == std::trunc(d))
      return static_cast<int64_t>(d);
  }
  return std::nullopt;
}

std::optional<double> as_number(const json &value) {
  if (!value.is_number())
    return std::nullopt;
  const double d = value.get<double>();
  if (!std::isfinite(d))
    return std::nullopt;
  return d;
}

std::string quoted_list(std::initializer_list<std::string_view> values) {
  std::string text;
  for (std::string_view value : values) {
    if (!text.empty())
      text += ", ";
    text.append("\"").append(value).append("\"");
  }
  return text;
}

std::string number_text(double value) {
  return json(value).dump();
}

}  // namespace

std::string json_excerpt(const json &value) {
  constexpr size_t kLimit = 60;
  // dump() of a big array would build all of it first.
  if (value.is_array() && value.size() > kLimit)
    return "an array of " + std::to_string(value.size()) + " elements";
  if (value.is_object() && value.size() > kLimit)
    return "an object of " + std::to_string(value.size()) + " fields";
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kLimit) {
    text.resize(kLimit);
    text += "...";
  }
  return text;
}

struct JsonFields::State {
  std::string where;
  Status error;
  std::unordered_set<const json *> read;    // values somebody asked for
  std::unordered_set<const json *> opened;  // of these, objects with a reader of their own
};

JsonFields::JsonFields(const json &value, std::string where) : object_(&value), state_(std::make_shared<State>()) {
  state_->where = std::move(where);
  if (!value.is_object()) {
    state_->error = data_loss(state_->where + ": expected a JSON object, found " + json_excerpt(value));
    object_ = &empty_object();
  }
}

JsonFields::JsonFields(const json *object, std::string prefix, std::shared_ptr<State> state)
    : object_(object), prefix_(std::move(prefix)), state_(std::move(state)) {}

const Status &JsonFields::status() const {
  return state_->error;
}

void JsonFields::fail(std::string_view key, std::string_view message, StatusCode code) {
  if (!state_->error.ok())
    return;
  std::string text = state_->where + ": field '" + prefix_;
  text.append(key).append("': ").append(message);
  state_->error = Status(code, std::move(text));
}

void JsonFields::wrong_type(std::string_view key, std::string_view expected, const json &found) {
  fail(key, "expected " + std::string(expected) + ", found " + json_excerpt(found));
}

const json *JsonFields::find(std::string_view key) const {
  auto it = object_->find(key);
  return it == object_->end() ? nullptr : &*it;
}

bool JsonFields::has(std::string_view key) const {
  const json *value = find(key);
  return value && !value->is_null();
}

bool JsonFields::contains(std::string_view key) const {
  return find(key) != nullptr;
}

const json *JsonFields::take(std::string_view key, bool required) {
  const json *value = find(key);
  if (value)
    state_->read.insert(value);
  if (value && !value->is_null())
    return value;
  if (required)
    fail(key, value ? "required, but it is null" : "required, but it is missing");
  return nullptr;
}

const json *JsonFields::raw(std::string_view key) {
  return take(key, false);
}

int64_t JsonFields::to_integer(std::string_view key, const json &value, int64_t min, int64_t max, int64_t fallback,
                               std::string_view expected) {
  std::optional<int64_t> n = as_integer(value);
  if (!n) {
    wrong_type(key, expected, value);
    return fallback;
  }
  if (*n < min || *n > max) {
    std::string range = " in " + std::to_string(min) + " .. " + std::to_string(max);
    wrong_type(key, "an integer" + range, value);
    return fallback;
  }
  return *n;
}

int64_t JsonFields::integer(std::string_view key, int64_t min, int64_t max) {
  const int64_t fallback = min > 0 ? min : (max < 0 ? max : 0);
  const json *value = take(key, true);
  return value ? to_integer(key, *value, min, max, fallback, "an integer") : fallback;
}

int64_t JsonFields::integer_or(std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  const json *value = take(key, false);
  return value ? to_integer(key, *value, min, max, fallback, "an integer") : fallback;
}

int64_t JsonFields::positive(std::string_view key) {
  const json *value = take(key, true);
  return value ? to_integer(key, *value, 1, kMaxSize, 1, "a positive integer") : 1;
}

int64_t JsonFields::positive_or(std::string_view key, int64_t fallback) {
  const json *value = take(key, false);
  return value ? to_integer(key, *value, 1, kMaxSize, fallback, "a positive integer") : fallback;
}

double JsonFields::number(std::string_view key) {
  const json *value = take(key, true);
  if (!value)
    return 0;
  std::optional<double> d = as_number(*value);
  if (!d)
    wrong_type(key, "a number", *value);
  return d.value_or(0);
}

double JsonFields::number_or(std::string_view key, double fallback) {
  return has(key) ? number(key) : (take(key, false), fallback);
}

double JsonFields::positive_number(std::string_view key) {
  const double d = number(key);
  if (d > 0)
    return d;
  fail(key, "expected a number above 0, found " + number_text(d));
  return 1;
}

double JsonFields::positive_number_or(std::string_view key, double fallback) {
  return has(key) ? positive_number(key) : (take(key, false), fallback);
}

bool JsonFields::boolean(std::string_view key) {
  const json *value = take(key, true);
  if (!value)
    return false;
  if (!value->is_boolean()) {
    wrong_type(key, "true or false", *value);
    return false;
  }
  return value->get<bool>();
}

bool JsonFields::boolean_or(std::string_view key, bool fallback) {
  return has(key) ? boolean(key) : (take(key, false), fallback);
}

std::string JsonFields::string(std::string_view key) {
  const json *value = take(key, true);
  if (!value)
    return {};
  if (!value->is_string()) {
    wrong_type(key, "a string", *value);
    return {};
  }
  return value->get<std::string>();
}

std::string JsonFields::string_or(std::string_view key, std::string_view fallback) {
  return has(key) ? string(key) : (take(key, false), std::string(fallback));
}

template <typename T, typename Convert>
std::vector<T> JsonFields::to_array(std::string_view key, const json *value, std::string_view expected,
                                    Convert convert) {
  std::vector<T> result;
  if (!value)
    return result;
  if (!value->is_array()) {
    wrong_type(key, "an array of " + std::string(expected), *value);
    return result;
  }
  result.reserve(value->size());
  for (size_t i = 0; i < value->size(); ++i) {
    std::optional<T> element = convert((*value)[i]);
    if (!element) {
      wrong_type(std::string(key) + "[" + std::to_string(i) + "]", "one of " + std::string(expected), (*value)[i]);
      return {};
    }
    result.push_back(std::move(*element));
  }
  return result;
}

std::vector<int64_t> JsonFields::integers(std::string_view key) {
  return to_array<int64_t>(key, take(key, true), "integers", as_integer);
}

std::optional<std::vector<int64_t>> JsonFields::optional_integers(std::string_view key) {
  const json *value = take(key, false);
  if (!value)
    return std::nullopt;
  return to_array<int64_t>(key, value, "integers", as_integer);
}

std::vector<double> JsonFields::numbers(std::string_view key) {
  return to_array<double>(key, take(key, true), "numbers", as_number);
}

std::optional<std::vector<double>> JsonFields::optional_numbers(std::string_view key) {
  const json *value = take(key, false);
  if (!value)
    return std::nullopt;
  return to_array<double>(key, value, "numbers", as_number);
}

static std::optional<std::string> as_string(const json &value) {
  if (!value.is_string())
    return std::nullopt;
  return value.get<std::string>();
}

std::vector<std::string> JsonFields::strings(std::string_view key) {
  return to_array<std::string>(key, take(key, true), "strings", as_string);
}

std::optional<std::vector<std::string>> JsonFields::optional_strings(std::string_view key) {
  const json *value = take(key, false);
  if (!value)
    return std::nullopt;
  return to_array<std::string>(key, value, "strings", as_string);
}

std::vector<int64_t> JsonFields::integer_or_list(std::string_view key) {
  const json *value = take(key, false);
  if (!value)
    return {};
  if (value->is_array())
    return to_array<int64_t>(key, value, "integers", as_integer);
  if (std::optional<int64_t> n = as_integer(*value))
    return {*n};
  wrong_type(key, "an integer or an array of integers", *value);
  return {};
}

JsonFields JsonFields::object(std::string_view key) {
  const std::string prefix = prefix_ + std::string(key) + ".";
  const json *value = take(key, true);
  if (value && !value->is_object()) {
    wrong_type(key, "an object", *value);
    value = nullptr;
  }
  if (!value)
    return JsonFields(&empty_object(), prefix, state_);
  state_->opened.insert(value);
  return JsonFields(value, prefix, state_);
}

std::optional<JsonFields> JsonFields::optional_object(std::string_view key) {
  if (!take(key, false))
    return std::nullopt;
  return object(key);
}

void JsonFields::only_boolean(std::string_view key, bool supported) {
  if (!has(key)) {
    take(key, false);
    return;
  }
  const bool value = boolean(key);
  if (value != supported)
    fail(key,
         std::string("only ") + (supported ? "true" : "false") + " is supported, found " + (value ? "true" : "false"),
         StatusCode::kUnimplemented);
}

std::string JsonFields::one_of(std::string_view key, std::initializer_list<std::string_view> supported) {
  std::string value = string(key);
  for (std::string_view candidate : supported)
    if (value == candidate)
      return value;
  fail(key, "supported: " + quoted_list(supported) + "; found " + json_excerpt(json(value)),
       StatusCode::kUnimplemented);
  return supported.size() ? std::string(*supported.begin()) : std::string();
}

void JsonFields::only_string(std::string_view key, std::initializer_list<std::string_view> supported) {
  if (has(key))
    one_of(key, supported);
  else
    take(key, false);
}

void JsonFields::only_number(std::string_view key, double supported) {
  const double value = number_or(key, supported);
  if (value != supported)
    fail(key, "only " + number_text(supported) + " is supported, found " + number_text(value),
         StatusCode::kUnimplemented);
}

void JsonFields::ignore(std::initializer_list<std::string_view> keys) {
  for (std::string_view key : keys) {
    if (!key.empty() && key.back() == '*') {
      const std::string_view prefix = key.substr(0, key.size() - 1);
      for (auto it = object_->begin(); it != object_->end(); ++it)
        if (it.key().starts_with(prefix))
          state_->read.insert(&*it);
    } else if (const json *value = find(key)) {
      state_->read.insert(value);
    }
  }
}

std::vector<std::string> JsonFields::unread() const {
  std::vector<std::string> paths;
  for (auto it = object_->begin(); it != object_->end(); ++it) {
    const json *value = &*it;
    if (!state_->read.contains(value)) {
      paths.push_back(prefix_ + it.key());
    } else if (state_->opened.contains(value)) {
      std::vector<std::string> nested = JsonFields(value, prefix_ + it.key() + ".", state_).unread();
      paths.insert(paths.end(), nested.begin(), nested.end());
    }
  }
  return paths;
}

void JsonFields::refuse_unread() {
  if (!state_->error.ok())
    return;
  const std::vector<std::string> paths = unread();
  if (paths.empty())
    return;
  std::string text = state_->where + ": unknown field" + (paths.size() > 1 ? "s" : "");
  for (size_t i = 0; i < paths.size() && i < 8; ++i)
    text += (i ? ", '" : " '") + paths[i] + "'";
  if (paths.size() > 8)
    text += " and " + std::to_string(paths.size() - 8) + " more";
  text += ": their meaning for the graph is not known, and it is never guessed";
  state_->error = unimplemented(std::move(text));
}

}  // namespace mili
