// Jinja's grammar (https://jinja.palletsprojects.com/templates), by recursive descent: the precedence is that of Jinja,
// where a filter binds tighter than any operator but after a sign.
#include "template_ast.h"
#include "template_lexer.h"

#include <algorithm>
#include <charconv>

namespace mili::text {

namespace {

constexpr int kMaxNesting = 64;     // of brackets and statements in the source
constexpr uint8_t kMaxDepth = 200;  // of an expression's tree, which chains of operators deepen too

class Parser {
public:
  explicit Parser(const std::string &source) : tokens_(lex_template(source)) {}

  Block run() {
    Block block = statements({});
    if (!is(Token::Kind::kEnd))
      fail("the end of the template");
    return block;
  }

private:
  using Kind = Expr::Kind;

  // Errors.
  [[noreturn]] static void raise(StatusCode code, uint32_t at, std::string message) {
    throw TemplateError{code, at, std::move(message)};
  }
  std::string found() const {
    switch (peek().kind) {
    case Token::Kind::kEnd: return "the end of the template";
    case Token::Kind::kText: return "text";
    default: return "\"" + std::string(peek().text.substr(0, 40)) + "\"";
    }
  }
  [[noreturn]] void fail(const std::string &expected) const {
    raise(StatusCode::kInvalidArgument, peek().at, "found " + found() + ", expected " + expected);
  }
  [[noreturn]] void unsupported(uint32_t at, const std::string &what) const {
    raise(StatusCode::kUnimplemented, at, what + " is not supported in chat templates");
  }

  struct Nesting {
    explicit Nesting(Parser &parser) : parser(parser) {
      if (++parser.nesting_ > kMaxNesting)
        raise(StatusCode::kResourceExhausted, parser.peek().at,
              "nested deeper than " + std::to_string(kMaxNesting) + " levels");
    }
    ~Nesting() { --parser.nesting_; }
    Parser &parser;
  };

  // Tokens.
  const Token &peek(size_t ahead = 0) const { return tokens_[std::min(next_ + ahead, tokens_.size() - 1)]; }
  bool is(Token::Kind kind) const { return peek().kind == kind; }
  bool is_op(std::string_view text, size_t ahead = 0) const {
    return peek(ahead).kind == Token::Kind::kOp && peek(ahead).text == text;
  }
  bool is_name(std::string_view text, size_t ahead = 0) const {
    return peek(ahead).kind == Token::Kind::kName && peek(ahead).text == text;
  }
  const Token &take() { return tokens_[next_ + 1 < tokens_.size() ? next_++ : next_]; }
  bool take_op(std::string_view text) { return is_op(text) && (take(), true); }
  bool take_name(std::string_view text) { return is_name(text) && (take(), true); }
  void expect_op(std::string_view text) {
    if (!take_op(text))
      fail("\"" + std::string(text) + "\"");
  }
  std::string expect_name(const char *what) {
    if (!is(Token::Kind::kName))
      fail(what);
    return std::string(take().text);
  }
  void end_block() {
    if (!is(Token::Kind::kBlockEnd))
      fail("\"%}\"");
    take();
  }

  // Statements. `ends` are the tags that close the block around; the parser stops after the name of one.
  Block statements(std::initializer_list<std::string_view> ends) {
    const Nesting nesting(*this);
    Block block;
    while (!is(Token::Kind::kEnd)) {
      const Token &token = take();
      if (token.kind == Token::Kind::kText) {
        Stmt text = make(Stmt::Kind::kText, token.at);
        text.text = token.value;
        block.push_back(std::move(text));
      } else if (token.kind == Token::Kind::kOutputBegin) {
        Stmt output = make(Stmt::Kind::kOutput, token.at);
        output.expr = tuple();
        if (!is(Token::Kind::kOutputEnd))
          fail("\"}}\"");
        take();
        block.push_back(std::move(output));
      } else {
        if (!is(Token::Kind::kName))
          fail("a statement");
        if (std::find(ends.begin(), ends.end(), peek().text) != ends.end())
          return block;
        block.push_back(statement());
      }
    }
    if (ends.size() != 0) {
      std::string names;
      for (std::string_view end : ends)
        names += (names.empty() ? "\"" : " or \"") + std::string(end) + "\"";
      fail(names);
    }
    return block;
  }

  static Stmt make(Stmt::Kind kind, uint32_t at) {
    Stmt stmt;
    stmt.kind = kind;
    stmt.at = at;
    return stmt;
  }

  Stmt statement() {
    const Token &name = take();
    if (name.text == "for")
      return for_statement(name.at);
    if (name.text == "if")
      return if_statement(name.at);
    if (name.text == "set")
      return set_statement(name.at);
    if (name.text == "macro")
      return macro(name.at);
    if (name.text == "filter") {
      Stmt stmt = make(Stmt::Kind::kFilter, name.at);
      stmt.expr = filters(filter(nullptr));
      body(stmt, "endfilter");
      return stmt;
    }
    if (name.text == "generation") {
      Stmt stmt = make(Stmt::Kind::kBlock, name.at);
      body(stmt, "endgeneration");
      return stmt;
    }
    if (name.text == "break" || name.text == "continue") {
      if (loops_ == 0)
        raise(StatusCode::kInvalidArgument, name.at, "\"" + std::string(name.text) + "\" outside a loop");
      end_block();
      return make(name.text == "break" ? Stmt::Kind::kBreak : Stmt::Kind::kContinue, name.at);
    }
    for (std::string_view other : {"include", "import", "from", "extends", "block", "call", "with", "do", "autoescape",
                                   "trans", "print", "debug"})
      if (name.text == other)
        unsupported(name.at, "\"" + std::string(other) + "\"");
    raise(StatusCode::kInvalidArgument, name.at,
          "found \"" + std::string(name.text.substr(0, 40)) + "\", expected a statement (for, if, set, macro, ...)");
  }

  void body(Stmt &stmt, std::string_view end) {
    end_block();
    stmt.body = statements({end});
    take();
    end_block();
  }

  Stmt for_statement(uint32_t at) {
    Stmt stmt = make(Stmt::Kind::kFor, at);
    stmt.names = targets();
    if (!take_name("in"))
      fail("\"in\"");
    stmt.expr = tuple(/*with_if=*/false);
    if (take_name("if"))
      stmt.condition = expression();
    if (is_name("recursive"))
      unsupported(peek().at, "a recursive loop");
    end_block();
    ++loops_;
    stmt.body = statements({"else", "endfor"});
    --loops_;
    if (take().text == "else") {
      end_block();
      stmt.orelse = statements({"endfor"});
      take();
    }
    end_block();
    return stmt;
  }

  Stmt if_statement(uint32_t at) {
    Stmt stmt = make(Stmt::Kind::kIf, at);
    while (true) {
      ExprPtr condition = tuple();
      end_block();
      Block block = statements({"elif", "else", "endif"});
      stmt.branches.emplace_back(std::move(condition), std::move(block));
      const std::string_view tag = take().text;
      if (tag == "elif")
        continue;
      if (tag == "else") {
        end_block();
        stmt.orelse = statements({"endif"});
        take();
      }
      end_block();
      return stmt;
    }
  }

  Stmt set_statement(uint32_t at) {
    Stmt stmt = make(Stmt::Kind::kSet, at);
    stmt.names = targets();
    if (stmt.names.size() == 1 && take_op("."))
      stmt.attribute = expect_name("an attribute");
    if (take_op("=")) {
      stmt.expr = tuple();
      end_block();
      return stmt;
    }
    if (stmt.names.size() != 1 || (!is_op("|") && !is(Token::Kind::kBlockEnd)))
      fail("\"=\"");
    stmt.kind = Stmt::Kind::kSetBlock;
    if (is_op("|"))
      stmt.expr = filters(nullptr);
    body(stmt, "endset");
    return stmt;
  }

  Stmt macro(uint32_t at) {
    Stmt stmt = make(Stmt::Kind::kMacro, at);
    stmt.names = {expect_name("a macro's name")};
    expect_op("(");
    while (!is_op(")")) {
      std::string name = expect_name("a parameter");
      ExprPtr value;
      if (take_op("="))
        value = expression();
      else if (!stmt.parameters.empty() && stmt.parameters.back().second)
        raise(StatusCode::kInvalidArgument, peek().at, "a parameter without a default after one with a default");
      stmt.parameters.emplace_back(std::move(name), std::move(value));
      if (!take_op(","))
        break;
    }
    expect_op(")");
    const int loops = std::exchange(loops_, 0);
    body(stmt, "endmacro");
    loops_ = loops;
    return stmt;
  }

  std::vector<std::string> targets() {
    std::vector<std::string> names;
    const bool parenthesis = take_op("(");
    do {
      if (!names.empty() && !is(Token::Kind::kName))
        break;  // a comma at the end
      const std::string_view name = peek().text;
      for (std::string_view reserved :
           {"true", "false", "none", "True", "False", "None", "not", "and", "or", "if", "else"})
        if (is(Token::Kind::kName) && name == reserved)
          fail("a variable");
      names.push_back(expect_name("a variable"));
    } while (take_op(","));
    if (parenthesis)
      expect_op(")");
    return names;
  }

  // Expressions.
  static ExprPtr node(Kind kind, uint32_t at) {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->at = at;
    return expr;
  }
  static void add(Expr &expr, ExprPtr arg) {
    if (arg) {
      if (arg->depth >= kMaxDepth)
        raise(StatusCode::kResourceExhausted, arg->at,
              "an expression deeper than " + std::to_string(kMaxDepth) + " operations");
      expr.depth = std::max<uint8_t>(expr.depth, arg->depth + 1);
    }
    expr.args.push_back(std::move(arg));
  }
  static ExprPtr unary(Kind kind, uint32_t at, ExprPtr arg) {
    ExprPtr expr = node(kind, at);
    add(*expr, std::move(arg));
    return expr;
  }
  static ExprPtr binary(Kind kind, uint32_t at, ExprPtr left, ExprPtr right, std::string_view op = {}) {
    ExprPtr expr = unary(kind, at, std::move(left));
    add(*expr, std::move(right));
    expr->text = op;
    return expr;
  }

  bool at_end() const {
    return is(Token::Kind::kOutputEnd) || is(Token::Kind::kBlockEnd) || is(Token::Kind::kEnd) || is_op(")") ||
           is_op("=");
  }

  // An expression, or several with commas between: a tuple. Without `with_if`, an "if" belongs to what follows.
  ExprPtr tuple(bool with_if = true) {
    ExprPtr first = with_if ? expression() : disjunction();
    if (!is_op(","))
      return first;
    ExprPtr list = unary(Kind::kTuple, first->at, nullptr);
    list->args.clear();
    add(*list, std::move(first));
    while (take_op(",") && !at_end() && !is_name("if"))
      add(*list, with_if ? expression() : disjunction());
    return list;
  }

  ExprPtr expression() {
    const Nesting nesting(*this);
    ExprPtr value = disjunction();
    while (is_name("if")) {
      ExprPtr choice = node(Kind::kIf, take().at);
      add(*choice, disjunction());
      add(*choice, std::move(value));
      add(*choice, take_name("else") ? expression() : nullptr);
      value = std::move(choice);
    }
    return value;
  }

  ExprPtr disjunction() {
    ExprPtr left = conjunction();
    while (is_name("or")) {
      const uint32_t at = take().at;
      left = binary(Kind::kOr, at, std::move(left), conjunction());
    }
    return left;
  }

  ExprPtr conjunction() {
    ExprPtr left = negation();
    while (is_name("and")) {
      const uint32_t at = take().at;
      left = binary(Kind::kAnd, at, std::move(left), negation());
    }
    return left;
  }

  ExprPtr negation() {
    if (!is_name("not"))
      return comparison();
    const Nesting nesting(*this);
    const uint32_t at = take().at;
    return unary(Kind::kNot, at, negation());
  }

  ExprPtr comparison() {
    ExprPtr left = sum();
    ExprPtr chain;
    while (true) {
      std::string_view op;
      for (std::string_view candidate : {"==", "!=", "<=", ">=", "<", ">"})
        if (is_op(candidate))
          op = candidate;
      if (is_name("in"))
        op = "in";
      else if (is_name("not") && is_name("in", 1))
        op = "not in";
      if (op.empty())
        return chain ? std::move(chain) : std::move(left);
      const uint32_t at = take().at;
      if (op == "not in")
        take();
      if (!chain)
        chain = unary(Kind::kCompare, at, std::move(left));
      chain->ops.push_back(op);
      add(*chain, sum());
    }
  }

  ExprPtr operators(std::initializer_list<std::string_view> ops, ExprPtr (Parser::*operand)()) {
    ExprPtr left = (this->*operand)();
    while (true) {
      std::string_view op;
      for (std::string_view candidate : ops)
        if (is_op(candidate))
          op = candidate;
      if (op.empty())
        return left;
      const uint32_t at = take().at;
      left = binary(Kind::kBinary, at, std::move(left), (this->*operand)(), op);
    }
  }
  ExprPtr sum() { return operators({"+", "-"}, &Parser::concatenation); }
  ExprPtr product() { return operators({"*", "/", "//", "%"}, &Parser::power); }
  ExprPtr power() { return operators({"**"}, &Parser::signed_value); }

  ExprPtr concatenation() {
    ExprPtr first = product();
    if (!is_op("~"))
      return first;
    ExprPtr all = unary(Kind::kConcat, peek().at, std::move(first));
    while (take_op("~"))
      add(*all, product());
    return all;
  }

  ExprPtr signed_value() { return sign(true); }

  ExprPtr sign(bool with_filters) {
    ExprPtr value;
    if (is_op("-") || is_op("+")) {
      const Nesting nesting(*this);
      const Token &op = take();
      value = unary(op.text == "-" ? Kind::kNegative : Kind::kPositive, op.at, sign(false));
    } else {
      value = primary();
    }
    value = postfix(std::move(value));
    return with_filters ? filters(std::move(value)) : std::move(value);
  }

  ExprPtr primary() {
    const Nesting nesting(*this);
    const Token &token = peek();
    switch (token.kind) {
    case Token::Kind::kName: {
      take();
      static constexpr std::pair<std::string_view, Kind> kConstants[] = {
          {"true", Kind::kTrue},   {"True", Kind::kTrue}, {"false", Kind::kFalse},
          {"False", Kind::kFalse}, {"none", Kind::kNone}, {"None", Kind::kNone}};
      for (const auto &[name, kind] : kConstants)
        if (token.text == name)
          return node(kind, token.at);
      ExprPtr name = node(Kind::kName, token.at);
      name->text = token.text;
      return name;
    }
    case Token::Kind::kString: {
      ExprPtr text = node(Kind::kString, token.at);
      while (is(Token::Kind::kString))
        text->text += take().value;
      return text;
    }
    case Token::Kind::kInt: {
      ExprPtr integer = node(Kind::kInt, take().at);
      const auto [end, error] =
          std::from_chars(token.value.data(), token.value.data() + token.value.size(), integer->integer);
      if (error != std::errc())
        raise(StatusCode::kInvalidArgument, token.at, "an integer beyond 64 bits");
      return integer;
    }
    case Token::Kind::kFloat: {
      ExprPtr number = node(Kind::kDouble, take().at);
      std::from_chars(token.value.data(), token.value.data() + token.value.size(), number->number);
      return number;
    }
    case Token::Kind::kOp:
      if (token.text == "(")
        return parentheses();
      if (token.text == "[")
        return list();
      if (token.text == "{")
        return dict();
      [[fallthrough]];
    default: fail("an expression");
    }
  }

  ExprPtr parentheses() {
    const uint32_t at = take().at;
    ExprPtr value;
    if (is_op(")"))
      value = node(Kind::kTuple, at);
    else
      value = tuple();
    expect_op(")");
    return value;
  }

  ExprPtr list() {
    ExprPtr list = node(Kind::kList, take().at);
    while (!is_op("]")) {
      add(*list, expression());
      if (!take_op(",") && !is_op("]"))
        fail("\",\" or \"]\"");
    }
    take();
    return list;
  }

  ExprPtr dict() {
    ExprPtr dict = node(Kind::kDict, take().at);
    while (!is_op("}")) {
      add(*dict, expression());
      expect_op(":");
      add(*dict, expression());
      if (!take_op(",") && !is_op("}"))
        fail("\",\" or \"}\"");
    }
    take();
    return dict;
  }

  ExprPtr postfix(ExprPtr value) {
    while (true) {
      if (is_op(".")) {
        const uint32_t at = take().at;
        if (is(Token::Kind::kInt)) {
          value = binary(Kind::kItem, at, std::move(value), primary());
          continue;
        }
        value = unary(Kind::kAttribute, at, std::move(value));
        value->text = expect_name("an attribute");
      } else if (is_op("[")) {
        value = subscript(std::move(value));
      } else if (is_op("(")) {
        value = call(std::move(value));
      } else {
        return value;
      }
    }
  }

  ExprPtr subscript(ExprPtr value) {
    const uint32_t at = take().at;
    ExprPtr parts[3];
    int colons = 0;
    while (!is_op("]")) {
      if (take_op(":")) {
        if (++colons > 2)
          fail("\"]\"");
        continue;
      }
      if (parts[colons])
        fail("\"]\"");
      parts[colons] = expression();
    }
    take();
    if (colons == 0) {
      if (!parts[0])
        raise(StatusCode::kInvalidArgument, at, "found \"[]\", expected an index");
      return binary(Kind::kItem, at, std::move(value), std::move(parts[0]));
    }
    ExprPtr slice = unary(Kind::kSlice, at, std::move(value));
    for (ExprPtr &part : parts)
      add(*slice, std::move(part));
    return slice;
  }

  void arguments(Expr &call) {
    expect_op("(");
    while (!is_op(")")) {
      if (is_op("*") || is_op("**"))
        unsupported(peek().at, "\"" + std::string(peek().text) + "\" before an argument");
      if (is(Token::Kind::kName) && is_op("=", 1)) {
        std::string name(take().text);
        take();
        ExprPtr value = expression();
        call.depth = std::max<uint8_t>(call.depth, value->depth + 1);
        call.keywords.emplace_back(std::move(name), std::move(value));
      } else {
        if (!call.keywords.empty())
          fail("an argument with a name");
        add(call, expression());
      }
      if (!take_op(",") && !is_op(")"))
        fail("\",\" or \")\"");
    }
    take();
  }

  ExprPtr call(ExprPtr callee) {
    ExprPtr call = unary(Kind::kCall, peek().at, std::move(callee));
    arguments(*call);
    return call;
  }

  std::string dotted_name(const char *what) {
    std::string name = expect_name(what);
    while (take_op("."))
      name += "." + expect_name(what);
    return name;
  }

  ExprPtr filter(ExprPtr value) {
    const uint32_t at = peek().at;
    ExprPtr filter = unary(Kind::kFilter, at, std::move(value));
    filter->text = dotted_name("a filter");
    if (!is_filter(filter->text))
      unsupported(at, "the filter \"" + filter->text + "\"");
    if (is_op("("))
      arguments(*filter);
    return filter;
  }

  ExprPtr filters(ExprPtr value) {
    while (true) {
      if (take_op("|"))
        value = filter(std::move(value));
      else if (is_name("is"))
        value = test(std::move(value));
      else if (is_op("("))
        value = call(std::move(value));
      else
        return value;
    }
  }

  ExprPtr test(ExprPtr value) {
    const uint32_t at = take().at;
    const bool negated = take_name("not");
    ExprPtr test = unary(Kind::kTest, at, std::move(value));
    test->text = dotted_name("a test");
    if (!is_test(test->text))
      unsupported(at, "the test \"" + test->text + "\"");
    if (is_op("(")) {
      arguments(*test);
    } else if (is(Token::Kind::kString) || is(Token::Kind::kInt) || is(Token::Kind::kFloat) || is_op("[") ||
               is_op("{") ||
               (is(Token::Kind::kName) && !is_name("else") && !is_name("or") && !is_name("and") && !is_name("is") &&
                !is_name("in") && !is_name("if") && !is_name("not"))) {
      add(*test, postfix(primary()));
    }
    return negated ? unary(Kind::kNot, at, std::move(test)) : std::move(test);
  }

  std::vector<Token> tokens_;
  size_t next_ = 0;
  int nesting_ = 0, loops_ = 0;
};

}  // namespace

Block parse_template(const std::string &source) {
  return Parser(source).run();
}

}  // namespace mili::text
