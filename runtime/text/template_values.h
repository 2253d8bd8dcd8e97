// Values while a template runs. Everything that a template makes lives until the end of its run in one arena: lists may
// contain themselves, as in Python, and nothing is freed recursively.
#pragma once

#include "mili/text/chat_template.h"
#include "template_ast.h"

#include <cstdint>
#include <ctime>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace mili::text {

struct Node;
struct Scope;

struct Val {
  enum class Kind : uint8_t {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kDouble,
    kString,
    kList,
    kTuple,
    kDict,
    kNamespace,
    kLoop,  // the variable `loop`
    kMacro,
    kFunction,  // text: raise_exception, range ...
    kMethod,    // text, of items[0]
  };
  Kind kind = Kind::kUndefined;
  union {
    bool boolean;
    int64_t integer;
    double number;
    Node *node;  // kUndefined: its name or null; every kind from kString on
  };
  Val() : node(nullptr) {}
  static Val none() { return make(Kind::kNone); }
  static Val of(bool b) {
    Val v = make(Kind::kBool);
    v.boolean = b;
    return v;
  }
  static Val of(int64_t i) {
    Val v = make(Kind::kInt);
    v.integer = i;
    return v;
  }
  static Val of(double d) {
    Val v = make(Kind::kDouble);
    v.number = d;
    return v;
  }
  static Val make(Kind kind, Node *node = nullptr) {
    Val v;
    v.kind = kind;
    v.node = node;
    return v;
  }
  bool is(Kind k) const { return kind == k; }
  bool is_number() const { return kind == Kind::kBool || kind == Kind::kInt || kind == Kind::kDouble; }
  bool is_sequence() const { return kind == Kind::kList || kind == Kind::kTuple; }
};

struct Node {
  std::string text;
  std::vector<Val> items;
  std::vector<Val> keys;  // of dicts and namespaces, as many as items
  const Stmt *macro = nullptr;
  Scope *scope = nullptr;  // where a macro was defined
  int64_t index = 0;       // of a loop
};

struct Scope {
  Scope *parent = nullptr;
  std::vector<std::pair<std::string_view, Val>> variables;
};

struct Args {
  std::vector<Val> positional;
  std::vector<std::pair<std::string_view, Val>> keywords;
};

// The arena, the limits and the operations on values that expressions, filters and methods share. Errors are thrown as
// TemplateError at the place last set by `at`.
class Values {
public:
  Values(const ChatLimits &limits, std::optional<std::tm> now) : limits_(limits), now_(now) {}

  uint32_t at = 0;
  [[noreturn]] void fail(std::string message) const;

  // Counts work: one step, and one more for every 64 bytes or 8 elements.
  void step(size_t bytes = 0) {
    steps_ += 1 + bytes / 64;
    if (steps_ > limits_.steps)
      exhausted("steps", limits_.steps);
  }
  [[noreturn]] void exhausted(const char *what, uint64_t limit) const;
  void check_output(size_t bytes) const {
    if (bytes > limits_.output_bytes)
      exhausted("bytes of output", limits_.output_bytes);
  }
  // Guards recursion over values, which may contain themselves.
  struct Depth {
    explicit Depth(Values &values);
    ~Depth() { --values.depth_; }
    Values &values;
  };

  // Makers.
  Val string(std::string text);
  Val list(std::vector<Val> items, Val::Kind kind = Val::Kind::kList);
  Val dict() { return Val::make(Val::Kind::kDict, node()); }
  Val undefined(std::string_view name);
  Val function(std::string_view name);
  Val method(Val self, std::string_view name);
  Node *node();
  Scope *scope(Scope *parent);
  void charge(size_t bytes);
  Val import(const Value &value);

  // Python's rules.
  bool truth(const Val &v) const;
  const char *type_name(const Val &v) const;
  std::string str(const Val &v);
  void append_str(std::string &out, const Val &v);
  void append_repr(std::string &out, const Val &v);
  // `indent` < 0: on one line. `depth` is where the output stands.
  struct JsonStyle {
    int indent = -1;
    bool ascii = false, sort = false;
    std::string item_separator = ", ", key_separator = ": ";
  };
  void append_json(std::string &out, const Val &v, const JsonStyle &style, int depth);
  bool equal(const Val &a, const Val &b);
  int compare(const Val &a, const Val &b, std::string_view op);  // <0, 0, >0
  bool contains(const Val &container, const Val &item);
  size_t length(const Val &v);
  // The elements of anything that can be iterated.
  std::vector<Val> elements(const Val &v);
  Val binary(std::string_view op, const Val &a, const Val &b);
  Val *find(Node &dict, const Val &key);
  Val *find(Node &dict, std::string_view key);
  void put(Node &dict, const Val &key, const Val &value);
  Val attribute(const Val &v, std::string_view name);
  Val item(const Val &v, const Val &key);
  Val slice(const Val &v, const Val &begin, const Val &end, const Val &stride);
  // "a.b.0" as filters take attributes.
  Val path(const Val &v, const Val &attribute);

  // Arguments by place or name; `fallback` when absent.
  Val arg(const Args &args, size_t place, std::string_view name, Val fallback = Val()) const;
  int64_t int_arg(const Args &args, size_t place, std::string_view name, int64_t fallback) const;
  bool bool_arg(const Args &args, size_t place, std::string_view name, bool fallback) const;
  std::string_view text_of(const Val &v, const char *what) const;
  void check_args(const Args &args, size_t most, std::string_view name) const;

  Val filter(std::string_view name, const Val &value, const Args &args);
  bool test(std::string_view name, const Val &value, const Args &args);
  Val call_method(const Val &self, std::string_view name, const Args &args);
  Val call_function(std::string_view name, const Args &args);

private:
  Val sort(const Val &value, const Args &args);
  Val select(std::string_view name, const Val &value, const Args &args);
  Val map(const Val &value, const Args &args);
  Val dictsort(const Val &value, const Args &args);
  Val string_method(std::string_view self, std::string_view name, const Args &args);
  Val split(std::string_view s, const Args &args, bool from_right);

  const ChatLimits &limits_;
  std::optional<std::tm> now_;
  uint64_t steps_ = 0;
  size_t memory_ = 0;
  int depth_ = 0;
  std::deque<Node> nodes_;
  std::deque<Scope> scopes_;
};

// Python's methods of strings that the template may ask for.
bool is_string_method(std::string_view name);
bool is_dict_method(std::string_view name);
bool is_list_method(std::string_view name);

// Text helpers with Python's meaning.
std::string_view strip(std::string_view s, std::string_view chars, bool left, bool right);  // no chars: white space
std::string capitalize(std::string_view s);
std::string title(std::string_view s, bool jinja);
std::string replace(Values &values, std::string_view s, std::string_view from, std::string_view to, int64_t count);
std::string format_double(double d);

}  // namespace mili::text
