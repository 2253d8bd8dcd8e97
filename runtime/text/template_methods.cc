// Python's methods of strings, lists and mappings, and Jinja's global functions.
#include "template_values.h"

#include "unicode.h"

#include <algorithm>

namespace mili::text {

using Kind = Val::Kind;

namespace {

constexpr std::string_view kStringMethods[] = {
    "capitalize", "count", "endswith",   "find",       "isalnum",      "isalpha",      "isdigit", "islower", "isspace",
    "isupper",    "join",  "lower",      "lstrip",     "removeprefix", "removesuffix", "replace", "rfind",   "rsplit",
    "rstrip",     "split", "splitlines", "startswith", "strip",        "title",        "upper"};
constexpr std::string_view kDictMethods[] = {"copy", "get", "items", "keys", "values"};
constexpr std::string_view kListMethods[] = {"append", "count", "extend", "index", "pop"};

template <size_t N>
bool has(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool in_chars(std::string_view chars, std::string_view c) {
  return chars.data() == nullptr ? false : chars.find(c) != std::string_view::npos;
}

}  // namespace

bool is_string_method(std::string_view name) {
  return has(kStringMethods, name);
}
bool is_dict_method(std::string_view name) {
  return has(kDictMethods, name);
}
bool is_list_method(std::string_view name) {
  return has(kListMethods, name);
}

std::string_view strip(std::string_view s, std::string_view chars, bool left, bool right) {
  const bool spaces = chars.data() == nullptr;
  const auto strips = [&](std::string_view c, int32_t code) {
    return spaces ? is_python_space(code) : in_chars(chars, c);
  };
  while (left && !s.empty()) {
    size_t length;
    const int32_t c = decode_utf8(s, length);
    if (!strips(s.substr(0, length), c))
      break;
    s.remove_prefix(length);
  }
  while (right && !s.empty()) {
    size_t begin;
    const int32_t c = decode_utf8_before(s, s.size(), begin);
    if (!strips(s.substr(begin), c))
      break;
    s.remove_suffix(s.size() - begin);
  }
  return s;
}

std::string capitalize(std::string_view s) {
  std::string out;
  size_t length;
  if (!s.empty()) {
    append_title(out, decode_utf8(s, length));
    out += to_lower(s.substr(length));
  }
  return out;
}

// str.title() begins a word at each cased character after one that is not; Jinja's filter after white space, '-' and
// brackets.
std::string title(std::string_view s, bool jinja) {
  std::string out;
  bool inside = false;
  for (size_t length; !s.empty(); s.remove_prefix(length)) {
    const int32_t c = decode_utf8(s, length);
    if (inside)
      append_lower(out, c);
    else
      append_title(out, c);
    inside = jinja ? !(is_python_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<') : is_cased(c);
  }
  return out;
}

std::string replace(Values &values, std::string_view s, std::string_view from, std::string_view to, int64_t count) {
  std::string out;
  const auto put = [&](std::string_view part) {
    out.append(part);
    values.step(part.size());
    values.check_output(out.size());
  };
  size_t pos = 0;
  for (int64_t n = 0; count < 0 || n < count; ++n) {
    if (from.empty()) {  // between all characters
      put(to);
      if (pos >= s.size())
        return out;
      size_t length;
      decode_utf8(s.substr(pos), length);
      put(s.substr(pos, length));
      pos += length;
      continue;
    }
    const size_t found = s.find(from, pos);
    if (found == std::string_view::npos)
      break;
    put(s.substr(pos, found - pos));
    put(to);
    pos = found + from.size();
  }
  put(s.substr(pos));
  return out;
}

Val Values::split(std::string_view s, const Args &args, bool from_right) {
  const Val separator = arg(args, 0, "sep", Val::none());
  int64_t most = int_arg(args, 1, "maxsplit", -1);
  std::vector<Val> parts;
  const auto add = [&](std::string_view part) { parts.push_back(string(std::string(part))); };
  step(s.size());
  if (separator.is(Kind::kNone)) {
    s = strip(s, {}, !from_right, from_right);
    while (!strip(s, {}, true, true).empty()) {
      if (most == 0) {
        add(s);
        break;
      }
      size_t cut = from_right ? s.size() : 0, length;
      if (from_right) {
        while (cut > 0) {
          size_t begin;
          if (is_python_space(decode_utf8_before(s, cut, begin)))
            break;
          cut = begin;
        }
        add(s.substr(cut));
        s = strip(s.substr(0, cut), {}, false, true);
      } else {
        while (cut < s.size() && !is_python_space(decode_utf8(s.substr(cut), length)))
          cut += length;
        add(s.substr(0, cut));
        s = strip(s.substr(cut), {}, true, false);
      }
      --most;
    }
  } else {
    const std::string_view by = text_of(separator, "the separator of split");
    if (by.empty())
      fail("the separator of split is empty");
    while (most != 0) {
      const size_t found = from_right ? s.rfind(by) : s.find(by);
      if (found == std::string_view::npos)
        break;
      add(from_right ? s.substr(found + by.size()) : s.substr(0, found));
      s = from_right ? s.substr(0, found) : s.substr(found + by.size());
      --most;
    }
    add(s);
  }
  if (from_right)
    std::reverse(parts.begin(), parts.end());
  return list(std::move(parts));
}

Val Values::string_method(std::string_view s, std::string_view name, const Args &args) {
  step(s.size());
  check_args(args, 3, name);
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const Val chars = arg(args, 0, "chars", Val::none());
    return string(std::string(strip(s, chars.is(Kind::kNone) ? std::string_view() : text_of(chars, "chars"),
                                    name != "rstrip", name != "lstrip")));
  }
  if (name == "split" || name == "rsplit")
    return split(s, args, name == "rsplit");
  if (name == "startswith" || name == "endswith") {
    const Val what = arg(args, 0, "prefix");
    const std::vector<Val> any = what.is(Kind::kTuple) ? what.node->items : std::vector<Val>{what};
    for (const Val &v : any) {
      const std::string_view part = text_of(v, "the argument of startswith or endswith");
      if (name == "startswith" ? s.starts_with(part) : s.ends_with(part))
        return Val::of(true);
    }
    return Val::of(false);
  }
  if (name == "replace") {
    const Val from = arg(args, 0, "old"), to = arg(args, 1, "new");
    return string(replace(*this, s, text_of(from, "the text to replace"), text_of(to, "the replacement"),
                          int_arg(args, 2, "count", -1)));
  }
  if (name == "upper")
    return string(to_upper(s));
  if (name == "lower")
    return string(to_lower(s));
  if (name == "title")
    return string(title(s, /*jinja=*/false));
  if (name == "capitalize")
    return string(capitalize(s));
  if (name == "join") {
    std::string out;
    bool first = true;
    for (const Val &v : elements(arg(args, 0, "iterable"))) {
      if (!first)
        out += s;
      first = false;
      out += text_of(v, "an item to join");
      step(s.size() + v.node->text.size());
      check_output(out.size());
    }
    return string(std::move(out));
  }
  if (name == "splitlines") {
    std::vector<Val> lines;
    const bool keep = bool_arg(args, 0, "keepends", false);
    while (!s.empty()) {
      const size_t end = s.find_first_of("\n\r");
      size_t next = end == std::string_view::npos ? s.size() : end + 1;
      if (end != std::string_view::npos && s[end] == '\r' && next < s.size() && s[next] == '\n')
        ++next;
      lines.push_back(string(std::string(s.substr(0, keep ? next : std::min(end, s.size())))));
      s.remove_prefix(next);
    }
    return list(std::move(lines));
  }
  if (name == "isspace" || name == "isdigit" || name == "isalpha" || name == "isalnum") {
    bool all = !s.empty();
    for (size_t length; !s.empty(); s.remove_prefix(length)) {
      const int32_t c = decode_utf8(s, length);
      all &= name == "isspace"   ? is_python_space(c)
             : name == "isdigit" ? is_digit(c)
             : name == "isalpha" ? is_alpha(c)
                                 : is_alpha(c) || is_digit(c);
    }
    return Val::of(all);
  }
  if (name == "islower" || name == "isupper")
    return Val::of(test(name == "islower" ? "lower" : "upper", string(std::string(s)), {}));
  const Val argument = arg(args, 0, "sub");
  const std::string_view part = text_of(argument, "the argument of a string's method");
  if (name == "removeprefix")
    return string(std::string(s.starts_with(part) ? s.substr(part.size()) : s));
  if (name == "removesuffix")
    return string(std::string(s.ends_with(part) ? s.substr(0, s.size() - part.size()) : s));
  if (name == "count") {
    if (part.empty())
      return Val::of(static_cast<int64_t>(count_code_points(s)) + 1);
    int64_t count = 0;
    for (size_t pos = s.find(part); pos != std::string_view::npos; pos = s.find(part, pos + part.size()))
      ++count;
    return Val::of(count);
  }
  const size_t found = name == "rfind" ? s.rfind(part) : s.find(part);
  return Val::of(found == std::string_view::npos ? int64_t{-1}
                                                 : static_cast<int64_t>(count_code_points(s.substr(0, found))));
}

Val Values::call_method(const Val &self, std::string_view name, const Args &args) {
  step();
  if (self.is(Kind::kString))
    return string_method(self.node->text, name, args);
  if (self.is(Kind::kLoop)) {
    if (args.positional.empty())
      fail("loop.cycle needs values");
    return args.positional[static_cast<size_t>(self.node->index) % args.positional.size()];
  }
  if (self.is(Kind::kDict)) {
    Node &dict = *self.node;
    if (name == "get") {
      const Val *found = find(dict, arg(args, 0, "key"));
      return found ? *found : arg(args, 1, "default", Val::none());
    }
    if (name == "keys")
      return list(dict.keys);
    if (name == "values")
      return list(dict.items);
    if (name == "copy") {
      Val copy = this->dict();
      charge(2 * dict.items.size() * sizeof(Val));
      copy.node->keys = dict.keys;
      copy.node->items = dict.items;
      return copy;
    }
    std::vector<Val> pairs;
    pairs.reserve(dict.items.size());
    for (size_t i = 0; i < dict.items.size(); ++i)
      pairs.push_back(list({dict.keys[i], dict.items[i]}, Kind::kTuple));
    return list(std::move(pairs));
  }
  Node &items = *self.node;
  if (name == "append") {
    check_args(args, 1, name);
    charge(sizeof(Val));
    items.items.push_back(arg(args, 0, "object"));
    return Val::none();
  }
  if (name == "extend") {
    const std::vector<Val> more = elements(arg(args, 0, "iterable"));
    charge(more.size() * sizeof(Val));
    items.items.insert(items.items.end(), more.begin(), more.end());
    return Val::none();
  }
  if (name == "pop") {
    const int64_t size = static_cast<int64_t>(items.items.size());
    int64_t index = int_arg(args, 0, "index", -1);
    index += index < 0 ? size : 0;
    if (index < 0 || index >= size)
      fail("pop from a list of " + std::to_string(size) + " items");
    const Val popped = items.items[static_cast<size_t>(index)];
    items.items.erase(items.items.begin() + index);
    step(items.items.size() * 8);
    return popped;
  }
  const Val wanted = arg(args, 0, "value");
  int64_t count = 0;
  for (size_t i = 0; i < items.items.size(); ++i)
    if (equal(items.items[i], wanted)) {
      if (name == "index")
        return Val::of(static_cast<int64_t>(i));
      ++count;
    }
  if (name == "index")
    fail("the value is not in the list");
  return Val::of(count);
}

Val Values::call_function(std::string_view name, const Args &args) {
  step();
  if (name == "raise_exception") {
    const std::string message = str(arg(args, 0, "message"));
    fail("the chat template refuses the messages: " + message);
  }
  if (name == "range") {
    int64_t begin = 0, end = int_arg(args, 0, "stop", 0), by = 1;
    if (args.positional.size() > 1) {
      begin = end;
      end = int_arg(args, 1, "stop", 0);
    }
    if (args.positional.size() > 2)
      by = int_arg(args, 2, "step", 1);
    if (by == 0)
      fail("the step of a range is 0");
    std::vector<Val> items;
    for (int64_t i = begin; by > 0 ? i < end : i > end;) {
      step();
      items.push_back(Val::of(i));
      if (items.size() * sizeof(Val) > limits_.memory_bytes)
        exhausted("bytes of values", limits_.memory_bytes);
      if (__builtin_add_overflow(i, by, &i))
        break;
    }
    return list(std::move(items));
  }
  if (name == "namespace" || name == "dict") {
    Val made = name == "dict" ? dict() : Val::make(Kind::kNamespace, node());
    if (!args.positional.empty()) {
      if (!args.positional[0].is(Kind::kDict))
        fail(std::string(name) + " needs a mapping, found " + type_name(args.positional[0]));
      made.node->keys = args.positional[0].node->keys;
      made.node->items = args.positional[0].node->items;
      charge(2 * made.node->items.size() * sizeof(Val));
    }
    for (const auto &[key, value] : args.keywords)
      put(*made.node, string(std::string(key)), value);
    return made;
  }
  // strftime_now
  const Val format = arg(args, 0, "format");
  const std::string_view pattern = text_of(format, "the format of strftime_now");
  if (pattern.size() > 256)
    fail("the format of strftime_now has " + std::to_string(pattern.size()) + " bytes, at most 256 are accepted");
  std::tm now{};
  if (now_) {
    now = *now_;
  } else {
    const std::time_t seconds = std::time(nullptr);
    localtime_r(&seconds, &now);
  }
  char buffer[4096];
  const size_t size = std::strftime(buffer, sizeof buffer, std::string(pattern).c_str(), &now);
  std::string out;
  append_well_formed(out, {buffer, size}, /*keep_incomplete=*/false);
  return string(std::move(out));
}

}  // namespace mili::text
