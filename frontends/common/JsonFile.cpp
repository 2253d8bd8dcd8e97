#include "common/JsonFile.h"

#include "common/File.h"
#include "common/Text.h"

#include <nlohmann/json.hpp>

#include <vector>

using nlohmann::json;

namespace mili {

namespace {

// Builds the value from the parser's events (the interface is nlohmann's SAX interface). Returning false stops the
// parser.
class Builder {
public:
  Builder(const std::string &where, const JsonLimits &limits) : where_(where), limits_(limits) {}

  json root;
  Status error;

  bool null() { return add(json(nullptr)) != nullptr; }
  bool boolean(bool value) { return add(json(value)) != nullptr; }
  bool number_integer(int64_t value) { return add(json(value)) != nullptr; }
  bool number_unsigned(uint64_t value) { return add(json(value)) != nullptr; }
  bool number_float(double value, const std::string &) { return add(json(value)) != nullptr; }
  bool string(std::string &value) { return add(json(std::move(value))) != nullptr; }
  bool binary(json::binary_t &) { return fail("unexpected binary value"); }
  bool start_object(size_t) { return open(json::object()); }
  bool start_array(size_t) { return open(json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string &name) {
    if (++values_ > limits_.values)
      return fail("more than " + std::to_string(limits_.values) + " values");
    auto [it, inserted] = open_.back()->get_ref<json::object_t &>().emplace(std::move(name), nullptr);
    if (!inserted)
      return fail("the key " + quote(it->first) + " appears twice in one object");
    slot_ = &it->second;
    return true;
  }

  bool parse_error(size_t position, const std::string &token, const json::exception &) {
    return fail("not valid JSON at byte " + std::to_string(position) + ", near " + quote(token));
  }

private:
  bool fail(std::string message) {
    error = data_loss(where_ + ": " + std::move(message));
    return false;
  }

  json *add(json value) {
    if (++values_ > limits_.values) {
      fail("more than " + std::to_string(limits_.values) + " values");
      return nullptr;
    }
    if (open_.empty()) {
      root = std::move(value);
      return &root;
    }
    if (open_.back()->is_array()) {
      // Only the last element of an array can be open, so growing never moves a value that open_ points to.
      auto &elements = open_.back()->get_ref<json::array_t &>();
      elements.push_back(std::move(value));
      return &elements.back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool open(json value) {
    if (open_.size() >= limits_.depth)
      return fail("nested deeper than " + std::to_string(limits_.depth) + " levels");
    json *added = add(std::move(value));
    if (!added)
      return false;
    open_.push_back(added);
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string &where_;
  const JsonLimits &limits_;
  std::vector<json *> open_;
  json *slot_ = nullptr;  // where the value of the last key goes
  uint64_t values_ = 0;
};

}  // namespace

StatusOr<json> parse_json(std::string_view text, const std::string &where, const JsonLimits &limits) {
  if (text.size() > limits.bytes)
    return data_loss(where + ": " + std::to_string(text.size()) + " bytes of JSON, at most " +
                     std::to_string(limits.bytes) + " are accepted");
  Builder builder(where, limits);
  if (!json::sax_parse(text.begin(), text.end(), &builder))
    return builder.error.ok() ? data_loss(where + ": not valid JSON") : builder.error;
  return std::move(builder.root);
}

StatusOr<json> read_json_file(const std::string &path, const JsonLimits &limits) {
  MILI_ASSIGN_OR_RETURN(std::string text, read_text_file(path, limits.bytes));
  return parse_json(text, path, limits);
}

}  // namespace mili
