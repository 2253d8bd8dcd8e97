// Jinja's filters and tests.
#include "template_values.h"

#include "unicode.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace mili::text {

using Kind = Val::Kind;

namespace {

constexpr std::string_view kFilters[] = {
    "abs",    "capitalize", "count",      "d",       "default", "dictsort", "e",    "escape", "first",      "float",
    "indent", "int",        "items",      "join",    "last",    "length",   "list", "lower",  "map",        "max",
    "min",    "reject",     "rejectattr", "replace", "reverse", "round",    "safe", "select", "selectattr", "sort",
    "string", "sum",        "title",      "tojson",  "trim",    "unique",   "upper"};

constexpr std::string_view kTests[] = {
    "boolean", "callable", "defined",   "divisibleby", "eq",   "equalto", "==",       "even",   "false",
    "float",   "ge",       "gt",        "greaterthan", "in",   "integer", "iterable", "le",     "lessthan",
    "lower",   "lt",       "mapping",   "ne",          "none", "number",  "odd",      "sameas", "sequence",
    "string",  "true",     "undefined", "upper",       "!=",   ">",       ">=",       "<",      "<="};

template <size_t N>
bool has(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

}  // namespace

bool is_filter(std::string_view name) {
  return has(kFilters, name);
}
bool is_test(std::string_view name) {
  return has(kTests, name);
}

Val Values::arg(const Args &args, size_t place, std::string_view name, Val fallback) const {
  if (place < args.positional.size())
    return args.positional[place];
  for (const auto &[key, value] : args.keywords)
    if (key == name)
      return value;
  return fallback;
}

int64_t Values::int_arg(const Args &args, size_t place, std::string_view name, int64_t fallback) const {
  const Val v = arg(args, place, name, Val::of(fallback));
  if (v.is(Kind::kBool))
    return v.boolean;
  if (!v.is(Kind::kInt))
    fail("\"" + std::string(name) + "\" is " + type_name(v) + ", expected an integer");
  return v.integer;
}

bool Values::bool_arg(const Args &args, size_t place, std::string_view name, bool fallback) const {
  return truth(arg(args, place, name, Val::of(fallback)));
}

std::string_view Values::text_of(const Val &v, const char *what) const {
  if (!v.is(Kind::kString))
    fail(std::string(what) + " is " + type_name(v) + ", expected a string");
  return v.node->text;
}

void Values::check_args(const Args &args, size_t most, std::string_view name) const {
  if (args.positional.size() + args.keywords.size() > most)
    fail("\"" + std::string(name) + "\" takes at most " + std::to_string(most) + " arguments, found " +
         std::to_string(args.positional.size() + args.keywords.size()));
}

Val Values::filter(std::string_view name, const Val &v, const Args &args) {
  step();
  const auto text = [&] { return str(v); };
  if (name == "default" || name == "d") {
    check_args(args, 2, name);
    const bool missing = v.is(Kind::kUndefined) || (bool_arg(args, 1, "boolean", false) && !truth(v));
    return missing ? arg(args, 0, "default_value", string("")) : v;
  }
  if (name == "trim") {
    const Val chars = arg(args, 0, "chars", Val::none());
    const std::string s = text();
    return string(
        std::string(strip(s, chars.is(Kind::kNone) ? std::string_view() : text_of(chars, "chars"), true, true)));
  }
  if (name == "upper")
    return string(to_upper(text()));
  if (name == "lower")
    return string(to_lower(text()));
  if (name == "capitalize")
    return string(capitalize(text()));
  if (name == "title")
    return string(title(text(), /*jinja=*/true));
  if (name == "string" || name == "safe")
    return v.is(Kind::kString) ? v : string(text());
  if (name == "length" || name == "count")
    return Val::of(static_cast<int64_t>(length(v)));
  if (name == "list")
    return list(elements(v));
  if (name == "first") {
    const std::vector<Val> all = elements(v);
    return all.empty() ? undefined("the first item of nothing") : all.front();
  }
  if (name == "last") {
    const std::vector<Val> all = elements(v);
    return all.empty() ? undefined("the last item of nothing") : all.back();
  }
  if (name == "reverse") {
    std::vector<Val> all = elements(v);
    std::reverse(all.begin(), all.end());
    if (!v.is(Kind::kString))
      return list(std::move(all));
    std::string out;
    for (const Val &c : all)
      out += c.node->text;
    return string(std::move(out));
  }
  if (name == "join") {
    check_args(args, 2, name);
    const std::string separator = str(arg(args, 0, "d"));
    const Val attribute = arg(args, 1, "attribute", Val::none());
    std::string out;
    bool first = true;
    for (const Val &element : elements(v)) {
      if (!first)
        out += separator;
      first = false;
      append_str(out, attribute.is(Kind::kNone) ? element : path(element, attribute));
      step(separator.size());
      check_output(out.size());
    }
    return string(std::move(out));
  }
  if (name == "tojson") {
    // transformers' own filter: nothing is escaped for HTML.
    JsonStyle style;
    style.ascii = bool_arg(args, 0, "ensure_ascii", false);
    const Val indent = arg(args, 1, "indent", Val::none());
    if (!indent.is(Kind::kNone)) {
      style.indent = static_cast<int>(std::clamp<int64_t>(int_arg(args, 1, "indent", 0), 0, 64));
      style.item_separator = ",";
    }
    const Val separators = arg(args, 2, "separators", Val::none());
    if (separators.is_sequence() && separators.node->items.size() == 2) {
      style.item_separator = text_of(separators.node->items[0], "a separator");
      style.key_separator = text_of(separators.node->items[1], "a separator");
    }
    style.sort = bool_arg(args, 3, "sort_keys", false);
    std::string out;
    append_json(out, v, style, 0);
    return string(std::move(out));
  }
  if (name == "replace") {
    const std::string s = text(), from = str(arg(args, 0, "old")), to = str(arg(args, 1, "new"));
    const Val count = arg(args, 2, "count", Val::none());
    return string(replace(*this, s, from, to, count.is(Kind::kNone) ? -1 : int_arg(args, 2, "count", -1)));
  }
  if (name == "items") {
    if (v.is(Kind::kUndefined))
      return list({});
    if (!v.is(Kind::kDict))
      fail("\"items\" needs a mapping, found " + std::string(type_name(v)));
    return call_method(v, "items", {});
  }
  if (name == "int" || name == "float") {
    const bool whole = name == "int";
    double number = 0;
    if (v.is(Kind::kString)) {
      std::string_view s = strip(v.node->text, {}, true, true);
      if (s.starts_with('+'))
        s.remove_prefix(1);
      int64_t integer;
      auto parsed = std::from_chars(s.data(), s.data() + s.size(), integer);
      if (whole && parsed.ec == std::errc() && parsed.ptr == s.data() + s.size())
        return Val::of(integer);
      parsed = std::from_chars(s.data(), s.data() + s.size(), number);
      if (parsed.ec != std::errc() || parsed.ptr != s.data() + s.size())
        return arg(args, 0, "default", whole ? Val::of(int64_t{0}) : Val::of(0.0));
    } else if (v.is_number()) {
      if (whole && !v.is(Kind::kDouble))
        return Val::of(v.is(Kind::kBool) ? int64_t{v.boolean} : v.integer);
      number = v.is(Kind::kDouble) ? v.number : v.is(Kind::kInt) ? static_cast<double>(v.integer) : v.boolean;
    } else {
      return arg(args, 0, "default", whole ? Val::of(int64_t{0}) : Val::of(0.0));
    }
    if (!whole)
      return Val::of(number);
    if (!(std::abs(number) < 9.2e18))
      return arg(args, 0, "default", Val::of(int64_t{0}));
    return Val::of(static_cast<int64_t>(number));
  }
  if (name == "abs") {
    if (v.is(Kind::kDouble))
      return Val::of(std::abs(v.number));
    return truth(binary("-", v, Val::of(int64_t{0}))) && compare(v, Val::of(int64_t{0}), "<") < 0
               ? binary("-", Val::of(int64_t{0}), v)
               : v;
  }
  if (name == "round") {
    const int64_t precision = std::clamp<int64_t>(int_arg(args, 0, "precision", 0), -15, 15);
    const Val method = arg(args, 1, "method", string("common"));
    const std::string_view how = text_of(method, "the method of round");
    const double scale = std::pow(10.0, static_cast<double>(precision));
    const Val product = binary("*", v, Val::of(scale));
    return Val::of((how == "ceil"    ? std::ceil(product.number)
                    : how == "floor" ? std::floor(product.number)
                                     : std::nearbyint(product.number)) /
                   scale);
  }
  if (name == "sum") {
    const Val attribute = arg(args, 0, "attribute", Val::none());
    Val total = arg(args, 1, "start", Val::of(int64_t{0}));
    for (const Val &element : elements(v))
      total = binary("+", total, attribute.is(Kind::kNone) ? element : path(element, attribute));
    return total;
  }
  if (name == "min" || name == "max") {
    const Val attribute = arg(args, 1, "attribute", Val::none());
    const std::vector<Val> all = elements(v);
    if (all.empty())
      return undefined("the extreme of nothing");
    const auto key = [&](const Val &e) { return attribute.is(Kind::kNone) ? e : path(e, attribute); };
    Val best = all[0];
    for (const Val &element : all) {
      const int order = compare(key(element), key(best), "<");
      if (name == "min" ? order < 0 : order > 0)
        best = element;
    }
    return best;
  }
  if (name == "unique") {
    std::vector<Val> out, seen;
    for (const Val &element : elements(v)) {
      Val key = element.is(Kind::kString) ? string(to_lower(element.node->text)) : element;
      if (std::none_of(seen.begin(), seen.end(), [&](const Val &other) { return equal(other, key); })) {
        seen.push_back(key);
        out.push_back(element);
      }
    }
    return list(std::move(out));
  }
  if (name == "indent") {
    const Val width = arg(args, 0, "width", Val::of(int64_t{4}));
    const std::string fill =
        width.is(Kind::kString)
            ? width.node->text
            : std::string(static_cast<size_t>(std::clamp<int64_t>(int_arg(args, 0, "width", 4), 0, 1024)), ' ');
    const bool first = bool_arg(args, 1, "first", false), blank = bool_arg(args, 2, "blank", false);
    const std::string s = text();
    std::string out = first ? fill : "";
    for (size_t begin = 0; begin <= s.size();) {
      const size_t end = std::min(s.find('\n', begin), s.size());
      if (begin > 0 && (blank || end > begin))
        out += fill;
      out.append(s, begin, end - begin);
      if (end < s.size())
        out += '\n';
      step(fill.size());
      check_output(out.size());
      begin = end + 1;
    }
    return string(std::move(out));
  }
  if (name == "escape" || name == "e") {
    std::string out;
    for (char c : text()) {
      switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: out += c;
      }
    }
    return string(std::move(out));
  }
  if (name == "sort")
    return sort(v, args);
  if (name == "dictsort")
    return dictsort(v, args);
  if (name == "map")
    return map(v, args);
  return select(name, v, args);
}

Val Values::sort(const Val &v, const Args &args) {
  const bool reverse = bool_arg(args, 0, "reverse", false), exact = bool_arg(args, 1, "case_sensitive", false);
  const Val attribute = arg(args, 2, "attribute", Val::none());
  std::vector<std::pair<Val, Val>> keyed;
  for (const Val &element : elements(v)) {
    Val key = attribute.is(Kind::kNone) ? element : path(element, attribute);
    if (key.is(Kind::kString) && !exact)
      key = string(to_lower(key.node->text));
    keyed.emplace_back(key, element);
  }
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto &a, const auto &b) {
    return reverse ? compare(b.first, a.first, "<") < 0 : compare(a.first, b.first, "<") < 0;
  });
  std::vector<Val> out;
  out.reserve(keyed.size());
  for (const auto &[key, element] : keyed)
    out.push_back(element);
  return list(std::move(out));
}

Val Values::dictsort(const Val &v, const Args &args) {
  if (!v.is(Kind::kDict))
    fail("\"dictsort\" needs a mapping, found " + std::string(type_name(v)));
  const bool exact = bool_arg(args, 0, "case_sensitive", false), reverse = bool_arg(args, 2, "reverse", false);
  const Val by = arg(args, 1, "by", string("key"));
  const size_t place = text_of(by, "\"by\"") == "value" ? 1 : 0;
  std::vector<Val> pairs = call_method(v, "items", {}).node->items;
  const auto key = [&](const Val &pair) {
    const Val &k = pair.node->items[place];
    return k.is(Kind::kString) && !exact ? string(to_lower(k.node->text)) : k;
  };
  std::stable_sort(pairs.begin(), pairs.end(), [&](const Val &a, const Val &b) {
    return reverse ? compare(key(b), key(a), "<") < 0 : compare(key(a), key(b), "<") < 0;
  });
  return list(std::move(pairs));
}

Val Values::map(const Val &v, const Args &args) {
  std::vector<Val> out;
  if (args.positional.empty()) {
    const Val attribute = arg(args, 9, "attribute");
    if (attribute.is(Kind::kUndefined))
      fail("\"map\" needs a filter's name or attribute=");
    const Val fallback = arg(args, 9, "default");
    for (const Val &element : elements(v)) {
      const Val found = path(element, attribute);
      out.push_back(found.is(Kind::kUndefined) && !fallback.is(Kind::kUndefined) ? fallback : found);
    }
    return list(std::move(out));
  }
  const std::string_view name = text_of(args.positional[0], "the filter of map");
  if (!is_filter(name))
    throw TemplateError{StatusCode::kUnimplemented, at, "the filter \"" + std::string(name) + "\" is not supported"};
  const Depth depth(*this);
  const Args rest{{args.positional.begin() + 1, args.positional.end()}, args.keywords};
  for (const Val &element : elements(v))
    out.push_back(filter(name, element, rest));
  return list(std::move(out));
}

// select, reject, selectattr, rejectattr.
Val Values::select(std::string_view name, const Val &v, const Args &args) {
  const bool by_attribute = name.ends_with("attr"), wanted = name.starts_with("select");
  const size_t skip = by_attribute ? 1 : 0;
  if (args.positional.size() < skip)
    fail("\"" + std::string(name) + "\" needs an attribute");
  std::string_view test_name;
  if (args.positional.size() > skip) {
    test_name = text_of(args.positional[skip], "the name of a test");
    if (!is_test(test_name))
      throw TemplateError{StatusCode::kUnimplemented, at,
                          "the test \"" + std::string(test_name) + "\" is not supported"};
  }
  const size_t used = std::min(args.positional.size(), skip + 1);
  const Args rest{{args.positional.begin() + static_cast<ptrdiff_t>(used), args.positional.end()}, args.keywords};
  std::vector<Val> out;
  for (const Val &element : elements(v)) {
    const Val subject = by_attribute ? path(element, args.positional[0]) : element;
    const bool passes = test_name.empty() ? truth(subject) : test(test_name, subject, rest);
    if (passes == wanted)
      out.push_back(element);
  }
  return list(std::move(out));
}

bool Values::test(std::string_view name, const Val &v, const Args &args) {
  step();
  const auto other = [&]() -> const Val & {
    if (args.positional.size() != 1)
      fail("the test \"" + std::string(name) + "\" needs one argument");
    return args.positional[0];
  };
  if (name == "defined")
    return !v.is(Kind::kUndefined);
  if (name == "undefined")
    return v.is(Kind::kUndefined);
  if (name == "none")
    return v.is(Kind::kNone);
  if (name == "string")
    return v.is(Kind::kString);
  if (name == "mapping")
    return v.is(Kind::kDict);
  if (name == "boolean")
    return v.is(Kind::kBool);
  if (name == "true")
    return v.is(Kind::kBool) && v.boolean;
  if (name == "false")
    return v.is(Kind::kBool) && !v.boolean;
  if (name == "number")
    return v.is_number();
  if (name == "integer")
    return v.is(Kind::kInt);
  if (name == "float")
    return v.is(Kind::kDouble);
  if (name == "iterable" || name == "sequence")  // an undefined value is an empty sequence
    return v.is(Kind::kString) || v.is_sequence() || v.is(Kind::kDict) || v.is(Kind::kUndefined) ||
           (v.is(Kind::kLoop) && name == "iterable");
  if (name == "callable")
    return v.is(Kind::kMacro) || v.is(Kind::kFunction) || v.is(Kind::kMethod);
  if (name == "odd" || name == "even")
    return compare(binary("%", v, Val::of(int64_t{2})), Val::of(int64_t{name == "odd"}), "==") == 0;
  if (name == "divisibleby")
    return !truth(binary("%", v, other()));
  if (name == "in")
    return contains(other(), v);
  if (name == "lower" || name == "upper") {
    const std::string s = str(v);
    bool cased = false, right = true;
    std::string_view rest = s;
    for (size_t length; !rest.empty(); rest.remove_prefix(length)) {
      const int32_t c = decode_utf8(rest, length);
      cased |= is_cased(c);
      right &= !is_cased(c) || (name == "lower" ? is_lower(c) : is_upper(c));
    }
    return cased && right;
  }
  if (name == "sameas")
    return v.kind == other().kind && (v.kind >= Kind::kString ? v.node == other().node : equal(v, other()));
  if (name == "eq" || name == "equalto" || name == "==")
    return equal(v, other());
  if (name == "ne" || name == "!=")
    return !equal(v, other());
  const int order = compare(v, other(), name);
  if (name == "lt" || name == "lessthan" || name == "<")
    return order < 0;
  if (name == "le" || name == "<=")
    return order <= 0;
  if (name == "gt" || name == "greaterthan" || name == ">")
    return order > 0;
  return order >= 0;
}

}  // namespace mili::text
