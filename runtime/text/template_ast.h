// What the parser of chat templates makes and the evaluator walks. Text lies in the source, which outlives the tree.
#pragma once

#include "mili/runtime/status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mili::text {

// Parser and evaluator stop by throwing one of these; ChatTemplate's members catch it.
struct TemplateError {
  StatusCode code;
  uint32_t at;  // byte of the source
  std::string message;
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  enum class Kind : uint8_t {
    kNone,
    kTrue,
    kFalse,
    kInt,
    kDouble,
    kString,
    kName,  // text
    kList,
    kTuple,      // args
    kDict,       // args: key, value, key, value ...
    kAttribute,  // args[0] . text
    kItem,       // args[0] [ args[1] ]
    kSlice,      // args[0] [ args[1] : args[2] : args[3] ], null for a missing one
    kCall,       // args[0] ( args[1...], keywords )
    kFilter,     // args[0] | text ( args[1...], keywords ); args[0] null in a filter block
    kTest,       // args[0] is text ( args[1...] )
    kNot,
    kNegative,
    kPositive,
    kAnd,
    kOr,
    kBinary,   // args[0] text args[1]
    kCompare,  // args[0] ops[0] args[1] ops[1] args[2] ...
    kConcat,   // args joined as strings
    kIf,       // args[1] if args[0] else args[2], which may be null
  };
  Kind kind;
  uint8_t depth = 1;  // of the tree below, itself included
  uint32_t at = 0;
  int64_t integer = 0;
  double number = 0;
  std::string text;
  std::vector<std::string_view> ops;
  std::vector<ExprPtr> args;
  std::vector<std::pair<std::string, ExprPtr>> keywords;
};

struct Stmt;
using Block = std::vector<Stmt>;

struct Stmt {
  enum class Kind : uint8_t {
    kText,      // text
    kOutput,    // expr
    kFor,       // names in expr [if condition] body, orelse
    kIf,        // branches, orelse
    kSet,       // names = expr, or names[0].attribute = expr
    kSetBlock,  // names[0][.attribute] = body [| expr]
    kMacro,     // names[0](parameters) body
    kFilter,    // expr (a chain of filters) over body
    kBlock,     // body alone (generation)
    kBreak,
    kContinue,
  };
  Kind kind;
  uint32_t at = 0;
  std::string text;
  std::string attribute;
  std::vector<std::string> names;
  ExprPtr expr, condition;
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // with their defaults, or null
  std::vector<std::pair<ExprPtr, Block>> branches;
  Block body, orelse;
};

// Throws TemplateError.
Block parse_template(const std::string &source);

// Names that the evaluator knows; the parser refuses others.
bool is_filter(std::string_view name);
bool is_test(std::string_view name);

// Line endings as "\n" and the last one removed, as Jinja does first.
std::string normalize_template(std::string_view source);

}  // namespace mili::text
