// A value as JSON has them: what chat templates are given.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mili {

// Owns all that is in it; copying copies. Objects keep the order of their members.
class Value {
public:
  using List = std::vector<Value>;
  using Object = std::vector<std::pair<std::string, Value>>;

  Value() = default;  // null
  Value(std::nullptr_t) {}
  Value(bool b) : data_(b) {}
  Value(int i) : data_(int64_t{i}) {}
  Value(int64_t i) : data_(i) {}
  Value(double d) : data_(d) {}
  Value(const char *s) : data_(std::string(s)) {}
  Value(std::string_view s) : data_(std::string(s)) {}
  Value(std::string s) : data_(std::move(s)) {}
  Value(List list) : data_(std::move(list)) {}
  Value(Object object) : data_(std::move(object)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  // The content, or nullptr if the value is of another kind.
  const bool *as_bool() const { return std::get_if<bool>(&data_); }
  const int64_t *as_int() const { return std::get_if<int64_t>(&data_); }
  const double *as_double() const { return std::get_if<double>(&data_); }
  const std::string *as_string() const { return std::get_if<std::string>(&data_); }
  const List *as_list() const { return std::get_if<List>(&data_); }
  List *as_list() { return std::get_if<List>(&data_); }
  const Object *as_object() const { return std::get_if<Object>(&data_); }
  Object *as_object() { return std::get_if<Object>(&data_); }

private:
  std::variant<std::monostate, bool, int64_t, double, std::string, List, Object> data_;
};

}  // namespace mili
