// Python's rules for values: what is true, equal, printed, indexed.
#include "template_values.h"

#include "unicode.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace mili::text {

using Kind = Val::Kind;

namespace {
constexpr int kMaxValueDepth = 100;
}

void Values::fail(std::string message) const {
  throw TemplateError{StatusCode::kInvalidArgument, at, std::move(message)};
}

void Values::exhausted(const char *what, uint64_t limit) const {
  throw TemplateError{StatusCode::kResourceExhausted, at,
                      "more than " + std::to_string(limit) + " " + what + " (ChatLimits)"};
}

Values::Depth::Depth(Values &v) : values(v) {
  if (++values.depth_ > kMaxValueDepth) {
    --values.depth_;  // the destructor of an object that was not made does not run
    values.exhausted("levels of nesting", kMaxValueDepth);
  }
}

void Values::charge(size_t bytes) {
  memory_ += bytes;
  if (memory_ > limits_.memory_bytes)
    exhausted("bytes of values", limits_.memory_bytes);
}

Node *Values::node() {
  charge(sizeof(Node));
  return &nodes_.emplace_back();
}

Scope *Values::scope(Scope *parent) {
  charge(sizeof(Scope) + 64);
  Scope &scope = scopes_.emplace_back();
  scope.parent = parent;
  return &scope;
}

Val Values::string(std::string text) {
  step(text.size());
  charge(text.size());
  Node *n = node();
  n->text = std::move(text);
  return Val::make(Kind::kString, n);
}

Val Values::list(std::vector<Val> items, Kind kind) {
  step(items.size() * 8);
  charge(items.size() * sizeof(Val));
  Node *n = node();
  n->items = std::move(items);
  return Val::make(kind, n);
}

Val Values::undefined(std::string_view name) {
  Node *n = node();
  n->text = name;
  return Val::make(Kind::kUndefined, n);
}

Val Values::function(std::string_view name) {
  Node *n = node();
  n->text = name;
  return Val::make(Kind::kFunction, n);
}

Val Values::method(Val self, std::string_view name) {
  Node *n = node();
  n->text = name;
  n->items.push_back(self);
  return Val::make(Kind::kMethod, n);
}

Val Values::import(const Value &value) {
  const Depth depth(*this);
  // The input is the caller's own: it counts neither as steps nor as memory of the template.
  if (const bool *b = value.as_bool())
    return Val::of(*b);
  if (const int64_t *i = value.as_int())
    return Val::of(*i);
  if (const double *d = value.as_double())
    return Val::of(*d);
  if (value.is_null())
    return Val::none();
  Node *n = &nodes_.emplace_back();
  if (const std::string *s = value.as_string()) {
    append_well_formed(n->text, *s, /*keep_incomplete=*/false);
    return Val::make(Kind::kString, n);
  }
  if (const Value::List *list = value.as_list()) {
    n->items.reserve(list->size());
    for (const Value &element : *list)
      n->items.push_back(import(element));
    return Val::make(Kind::kList, n);
  }
  for (const auto &[key, element] : *value.as_object()) {
    n->keys.push_back(import(Value(key)));
    n->items.push_back(import(element));
  }
  return Val::make(Kind::kDict, n);
}

bool Values::truth(const Val &v) const {
  switch (v.kind) {
  case Kind::kUndefined:
  case Kind::kNone: return false;
  case Kind::kBool: return v.boolean;
  case Kind::kInt: return v.integer != 0;
  case Kind::kDouble: return v.number != 0;
  case Kind::kString: return !v.node->text.empty();
  case Kind::kList:
  case Kind::kTuple:
  case Kind::kDict: return !v.node->items.empty();
  default: return true;
  }
}

const char *Values::type_name(const Val &v) const {
  switch (v.kind) {
  case Kind::kUndefined: return "an undefined value";
  case Kind::kNone: return "none";
  case Kind::kBool: return "a boolean";
  case Kind::kInt: return "an integer";
  case Kind::kDouble: return "a float";
  case Kind::kString: return "a string";
  case Kind::kList: return "a list";
  case Kind::kTuple: return "a tuple";
  case Kind::kDict: return "a mapping";
  case Kind::kNamespace: return "a namespace";
  case Kind::kLoop: return "the loop variable";
  case Kind::kMacro: return "a macro";
  case Kind::kFunction: return "a function";
  case Kind::kMethod: return "a method";
  }
  return "a value";
}

std::string format_double(double d) {
  if (std::isnan(d))
    return "nan";
  if (std::isinf(d))
    return d < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, d, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  std::string out;
  if (text.starts_with('-')) {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  std::string digits(text.substr(0, e));
  std::erase(digits, '.');
  int exponent = 0;
  const size_t sign = text[e + 1] == '+' ? 1 : 0;  // from_chars takes only "-"
  std::from_chars(text.data() + e + 1 + sign, text.data() + text.size(), exponent);
  // Python's repr: positional from 1e-4 up to below 1e16.
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (digits.size() > 1)
      out.append(".").append(digits, 1);
    const std::string power = std::to_string(std::abs(exponent));
    return out + (exponent < 0 ? "e-" : "e+") + (power.size() < 2 ? "0" : "") + power;
  }
  if (exponent < 0) {
    const size_t zeros = static_cast<size_t>(-exponent) - 1;
    return out + "0." + std::string(zeros, '0') + digits;
  }
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole)
    return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string Values::str(const Val &v) {
  std::string out;
  append_str(out, v);
  return out;
}

void Values::append_str(std::string &out, const Val &v) {
  if (v.is(Kind::kUndefined))
    return;
  if (v.is(Kind::kString)) {
    step(v.node->text.size());
    out += v.node->text;
  } else {
    append_repr(out, v);
  }
}

namespace {

void append_hex(std::string &out, uint32_t value, int digits) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (int i = digits - 1; i >= 0; --i)
    out += kDigits[(value >> (4 * i)) & 15];
}

void append_string_repr(std::string &out, std::string_view s) {
  const char quote = s.find('\'') != std::string_view::npos && s.find('"') == std::string_view::npos ? '"' : '\'';
  out += quote;
  for (size_t length; !s.empty(); s.remove_prefix(length)) {
    const int32_t c = decode_utf8(s, length);
    if (c == quote || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      out.append(s.substr(0, length));
    } else {
      const int digits = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
      out += digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U";
      append_hex(out, static_cast<uint32_t>(c), digits);
    }
  }
  out += quote;
}

void append_json_string(std::string &out, std::string_view s, bool ascii) {
  out += '"';
  for (size_t length; !s.empty(); s.remove_prefix(length)) {
    const int32_t c = decode_utf8(s, length);
    static constexpr std::string_view kFrom = "\"\\\n\r\t\b\f", kTo = "\"\\nrtbf";
    const size_t escape = c < 0x80 ? kFrom.find(static_cast<char>(c)) : std::string_view::npos;
    if (escape != std::string_view::npos) {
      out += '\\';
      out += kTo[escape];
    } else if (c < 0x20 || (ascii && c > 0x7E)) {
      const uint32_t u = static_cast<uint32_t>(c);
      if (u >= 0x10000) {
        out += "\\u";
        append_hex(out, 0xD800 + ((u - 0x10000) >> 10), 4);
      }
      out += "\\u";
      append_hex(out, u < 0x10000 ? u : 0xDC00 + ((u - 0x10000) & 0x3FF), 4);
    } else {
      out.append(s.substr(0, length));
    }
  }
  out += '"';
}

}  // namespace

void Values::append_repr(std::string &out, const Val &v) {
  const Depth depth(*this);
  step();
  check_output(out.size());
  switch (v.kind) {
  case Kind::kUndefined: out += "Undefined"; break;
  case Kind::kNone: out += "None"; break;
  case Kind::kBool: out += v.boolean ? "True" : "False"; break;
  case Kind::kInt: out += std::to_string(v.integer); break;
  case Kind::kDouble: out += format_double(v.number); break;
  case Kind::kString:
    step(v.node->text.size());
    append_string_repr(out, v.node->text);
    break;
  case Kind::kList:
  case Kind::kTuple:
    out += v.is(Kind::kList) ? '[' : '(';
    for (size_t i = 0; i < v.node->items.size(); ++i) {
      out += i ? ", " : "";
      append_repr(out, v.node->items[i]);
    }
    if (v.is(Kind::kTuple) && v.node->items.size() == 1)
      out += ',';
    out += v.is(Kind::kList) ? ']' : ')';
    break;
  case Kind::kDict:
    out += '{';
    for (size_t i = 0; i < v.node->items.size(); ++i) {
      out += i ? ", " : "";
      append_repr(out, v.node->keys[i]);
      out += ": ";
      append_repr(out, v.node->items[i]);
    }
    out += '}';
    break;
  default: fail(std::string("cannot print ") + type_name(v));
  }
}

void Values::append_json(std::string &out, const Val &v, const JsonStyle &style, int level) {
  const Depth depth(*this);
  step();
  check_output(out.size());
  const auto line = [&](int n) {
    if (style.indent < 0)
      return;
    out += '\n';
    out.append(static_cast<size_t>(style.indent) * static_cast<size_t>(n), ' ');
  };
  switch (v.kind) {
  case Kind::kNone: out += "null"; return;
  case Kind::kBool: out += v.boolean ? "true" : "false"; return;
  case Kind::kInt: out += std::to_string(v.integer); return;
  case Kind::kDouble:
    out += std::isnan(v.number)   ? "NaN"
           : std::isinf(v.number) ? (v.number < 0 ? "-Infinity" : "Infinity")
                                  : format_double(v.number);
    return;
  case Kind::kString:
    step(v.node->text.size());
    append_json_string(out, v.node->text, style.ascii);
    return;
  case Kind::kList:
  case Kind::kTuple:
    if (v.node->items.empty()) {
      out += "[]";
      return;
    }
    out += '[';
    for (size_t i = 0; i < v.node->items.size(); ++i) {
      out += i ? style.item_separator : "";
      line(level + 1);
      append_json(out, v.node->items[i], style, level + 1);
    }
    line(level);
    out += ']';
    return;
  case Kind::kDict: {
    if (v.node->items.empty()) {
      out += "{}";
      return;
    }
    std::vector<size_t> order(v.node->items.size());
    for (size_t i = 0; i < order.size(); ++i)
      order[i] = i;
    if (style.sort)
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t a, size_t b) { return compare(v.node->keys[a], v.node->keys[b], "<") < 0; });
    out += '{';
    for (size_t i = 0; i < order.size(); ++i) {
      out += i ? style.item_separator : "";
      line(level + 1);
      const Val &key = v.node->keys[order[i]];
      if (key.is(Kind::kString)) {
        append_json_string(out, key.node->text, style.ascii);
      } else {
        out += '"';
        append_json(out, key, style, level);
        out += '"';
      }
      out += style.key_separator;
      append_json(out, v.node->items[order[i]], style, level + 1);
    }
    line(level);
    out += '}';
    return;
  }
  default: fail(std::string("cannot write ") + type_name(v) + " as JSON");
  }
}

namespace {
double to_double(const Val &v) {
  return v.is(Kind::kBool) ? v.boolean : v.is(Kind::kInt) ? static_cast<double>(v.integer) : v.number;
}
int64_t to_int(const Val &v) {
  return v.is(Kind::kBool) ? v.boolean : v.integer;
}
}  // namespace

bool Values::equal(const Val &a, const Val &b) {
  const Depth depth(*this);
  step();
  if (a.is_number() && b.is_number()) {
    if (a.is(Kind::kDouble) || b.is(Kind::kDouble))
      return to_double(a) == to_double(b);
    return to_int(a) == to_int(b);
  }
  if (a.kind != b.kind)
    return false;
  switch (a.kind) {
  case Kind::kUndefined:
  case Kind::kNone: return true;
  case Kind::kString: step(std::min(a.node->text.size(), b.node->text.size())); return a.node->text == b.node->text;
  case Kind::kList:
  case Kind::kTuple:
    if (a.node->items.size() != b.node->items.size())
      return false;
    for (size_t i = 0; i < a.node->items.size(); ++i)
      if (!equal(a.node->items[i], b.node->items[i]))
        return false;
    return true;
  case Kind::kDict:
    if (a.node->items.size() != b.node->items.size())
      return false;
    for (size_t i = 0; i < a.node->items.size(); ++i) {
      const Val *other = find(*b.node, a.node->keys[i]);
      if (!other || !equal(a.node->items[i], *other))
        return false;
    }
    return true;
  default: return a.node == b.node;
  }
}

int Values::compare(const Val &a, const Val &b, std::string_view op) {
  const Depth depth(*this);
  step();
  if (a.is_number() && b.is_number()) {
    if (a.is(Kind::kDouble) || b.is(Kind::kDouble)) {
      const double x = to_double(a), y = to_double(b);
      return x < y ? -1 : x > y ? 1 : 0;
    }
    const int64_t x = to_int(a), y = to_int(b);
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.is(Kind::kString) && b.is(Kind::kString)) {
    step(std::min(a.node->text.size(), b.node->text.size()));
    return a.node->text.compare(b.node->text);  // bytes of UTF-8 order as code points do
  }
  if (a.is_sequence() && a.kind == b.kind) {
    for (size_t i = 0; i < std::min(a.node->items.size(), b.node->items.size()); ++i)
      if (!equal(a.node->items[i], b.node->items[i]))
        return compare(a.node->items[i], b.node->items[i], op);
    return a.node->items.size() < b.node->items.size() ? -1 : a.node->items.size() > b.node->items.size() ? 1 : 0;
  }
  fail("cannot compare " + std::string(type_name(a)) + " and " + type_name(b) + " with \"" + std::string(op) + "\"");
}

bool Values::contains(const Val &container, const Val &item) {
  switch (container.kind) {
  case Kind::kUndefined: return false;
  case Kind::kString:
    if (!item.is(Kind::kString))
      fail("\"in\" a string needs a string, found " + std::string(type_name(item)));
    step(container.node->text.size());
    return container.node->text.find(item.node->text) != std::string::npos;
  case Kind::kList:
  case Kind::kTuple:
    for (const Val &element : container.node->items)
      if (equal(element, item))
        return true;
    return false;
  case Kind::kDict: return find(*container.node, item) != nullptr;
  default: fail(std::string("\"in\" needs a string, a list or a mapping, found ") + type_name(container));
  }
}

size_t Values::length(const Val &v) {
  switch (v.kind) {
  case Kind::kUndefined: return 0;
  case Kind::kString: step(v.node->text.size()); return count_code_points(v.node->text);
  case Kind::kList:
  case Kind::kTuple:
  case Kind::kDict: return v.node->items.size();
  default: fail(std::string(type_name(v)) + " has no length");
  }
}

std::vector<Val> Values::elements(const Val &v) {
  switch (v.kind) {
  case Kind::kUndefined: return {};
  case Kind::kList:
  case Kind::kTuple: step(v.node->items.size() * 8); return v.node->items;
  case Kind::kDict: step(v.node->items.size() * 8); return v.node->keys;
  case Kind::kString: {
    std::vector<Val> out;
    std::string_view s = v.node->text;
    for (size_t length; !s.empty(); s.remove_prefix(length)) {
      decode_utf8(s, length);
      out.push_back(string(std::string(s.substr(0, length))));
    }
    return out;
  }
  default: fail(std::string("cannot iterate over ") + type_name(v));
  }
}

Val Values::binary(std::string_view op, const Val &a, const Val &b) {
  if (op == "+" && a.is(Kind::kString) && b.is(Kind::kString))
    return string(a.node->text + b.node->text);
  if (op == "+" && a.is_sequence() && a.kind == b.kind) {
    std::vector<Val> items = a.node->items;
    items.insert(items.end(), b.node->items.begin(), b.node->items.end());
    return list(std::move(items), a.kind);
  }
  if (op == "*" && (a.is(Kind::kInt) || b.is(Kind::kInt)) && (!a.is_number() || !b.is_number())) {
    const Val &repeated = a.is(Kind::kInt) ? b : a;
    const int64_t times = std::max<int64_t>(0, a.is(Kind::kInt) ? a.integer : b.integer);
    if (repeated.is(Kind::kString) || repeated.is_sequence()) {
      const size_t size =
          repeated.is(Kind::kString) ? repeated.node->text.size() : repeated.node->items.size() * sizeof(Val);
      if (size != 0 && static_cast<uint64_t>(times) > limits_.memory_bytes / size)
        exhausted("bytes of values", limits_.memory_bytes);
      std::string text;
      std::vector<Val> items;
      for (int64_t i = 0; i < times && size != 0; ++i) {
        text += repeated.node->text;
        items.insert(items.end(), repeated.node->items.begin(), repeated.node->items.end());
      }
      return repeated.is(Kind::kString) ? string(std::move(text)) : list(std::move(items), repeated.kind);
    }
  }
  if (!a.is_number() || !b.is_number()) {
    const Val &bad = a.is(Kind::kUndefined) ? a : b;
    if (bad.is(Kind::kUndefined) && bad.node)
      fail("\"" + bad.node->text + "\" is undefined");
    fail("cannot apply \"" + std::string(op) + "\" to " + type_name(a) + " and " + type_name(b));
  }
  const bool real = a.is(Kind::kDouble) || b.is(Kind::kDouble);
  if ((op == "/" || op == "//" || op == "%") && to_double(b) == 0)
    fail("division by zero");
  if (op == "**" && (real || to_int(b) < 0))
    return Val::of(std::pow(to_double(a), to_double(b)));
  if (real || op == "/") {
    const double x = to_double(a), y = to_double(b);
    if (op == "+")
      return Val::of(x + y);
    if (op == "-")
      return Val::of(x - y);
    if (op == "*")
      return Val::of(x * y);
    if (op == "/")
      return Val::of(x / y);
    if (op == "//")
      return Val::of(std::floor(x / y));
    const double rest = std::fmod(x, y);
    return Val::of(rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest);
  }
  const int64_t x = to_int(a), y = to_int(b);
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(x, y, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(x, y, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(x, y, &result);
  } else if (op == "**") {
    result = 1;
    int64_t base = x;
    for (int64_t e = y; e > 0 && !overflow; e >>= 1) {
      if (e & 1)
        overflow = __builtin_mul_overflow(result, base, &result);
      if (e > 1)
        overflow |= __builtin_mul_overflow(base, base, &base);
    }
  } else if (y == -1) {  // the one division that overflows
    if (op == "//")
      overflow = __builtin_sub_overflow(int64_t{0}, x, &result);
  } else {
    int64_t quotient = x / y, rest = x % y;
    if (rest != 0 && (rest < 0) != (y < 0)) {
      --quotient;
      rest += y;
    }
    result = op == "//" ? quotient : rest;
  }
  if (overflow)
    fail("\"" + std::string(op) + "\" goes beyond 64 bits");
  return Val::of(result);
}

Val *Values::find(Node &dict, std::string_view key) {
  step(dict.keys.size() * 8);
  for (size_t i = 0; i < dict.keys.size(); ++i)
    if (dict.keys[i].is(Kind::kString) && dict.keys[i].node->text == key)
      return &dict.items[i];
  return nullptr;
}

Val *Values::find(Node &dict, const Val &key) {
  if (key.is(Kind::kString))
    return find(dict, key.node->text);
  for (size_t i = 0; i < dict.keys.size(); ++i)
    if (equal(dict.keys[i], key))
      return &dict.items[i];
  return nullptr;
}

void Values::put(Node &dict, const Val &key, const Val &value) {
  if (key.is(Kind::kList) || key.is(Kind::kDict) || key.is(Kind::kUndefined))
    fail(std::string(type_name(key)) + " cannot be a key");
  if (Val *known = find(dict, key)) {
    *known = value;
    return;
  }
  charge(2 * sizeof(Val));
  dict.keys.push_back(key);
  dict.items.push_back(value);
}

Val Values::attribute(const Val &v, std::string_view name) {
  switch (v.kind) {
  case Kind::kUndefined:
    fail((v.node ? "\"" + v.node->text + "\"" : std::string("the value")) + " is undefined, so it has no \"" +
         std::string(name) + "\"");
  case Kind::kDict:
    if (is_dict_method(name))
      return method(v, name);
    [[fallthrough]];
  case Kind::kNamespace:
    if (const Val *member = find(*v.node, name))
      return *member;
    return undefined(name);
  case Kind::kString: return is_string_method(name) ? method(v, name) : undefined(name);
  case Kind::kList: return is_list_method(name) ? method(v, name) : undefined(name);
  case Kind::kLoop: {
    const int64_t index = v.node->index, count = static_cast<int64_t>(v.node->items.size());
    if (name == "index")
      return Val::of(index + 1);
    if (name == "index0")
      return Val::of(index);
    if (name == "revindex")
      return Val::of(count - index);
    if (name == "revindex0")
      return Val::of(count - index - 1);
    if (name == "first")
      return Val::of(index == 0);
    if (name == "last")
      return Val::of(index + 1 == count);
    if (name == "length")
      return Val::of(count);
    if (name == "depth")
      return Val::of(int64_t{1});
    if (name == "depth0")
      return Val::of(int64_t{0});
    if (name == "previtem")
      return index > 0 ? v.node->items[static_cast<size_t>(index - 1)] : undefined("there is no previous item");
    if (name == "nextitem")
      return index + 1 < count ? v.node->items[static_cast<size_t>(index + 1)] : undefined("there is no next item");
    if (name == "cycle")
      return method(v, name);
    return undefined(name);
  }
  case Kind::kMacro:
    if (name == "name")
      return string(v.node->macro->names[0]);
    return undefined(name);
  default: return undefined(name);
  }
}

Val Values::item(const Val &v, const Val &key) {
  if ((v.is_sequence() || v.is(Kind::kString)) && (key.is(Kind::kInt) || key.is(Kind::kBool))) {
    const int64_t size = static_cast<int64_t>(length(v));
    int64_t index = to_int(key);
    index += index < 0 ? size : 0;
    if (index < 0 || index >= size)
      return undefined("index " + std::to_string(to_int(key)));
    if (v.is_sequence())
      return v.node->items[static_cast<size_t>(index)];
    return slice(v, Val::of(index), Val::of(index + 1), Val::none());
  }
  if (v.is(Kind::kDict)) {
    if (const Val *member = find(*v.node, key))
      return *member;
  }
  // Jinja tries the attribute last.
  if (key.is(Kind::kString))
    return attribute(v, key.node->text);
  if (v.is(Kind::kUndefined))
    return attribute(v, str(key));
  return undefined(str(key));
}

Val Values::slice(const Val &v, const Val &begin, const Val &end, const Val &stride) {
  if (!v.is_sequence() && !v.is(Kind::kString))
    fail(std::string("cannot take a slice of ") + type_name(v));
  const auto bound = [&](const Val &b, const char *what, int64_t fallback) {
    if (b.is(Kind::kNone))
      return fallback;
    if (!b.is(Kind::kInt) && !b.is(Kind::kBool))
      fail(std::string("the ") + what + " of a slice is " + type_name(b) + ", expected an integer");
    return to_int(b);
  };
  const int64_t size = static_cast<int64_t>(length(v));
  const int64_t by = bound(stride, "step", 1);
  if (by == 0)
    fail("the step of a slice is 0");
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? size : size - 1;
  const auto clamp = [&](int64_t i) {
    if (i < 0)
      return std::max(i + size, low);
    return std::min(i, high);
  };
  const int64_t first = begin.is(Kind::kNone) ? (by > 0 ? low : high) : clamp(bound(begin, "beginning", 0));
  const int64_t last = end.is(Kind::kNone) ? (by > 0 ? high : low) : clamp(bound(end, "end", 0));
  std::vector<Val> items;
  std::string text;
  const std::string_view s = v.node->text;
  std::vector<size_t> starts;
  if (v.is(Kind::kString)) {
    step(s.size());
    for (size_t i = 0; i < s.size(); ++i)
      if ((static_cast<uint8_t>(s[i]) & 0xC0) != 0x80)
        starts.push_back(i);
    starts.push_back(s.size());
    if (by == 1)
      return string(first < last
                        ? std::string(s.substr(starts[static_cast<size_t>(first)],
                                               starts[static_cast<size_t>(last)] - starts[static_cast<size_t>(first)]))
                        : std::string());
  }
  for (int64_t i = first; by > 0 ? i < last : i > last;) {
    const size_t index = static_cast<size_t>(i);
    if (v.is(Kind::kString))
      text.append(s.substr(starts[index], starts[index + 1] - starts[index]));
    else
      items.push_back(v.node->items[index]);
    if (__builtin_add_overflow(i, by, &i))
      break;
  }
  return v.is(Kind::kString) ? string(std::move(text)) : list(std::move(items), v.kind);
}

Val Values::path(const Val &v, const Val &attribute_path) {
  if (attribute_path.is(Kind::kInt))
    return item(v, attribute_path);
  std::string_view rest = text_of(attribute_path, "an attribute");
  Val current = v;
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    int64_t index;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool number = error == std::errc() && end == part.data() + part.size();
    current = item(current, number ? Val::of(index) : string(std::string(part)));
    if (dot == std::string_view::npos)
      return current;
    rest.remove_prefix(dot + 1);
  }
}

}  // namespace mili::text
