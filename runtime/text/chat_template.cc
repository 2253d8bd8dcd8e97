// The evaluator of chat templates and the public face of it all.
#include "mili/text/chat_template.h"

#include "template_ast.h"
#include "template_values.h"
#include "unicode.h"

#include <algorithm>

namespace mili {

namespace text {
namespace {

using Kind = Val::Kind;

constexpr size_t kMaxTemplateBytes = size_t{1} << 20;
// Nested evaluations; each takes well under 2 KiB of stack in an ordinary build.
constexpr int kMaxCalls = 500;

class Evaluator {
public:
  Evaluator(Values &values, Scope *globals) : values_(values), scope_(globals) {}

  void run(const Block &block, std::string &out) { execute(block, out); }

private:
  enum class Flow { kNext, kBreak, kContinue };

  struct Call {
    explicit Call(Evaluator &evaluator) : evaluator(evaluator) {
      if (++evaluator.calls_ > kMaxCalls) {
        --evaluator.calls_;
        evaluator.values_.exhausted("nested evaluations", kMaxCalls);
      }
    }
    ~Call() { --evaluator.calls_; }
    Evaluator &evaluator;
  };

  // A scope of variables for as long as the object lives.
  struct Inside {
    Inside(Evaluator &evaluator, Scope *parent) : evaluator(evaluator), outer(evaluator.scope_) {
      evaluator.scope_ = evaluator.values_.scope(parent);
    }
    ~Inside() { evaluator.scope_ = outer; }
    Evaluator &evaluator;
    Scope *outer;
  };

  void set(std::string_view name, const Val &value) {
    for (auto &[known, slot] : scope_->variables)
      if (known == name) {
        slot = value;
        return;
      }
    values_.charge(sizeof(scope_->variables[0]));
    scope_->variables.emplace_back(name, value);
  }

  Val lookup(std::string_view name) {
    for (const Scope *scope = scope_; scope; scope = scope->parent) {
      values_.step(scope->variables.size() * 8);
      for (const auto &[known, value] : scope->variables)
        if (known == name)
          return value;
    }
    for (std::string_view function : {"raise_exception", "strftime_now", "range", "namespace", "dict"})
      if (name == function)
        return values_.function(name);
    return values_.undefined(name);
  }

  void assign(const std::vector<std::string> &names, const Val &value) {
    if (names.size() == 1) {
      set(names[0], value);
      return;
    }
    const std::vector<Val> parts = values_.elements(value);
    if (parts.size() != names.size())
      values_.fail("found " + std::to_string(parts.size()) + " values for " + std::to_string(names.size()) +
                   " variables");
    for (size_t i = 0; i < names.size(); ++i)
      set(names[i], parts[i]);
  }

  void store(const Stmt &stmt, const Val &value) {
    if (stmt.attribute.empty()) {
      assign(stmt.names, value);
      return;
    }
    const Val target = lookup(stmt.names[0]);
    if (!target.is(Kind::kNamespace))
      values_.fail("cannot set an attribute of \"" + stmt.names[0] + "\", " + values_.type_name(target) +
                   "; only a namespace() has attributes to set");
    values_.put(*target.node, values_.string(stmt.attribute), value);
  }

  Flow execute(const Block &block, std::string &out) {
    const Call call(*this);
    for (const Stmt &stmt : block) {
      const Flow flow = execute(stmt, out);
      if (flow != Flow::kNext)
        return flow;
    }
    return Flow::kNext;
  }

  Flow execute(const Stmt &stmt, std::string &out) {
    values_.at = stmt.at;
    values_.step();
    switch (stmt.kind) {
    case Stmt::Kind::kText:
      values_.step(stmt.text.size());
      out += stmt.text;
      values_.check_output(out.size());
      return Flow::kNext;
    case Stmt::Kind::kOutput: {
      const Val value = evaluate(*stmt.expr);
      values_.at = stmt.at;
      values_.append_str(out, value);
      values_.check_output(out.size());
      return Flow::kNext;
    }
    case Stmt::Kind::kIf:
      for (const auto &[condition, body] : stmt.branches)
        if (values_.truth(evaluate(*condition)))
          return execute(body, out);
      return execute(stmt.orelse, out);
    case Stmt::Kind::kFor: loop(stmt, out); return Flow::kNext;
    case Stmt::Kind::kSet: {
      const Val value = evaluate(*stmt.expr);
      values_.at = stmt.at;
      store(stmt, value);
      return Flow::kNext;
    }
    case Stmt::Kind::kSetBlock:
    case Stmt::Kind::kFilter: {
      std::string text;
      {
        const Inside inside(*this, scope_);
        execute(stmt.body, text);
      }
      Val value = values_.string(std::move(text));
      if (stmt.expr) {
        piped_.push_back(value);
        value = evaluate(*stmt.expr);
        piped_.pop_back();
      }
      values_.at = stmt.at;
      if (stmt.kind == Stmt::Kind::kSetBlock)
        store(stmt, value);
      else
        values_.append_str(out, value);
      values_.check_output(out.size());
      return Flow::kNext;
    }
    case Stmt::Kind::kMacro: {
      Node *node = values_.node();
      node->macro = &stmt;
      node->scope = scope_;
      set(stmt.names[0], Val::make(Kind::kMacro, node));
      return Flow::kNext;
    }
    case Stmt::Kind::kBlock: {
      const Inside inside(*this, scope_);
      return execute(stmt.body, out);
    }
    case Stmt::Kind::kBreak: return Flow::kBreak;
    case Stmt::Kind::kContinue: return Flow::kContinue;
    }
    return Flow::kNext;
  }

  void loop(const Stmt &stmt, std::string &out) {
    const Val iterated = evaluate(*stmt.expr);
    values_.at = stmt.expr->at;
    std::vector<Val> items = values_.elements(iterated);
    if (stmt.condition) {
      std::vector<Val> kept;
      for (const Val &item : items) {
        const Inside inside(*this, scope_);
        assign(stmt.names, item);
        if (values_.truth(evaluate(*stmt.condition)))
          kept.push_back(item);
      }
      items = std::move(kept);
    }
    if (items.empty()) {
      const Inside inside(*this, scope_);
      execute(stmt.orelse, out);
      return;
    }
    const Val state = values_.list(std::move(items), Kind::kLoop);
    for (size_t i = 0; i < state.node->items.size(); ++i) {
      values_.at = stmt.at;
      const Inside inside(*this, scope_);
      state.node->index = static_cast<int64_t>(i);
      set("loop", state);
      assign(stmt.names, state.node->items[i]);
      if (execute(stmt.body, out) == Flow::kBreak)
        break;
    }
  }

  Val call_macro(const Node &node, const Args &args) {
    const Stmt &macro = *node.macro;
    if (args.positional.size() > macro.parameters.size())
      values_.fail("the macro \"" + macro.names[0] + "\" takes " + std::to_string(macro.parameters.size()) +
                   " arguments, found " + std::to_string(args.positional.size()));
    for (const auto &keyword : args.keywords)
      if (std::none_of(macro.parameters.begin(), macro.parameters.end(),
                       [&](const auto &parameter) { return parameter.first == keyword.first; }))
        values_.fail("the macro \"" + macro.names[0] + "\" has no parameter \"" + std::string(keyword.first) + "\"");
    const Inside inside(*this, node.scope);
    for (size_t i = 0; i < macro.parameters.size(); ++i) {
      const auto &[name, fallback] = macro.parameters[i];
      Val value = values_.arg(args, i, name);
      const bool given = i < args.positional.size() || !value.is(Kind::kUndefined);
      if (!given)
        value = fallback ? evaluate(*fallback) : values_.undefined(name);
      set(name, value);
    }
    std::string text;
    execute(macro.body, text);
    return values_.string(std::move(text));
  }

  Args arguments(const Expr &expr) {
    Args args;
    for (size_t i = 1; i < expr.args.size(); ++i)
      args.positional.push_back(evaluate(*expr.args[i]));
    for (const auto &[name, value] : expr.keywords)
      args.keywords.emplace_back(name, evaluate(*value));
    values_.at = expr.at;
    return args;
  }

  Val call(const Expr &expr) {
    const Val callee = evaluate(*expr.args[0]);
    const Args args = arguments(expr);
    switch (callee.kind) {
    case Kind::kMacro: return call_macro(*callee.node, args);
    case Kind::kFunction: return values_.call_function(callee.node->text, args);
    case Kind::kMethod: return values_.call_method(callee.node->items[0], callee.node->text, args);
    case Kind::kUndefined:
      values_.fail((callee.node ? "\"" + callee.node->text + "\"" : std::string("the value")) +
                   " is undefined and cannot be called");
    default: values_.fail(std::string(values_.type_name(callee)) + " cannot be called");
    }
  }

  bool compare(std::string_view op, const Val &a, const Val &b) {
    if (op == "==")
      return values_.equal(a, b);
    if (op == "!=")
      return !values_.equal(a, b);
    if (op == "in")
      return values_.contains(b, a);
    if (op == "not in")
      return !values_.contains(b, a);
    const int order = values_.compare(a, b, op);
    return op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
  }

  Val evaluate(const Expr &expr) {
    const Call call_guard(*this);
    values_.at = expr.at;
    values_.step();
    switch (expr.kind) {
    case Expr::Kind::kNone: return Val::none();
    case Expr::Kind::kTrue: return Val::of(true);
    case Expr::Kind::kFalse: return Val::of(false);
    case Expr::Kind::kInt: return Val::of(expr.integer);
    case Expr::Kind::kDouble: return Val::of(expr.number);
    case Expr::Kind::kString: return values_.string(expr.text);
    case Expr::Kind::kName: return lookup(expr.text);
    case Expr::Kind::kCall: return call(expr);
    case Expr::Kind::kNot: return Val::of(!values_.truth(evaluate(*expr.args[0])));
    case Expr::Kind::kAnd: {
      const Val left = evaluate(*expr.args[0]);
      return values_.truth(left) ? evaluate(*expr.args[1]) : left;
    }
    case Expr::Kind::kOr: {
      const Val left = evaluate(*expr.args[0]);
      return values_.truth(left) ? left : evaluate(*expr.args[1]);
    }
    case Expr::Kind::kIf:
      if (values_.truth(evaluate(*expr.args[0])))
        return evaluate(*expr.args[1]);
      return expr.args[2] ? evaluate(*expr.args[2]) : values_.undefined("the inline if");
    default: return evaluate_compound(expr);
    }
  }

  // Apart from evaluate() so that its frame stays small on the way down.
  Val evaluate_compound(const Expr &expr) {
    const auto operand = [&](size_t i) { return expr.args[i] ? evaluate(*expr.args[i]) : Val::none(); };
    switch (expr.kind) {
    case Expr::Kind::kList:
    case Expr::Kind::kTuple: {
      std::vector<Val> items;
      items.reserve(expr.args.size());
      for (const ExprPtr &arg : expr.args)
        items.push_back(evaluate(*arg));
      return values_.list(std::move(items), expr.kind == Expr::Kind::kList ? Kind::kList : Kind::kTuple);
    }
    case Expr::Kind::kDict: {
      const Val dict = values_.dict();
      for (size_t i = 0; i + 1 < expr.args.size(); i += 2) {
        const Val key = operand(i);
        values_.put(*dict.node, key, operand(i + 1));
      }
      return dict;
    }
    case Expr::Kind::kAttribute: {
      const Val value = operand(0);
      values_.at = expr.at;
      return values_.attribute(value, expr.text);
    }
    case Expr::Kind::kItem: {
      const Val value = operand(0), key = operand(1);
      values_.at = expr.at;
      return values_.item(value, key);
    }
    case Expr::Kind::kSlice: {
      const Val value = operand(0), begin = operand(1), end = operand(2), stride = operand(3);
      values_.at = expr.at;
      return values_.slice(value, begin, end, stride);
    }
    case Expr::Kind::kFilter: {
      const Val value = expr.args[0] ? evaluate(*expr.args[0]) : piped_.back();
      const Args args = arguments(expr);
      return values_.filter(expr.text, value, args);
    }
    case Expr::Kind::kTest: {
      const Val value = operand(0);
      const Args args = arguments(expr);
      return Val::of(values_.test(expr.text, value, args));
    }
    case Expr::Kind::kNegative:
    case Expr::Kind::kPositive: {
      const Val value = operand(0);
      values_.at = expr.at;
      if (value.is(Kind::kDouble))
        return Val::of(expr.kind == Expr::Kind::kNegative ? -value.number : value.number);
      return values_.binary(expr.kind == Expr::Kind::kNegative ? "-" : "+", Val::of(int64_t{0}), value);
    }
    case Expr::Kind::kBinary: {
      const Val left = operand(0), right = operand(1);
      values_.at = expr.at;
      return values_.binary(expr.text, left, right);
    }
    case Expr::Kind::kCompare: {
      Val left = operand(0);
      for (size_t i = 0; i < expr.ops.size(); ++i) {
        const Val right = operand(i + 1);
        values_.at = expr.at;
        if (!compare(expr.ops[i], left, right))
          return Val::of(false);
        left = right;
      }
      return Val::of(true);
    }
    default: {  // kConcat
      std::string text;
      for (const ExprPtr &arg : expr.args) {
        values_.append_str(text, evaluate(*arg));
        values_.check_output(text.size());
      }
      return values_.string(std::move(text));
    }
    }
  }

  Values &values_;
  Scope *scope_;
  std::vector<Val> piped_;  // texts of the filter blocks around
  int calls_ = 0;
};

}  // namespace
}  // namespace text

struct ChatTemplate::Impl {
  std::string source;
  text::Block block;

  Status located(const text::TemplateError &error) const {
    const std::string_view before = std::string_view(source).substr(0, error.at);
    const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
    const size_t begin = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
    const size_t column = 1 + text::count_code_points(before.substr(begin));
    return {error.code, "chat template:" + std::to_string(line) + ":" + std::to_string(column) + ": " + error.message};
  }
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate &&) noexcept = default;
ChatTemplate &ChatTemplate::operator=(ChatTemplate &&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

StatusOr<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  if (source.size() > text::kMaxTemplateBytes)
    return invalid_argument("chat template: " + std::to_string(source.size()) + " bytes, at most " +
                            std::to_string(text::kMaxTemplateBytes) + " are accepted");
  if (!text::is_utf8(source))
    return invalid_argument("chat template: not UTF-8");
  auto impl = std::make_unique<Impl>();
  impl->source = text::normalize_template(source);
  try {
    impl->block = text::parse_template(impl->source);
  } catch (const text::TemplateError &error) {
    return impl->located(error);
  }
  return ChatTemplate(std::move(impl));
}

StatusOr<std::string> ChatTemplate::render(const Value::Object &variables, const ChatLimits &limits,
                                           std::optional<std::tm> now) const {
  try {
    text::Values values(limits, now);
    text::Scope *globals = values.scope(nullptr);
    // Later ones win: the first that lookup finds must be the last given.
    for (auto it = variables.rbegin(); it != variables.rend(); ++it)
      globals->variables.emplace_back(it->first, values.import(it->second));
    std::string out;
    text::Evaluator(values, globals).run(impl_->block, out);
    return out;
  } catch (const text::TemplateError &error) {
    return impl_->located(error);
  } catch (const std::bad_alloc &) {
    return resource_exhausted("chat template: no memory");
  }
}

StatusOr<std::string> ChatTemplate::render(const ChatInput &input) const {
  Value::Object variables;
  variables.emplace_back("messages", input.messages);
  variables.emplace_back("tools", input.tools);
  variables.emplace_back("documents", nullptr);
  variables.emplace_back("add_generation_prompt", input.add_generation_prompt);
  if (input.bos_token)
    variables.emplace_back("bos_token", *input.bos_token);
  if (input.eos_token)
    variables.emplace_back("eos_token", *input.eos_token);
  variables.insert(variables.end(), input.extra.begin(), input.extra.end());
  return render(variables, input.limits, input.now);
}

Value chat_message(std::string role, std::string content) {
  return Value(Value::Object{{"role", Value(std::move(role))}, {"content", Value(std::move(content))}});
}

}  // namespace mili
