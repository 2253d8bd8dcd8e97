// Broken IR never crashes a pass: mutates modules, runs everything over them, counts what goes wrong.
//
//   mutate_modules [--seed N] [--count N] [--models DIR] [--keep DIR] [--file FILE]
//
// Seeds of mutation are the inputs of the lit tests (tests/ir, tests/passes, tests/codegen; as written and in MLIR's
// generic form, in which attributes and types reach the verifiers past the parsers), and every phase of a few golden
// models. A mutant comes from (--seed, its number) alone. It is parsed, printed and parsed again, and goes through
// every registered `mili-` pass with its defaults and with random options, upstream's passes that ask our ops, and the
// phases of the compiler for each target, the codegen's emission of kernels included.
//
// Faults, each reported with the pass and kept in --keep: a crash or failed assertion, more than 20 s of processor
// time, more than 4 GiB of memory (not under a sanitizer, which brings limits of its own), a failure without a
// diagnostic, an error that names no place, a valid module that does not parse again as printed. Work is done by
// children, so that a crash ends one of them. --file runs one module instead, without mutation. Exit status 1 when
// there was a fault.
#include "mili/Codegen/CpuObject.h"
#include "mili/Codegen/CudaProgram.h"
#include "mili/Compiler/Pipeline.h"
#include "mili/Compiler/ToolRegistry.h"
#include "mili/IR/MiliDialect.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <random>
#include <string>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace mlir;

namespace {

constexpr int kCpuSeconds = 20;
constexpr rlim_t kMemoryBytes = rlim_t{4} << 30;
constexpr const char *kNumbers[] = {"0",
                                    "1",
                                    "-1",
                                    "2",
                                    "5",
                                    "8",
                                    "24",
                                    "40",
                                    "96",
                                    "3",
                                    "16",
                                    "64",
                                    "127",
                                    "65536",
                                    "2147483647",
                                    "2147483648",
                                    "-2147483648",
                                    "4294967296",
                                    "1099511627776",
                                    "4611686018427387904",
                                    "9223372036854775807",
                                    "9223372036854775808",
                                    "-9223372036854775808",
                                    "18446744073709551616",
                                    "99999999999999999999999999"};
constexpr const char *kTypes[] = {"f32",
                                  "bf16",
                                  "f16",
                                  "f64",
                                  "f8E4M3FN",
                                  "i1",
                                  "i8",
                                  "i32",
                                  "i64",
                                  "index",
                                  "none",
                                  "tensor<*xf32>",
                                  "tensor<f32>",
                                  "tensor<?xf32>",
                                  "tensor<?x?xf32>",
                                  "tensor<4x8xf32>",
                                  "tensor<?x0xf32>",
                                  "tensor<0x32xf32>",
                                  "tensor<?x8x4xf32>",
                                  "tensor<?xi32>",
                                  "tensor<8x32x!mili.block<q6_k>>",
                                  "tensor<4xindex>",
                                  "memref<4xf32>",
                                  "vector<4xf32>",
                                  "!mili.batch",
                                  "!mili.kv<heads = 1, k = 8, v = 8, f32>",
                                  "!mili.recurrent<4x8xf32>",
                                  "!mili.block<q4_0>",
                                  "() -> ()",
                                  "tuple<i32, f32>",
                                  "complex<f32>"};
constexpr const char *kAttributes[] = {"unit",
                                       "true",
                                       "0 : i64",
                                       "-1 : i64",
                                       "9223372036854775807 : i64",
                                       "3 : i8",
                                       "1.5 : f32",
                                       "0x7FC00000 : f32",
                                       "0x7F800000 : f32",
                                       "-1.0 : f32",
                                       "\"\"",
                                       "\"cpu\"",
                                       "\"mili.linear\"",
                                       "[]",
                                       "[1, \"a\"]",
                                       "{}",
                                       "{a = 1}",
                                       "@forward",
                                       "@a::@b",
                                       "f32",
                                       "#mili.causal",
                                       "#mili.window<4>",
                                       "dense<1> : tensor<2xi32>",
                                       "array<i64: 1, 2>",
                                       "array<f32>",
                                       "affine_map<(d0) -> (d0)>",
                                       "#mili.bucket<tokens = 1, sequences = 1, logit_rows = 0>",
                                       "#mili.bucket<tokens = 4611686018427387904, sequences = 1, logit_rows = 1>",
                                       "#mili.piece<\"a\">",
                                       "#mili.param<\"a\">",
                                       "#mili.activation<relu>",
                                       "#mili.stage<\"s\", tiles = 1 per one by 1>",
                                       "#mili_plan.counters<1>",
                                       "#mili_plan.arena<read 0 + 256>",
                                       "#mili_plan.weight_ref<@w0>"};

//===- Mutation --------------------------------------------------------------===//

bool isWord(char c) {
  return llvm::isAlnum(c) || c == '_' || c == '.' || c == '$' || c == '-';
}

struct Span {
  size_t begin, end;
};

/// Words with their sigil, strings, arrows, single characters; no white space.
std::vector<Span> tokenize(StringRef text) {
  std::vector<Span> tokens;
  for (size_t i = 0; i < text.size();) {
    if (llvm::isSpace(text[i])) {
      ++i;
      continue;
    }
    size_t begin = i;
    if (text[i] == '"') {
      for (++i; i < text.size() && text[i] != '"' && text[i] != '\n'; ++i)
        i += text[i] == '\\';
      i = std::min(i + 1, text.size());
    } else if (text.substr(i).starts_with("->") || text.substr(i).starts_with("//")) {
      i += 2;
    } else {
      bool sigil = StringRef("%@#!^").contains(text[i]);
      ++i;
      if (sigil || isWord(text[begin]))
        while (i < text.size() && isWord(text[i]) && !text.substr(i).starts_with("->"))
          ++i;
    }
    tokens.push_back({begin, i});
  }
  return tokens;
}

/// Numbers: integers and the sizes of shapes, not the digits of names. Left out are `%0#1` and `%0:2`: upstream's
/// parser takes memory for as many results as such a number says.
std::vector<Span> findNumbers(StringRef text) {
  std::vector<Span> numbers;
  for (size_t i = 0; i < text.size();) {
    if (!llvm::isDigit(text[i])) {
      ++i;
      continue;
    }
    size_t begin = i;
    while (i < text.size() && llvm::isDigit(text[i]))
      ++i;
    char before = begin ? text[begin - 1] : ' ';
    bool size = before == 'x' && begin > 1 && (llvm::isDigit(text[begin - 2]) || text[begin - 2] == '?');
    if (size || StringRef(" <[(,={+").contains(before))
      numbers.push_back({begin, i});
  }
  return numbers;
}

/// Types as written: `tensor<...>`, `!mili.kv<...>`, bare element types.
std::vector<Span> findTypes(StringRef text) {
  std::vector<Span> types;
  auto balanced = [&](size_t begin) {
    int depth = 0;
    for (size_t i = begin; i < text.size() && text[i] != '\n'; ++i) {
      depth += (text[i] == '<') - (text[i] == '>' && text[i - 1] != '-');
      if (text[i] == '>' && depth == 0)
        return i + 1;
    }
    return text.size();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    StringRef rest = text.substr(i);
    if (rest.starts_with("tensor<") || rest.starts_with("!mili.")) {
      size_t open = rest.find_first_of("<, )\n");
      bool parameters = open != StringRef::npos && rest[open] == '<';
      types.push_back({i, parameters ? balanced(i + open) : open == StringRef::npos ? text.size() : i + open});
    } else {
      for (StringRef element : {"f32", "bf16", "f16", "i32", "i64"})
        // `array<index: 1>` ends upstream's parser.
        if (rest.starts_with(element) && i > 0 && StringRef("x:, (<").contains(text[i - 1]) &&
            !text.take_front(i).ends_with("array<"))
          types.push_back({i, i + element.size()});
    }
  }
  return types;
}

class Mutator {
public:
  explicit Mutator(const std::vector<std::string> &corpus) {
    for (const std::string &text : corpus)
      for (Span token : tokenize(text))
        ++tokens[text.substr(token.begin, token.end - token.begin)];
    for (auto &[token, count] : tokens)
      pool.push_back(token);
  }

  std::string mutate(std::string text, std::mt19937_64 &random) const {
    // Mostly one change, which goes deep; sometimes a few that may add up.
    constexpr int kChanges[] = {1, 1, 1, 1, 2, 2, 3, 6};
    for (int changes = kChanges[random() % 8]; changes > 0; --changes)
      text = change(std::move(text), random);
    return text;
  }

private:
  template <typename T>
  static const auto &pick(const T &from, std::mt19937_64 &random) {
    return from[random() % std::size(from)];
  }

  /// Only here, or everywhere that the same text stands: then a module often stays valid, and odd.
  static std::string replace(const std::string &text, Span what, const std::string &with, bool everywhere) {
    std::string old = text.substr(what.begin, what.end - what.begin);
    if (!everywhere)
      return text.substr(0, what.begin) + with + text.substr(what.end);
    std::string result;
    for (size_t i = 0; i < text.size();) {
      bool word = isWord(old.front()) && i > 0 && (isWord(text[i - 1]) || StringRef("#:").contains(text[i - 1])) &&
                  text[i - 1] != 'x' && text[i - 1] != '.';
      bool longer = isWord(old.back()) && i + old.size() < text.size() && llvm::isDigit(old.back()) &&
                    llvm::isDigit(text[i + old.size()]);
      if (!word && !longer && text.compare(i, old.size(), old) == 0) {
        result += with;
        i += old.size();
      } else {
        result += text[i++];
      }
    }
    return result;
  }

  std::string change(std::string text, std::mt19937_64 &random) const {
    if (text.empty())
      return text;
    std::vector<std::string> lines;
    auto splitLines = [&] {
      SmallVector<StringRef> parts;
      StringRef(text).split(parts, '\n');
      for (StringRef part : parts)
        lines.push_back(part.str());
    };
    auto tokenText = [&](Span span) { return text.substr(span.begin, span.end - span.begin); };
    switch (random() % 16) {
    case 0:
    case 1:
    case 2: {  // a number
      std::vector<Span> numbers = findNumbers(text);
      if (numbers.empty())
        break;
      Span at = pick(numbers, random);
      int64_t value = 0;
      std::string with = pick(kNumbers, random);
      if (random() % 3 == 0 && !StringRef(tokenText(at)).getAsInteger(10, value)) {
        const int64_t near[] = {value + 1, value - 1, value < (1 << 30) ? value * 2 : value, value / 2, value + 32};
        with = std::to_string(pick(near, random));
      } else if (random() % 8 == 0) {
        with = "?";
      }
      return replace(text, at, with, random() % 3);
    }
    case 3:
    case 4: {  // a type
      std::vector<Span> types = findTypes(text);
      if (types.empty())
        break;
      Span at = pick(types, random);
      std::string with = random() % 2 ? tokenText(pick(types, random)) : std::string(pick(kTypes, random));
      return replace(text, at, with, random() % 2);
    }
    case 5:
    case 6: {  // the value of an attribute, or its name
      std::vector<size_t> equals;
      for (size_t at = text.find(" = "); at != std::string::npos; at = text.find(" = ", at + 1)) {
        size_t name = text.find_last_of(" ,{<\n(", at - 1);
        if (name != std::string::npos && name + 1 < at && text[name + 1] != '%')
          equals.push_back(at);
      }
      if (equals.empty())
        break;
      size_t at = pick(equals, random);
      size_t name = text.find_last_of(" ,{<\n(", at - 1) + 1, end = at + 3;
      if (random() % 4 == 0)
        return text.substr(0, name) + (random() % 2 ? "unknown" : pick(pool, random)) + text.substr(at);
      int depth = 0;
      for (; end < text.size() && text[end] != '\n'; ++end) {
        if (depth == 0 && StringRef(",}>)").contains(text[end]))
          break;
        depth += StringRef("<[({").contains(text[end]) - StringRef(">])}").contains(text[end]);
      }
      return text.substr(0, at + 3) + pick(kAttributes, random) + text.substr(end);
    }
    case 7: {  // one more attribute
      std::vector<size_t> braces;
      for (size_t at = text.find_first_of("{"); at != std::string::npos; at = text.find('{', at + 1))
        braces.push_back(at + 1);
      if (braces.empty())
        break;
      size_t at = pick(braces, random);
      constexpr const char *kNames[] = {"mili.bucket",  "mili.requests", "mili.context",       "mili.function",
                                        "packed_bytes", "layout",        "mili.deterministic", "kernel",
                                        "stages",       "hero",          "sym_name",           "eps"};
      return text.substr(0, at) + pick(kNames, random) + " = " + pick(kAttributes, random) +
             (random() % 2 ? ", " : " ") + text.substr(at);
    }
    case 8:
    case 9: {  // one value, symbol, op or attribute for another of its kind
      std::vector<Span> of = tokenize(text);
      constexpr char kSigils[] = {'%', '%', '@', '"', '#'};
      char sigil = pick(kSigils, random);
      bool op = random() % 3 == 0;
      llvm::erase_if(of, [&](Span span) {
        return op ? !StringRef(text).substr(span.begin).starts_with("mili") &&
                        !StringRef(text).substr(span.begin).starts_with("\"mili")
                  : text[span.begin] != sigil;
      });
      if (of.size() < 2)
        break;
      return replace(text, pick(of, random), tokenText(pick(of, random)), false);
    }
    case 10: {  // tokens away, twice, changed places, or from elsewhere
      std::vector<Span> all = tokenize(text);
      if (all.size() < 2)
        break;
      Span a = pick(all, random), b = pick(all, random);
      switch (random() % 4) {
      case 0: return replace(text, a, "", false);
      case 1: return replace(text, a, tokenText(a) + " " + tokenText(a), false);
      case 2: return replace(text, a, pick(pool, random), false);
      default:
        if (a.begin > b.begin)
          std::swap(a, b);
        if (a.end > b.begin)
          break;
        return text.substr(0, a.begin) + tokenText(b) + text.substr(a.end, b.begin - a.end) + tokenText(a) +
               text.substr(b.end);
      }
      break;
    }
    case 11: {  // an operand away or twice, with its comma
      std::vector<size_t> commas;
      for (size_t at = text.find(", %"); at != std::string::npos; at = text.find(", %", at + 1))
        commas.push_back(at);
      if (commas.empty())
        break;
      size_t at = pick(commas, random), end = at + 3;
      while (end < text.size() && isWord(text[end]))
        ++end;
      return random() % 2 ? text.substr(0, at) + text.substr(end)
                          : text.substr(0, end) + text.substr(at, end - at) + text.substr(end);
    }
    case 12:
    case 13:
    case 14: {  // lines
      splitLines();
      size_t a = random() % lines.size(), b = random() % lines.size();
      switch (random() % 4) {
      case 0: lines.erase(lines.begin() + static_cast<ptrdiff_t>(a)); break;
      case 1: lines.insert(lines.begin() + static_cast<ptrdiff_t>(b), lines[a]); break;
      case 2: std::swap(lines[a], lines[b]); break;
      default:
        lines.erase(lines.begin() + static_cast<ptrdiff_t>(a),
                    lines.begin() + static_cast<ptrdiff_t>(std::min(a + 1 + random() % 4, lines.size())));
      }
      return llvm::join(lines, "\n");
    }
    default:  // an end too early, or one byte
      if (random() % 2)
        return text.substr(0, random() % text.size());
      text[random() % text.size()] = static_cast<char>(random() % 4 ? 32 + random() % 95 : random() % 256);
      return text;
    }
    return text;
  }

  std::map<std::string, int> tokens;
  std::vector<std::string> pool;
};

//===- Running a module through everything -----------------------------------===//

struct PassOption {
  std::string name;
  bool list = false;
};
struct RegisteredPass {
  std::string name;
  std::vector<PassOption> options;
};

/// MILI's passes and their options, as `mili-opt --help` lists them: the registry itself cannot be walked.
std::vector<RegisteredPass> listPasses() {
  llvm::SmallString<128> path;
  int file = -1;
  if (llvm::sys::fs::createTemporaryFile("passes", "txt", file, path))
    return {};
  llvm::outs().flush();
  int saved = dup(STDOUT_FILENO);
  dup2(file, STDOUT_FILENO);
  printRegisteredPasses();
  llvm::outs().flush();
  dup2(saved, STDOUT_FILENO);
  close(saved);
  close(file);
  std::vector<RegisteredPass> passes;
  bool ours = false;
  if (auto text = llvm::MemoryBuffer::getFile(path)) {
    SmallVector<StringRef> lines;
    (*text)->getBuffer().split(lines, '\n');
    for (StringRef line : lines) {
      StringRef word = line.trim();
      if (!word.consume_front("--"))
        continue;
      StringRef name = word.take_while([](char c) { return isWord(c); });
      if (line.size() - line.ltrim().size() <= 2) {
        ours = name.starts_with("mili-");
        if (ours)
          passes.push_back({name.str(), {}});
      } else if (ours) {
        passes.back().options.push_back({name.str(), false});
      }
    }
  }
  (void)llvm::sys::fs::remove(path);
  return passes;
}

/// What a child says about where it is; shared with the parent, which reads it after a crash.
struct Progress {
  int64_t mutant;
  int64_t parsed, valid, passed, faults;
  char step[512];
};

class Runner {
public:
  Runner(std::vector<RegisteredPass> passes, Progress *progress) : passes(std::move(passes)), progress(progress) {}

  /// Everything over one module. `fault` is told what went wrong short of a crash.
  void run(const std::string &text, std::mt19937_64 &random, llvm::function_ref<void(const std::string &)> fault) {
    DialectRegistry registry;
    mlir::mili::registerToolDialects(registry);
    MLIRContext context(registry, MLIRContext::Threading::DISABLED);
    int64_t errors = 0, unplaced = 0;
    std::string first;
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
      if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
        return success();
      ++errors;
      unplaced += isa<UnknownLoc>(diagnostic.getLocation());
      first = diagnostic.str();
      return success();
    });
    auto step = [&](const std::string &name, llvm::function_ref<LogicalResult()> action) {
      begin(name);
      errors = unplaced = 0;
      LogicalResult result = action();
      if (failed(result) && errors == 0)
        fault(name + ": failed without a diagnostic");
      if (unplaced)
        fault(name + ": an error names no place: " + first);
      return result;
    };

    OwningOpRef<ModuleOp> module;
    ParserConfig config(&context);
    if (failed(step("parse", [&] {
          module = parseSourceString<ModuleOp>(text, config, "mutant.mlir");
          return success(static_cast<bool>(module));
        })))
      return;
    ++progress->parsed;
    (void)step("print", [&]() -> LogicalResult {
      std::string printed;
      llvm::raw_string_ostream(printed) << *module;
      OwningOpRef<ModuleOp> again = parseSourceString<ModuleOp>(printed, config, "printed.mlir");
      // Upstream lets functions be named "", and cannot read that again.
      if (!again && !StringRef(printed).contains("@<<INVALID EMPTY SYMBOL>>"))
        fault("print: a valid module does not parse as printed: " + first);
      return success();
    });
    ++progress->valid;

    auto runPipeline = [&](const std::string &pipeline) {
      OwningOpRef<ModuleOp> copy(module->clone());
      PassManager pm(&context);
      std::string said;
      llvm::raw_string_ostream os(said);
      // Unknown options and values that are no numbers are upstream's to refuse.
      if (failed(parsePassPipeline(pipeline, pm, os)))
        return;
      progress->passed += succeeded(step(pipeline, [&] { return pm.run(*copy); }));
    };
    constexpr const char *kUpstream[] = {"canonicalize",
                                         "cse",
                                         "sccp",
                                         "symbol-dce",
                                         "remove-dead-values",
                                         "loop-invariant-code-motion",
                                         "control-flow-sink",
                                         "func.func(sharding-propagation)",
                                         "func.func(sharding-propagation,shard-partition)"};
    for (const char *pass : kUpstream)
      runPipeline(pass);
    for (const RegisteredPass &pass : passes) {
      // Some work on functions: nested when the registry wants it so.
      for (bool options : {false, true}) {
        std::string name = pass.name;
        if (options) {
          if (pass.options.empty())
            continue;
          name += "{";
          for (int n = 1 + static_cast<int>(random() % 3); n > 0; --n)
            name += pass.options[random() % pass.options.size()].name + "=" + optionValue(random) + " ";
          name.back() = '}';
        }
        runPipeline(name);
        runPipeline("func.func(" + name + ")");
      }
    }

    // The compiler's own order, from each phase on: most modules are the result of one of them.
    constexpr ::mili::Phase kPhases[] = {::mili::Phase::kOptimize, ::mili::Phase::kSpecialize, ::mili::Phase::kFuse,
                                         ::mili::Phase::kPlanMemory, ::mili::Phase::kCodegen};
    for (const char *target : {"cpu", "cuda:source"}) {
      ::mili::CompileOptions options;
      options.target = target;
      options.prefill_tokens = 16;
      // What one phase ran already the chains that begin later need not run again.
      for (size_t start = 0; start < std::size(kPhases); ++start) {
        OwningOpRef<ModuleOp> copy(module->clone());
        std::string name = std::string(target) + ":";
        for (::mili::Phase phase : ArrayRef(kPhases).drop_front(start)) {
          name += " " + std::string(::mili::phase_name(phase));
          LogicalResult result = step(name, [&]() -> LogicalResult {
            if (phase == ::mili::Phase::kCodegen)
              return emit(*copy, options.target == "cpu");
            PassManager pm(&context);
            mlir::mili::buildPhase(pm, phase, options, *copy, nullptr);
            return pm.run(*copy);
          });
          if (failed(result))
            break;
          ++progress->passed;
        }
      }
    }
    begin("done");
  }

private:
  static LogicalResult emit(ModuleOp module, bool cpu) {
    if (!cpu)
      return success(succeeded(mlir::mili::codegen::emitCudaProgram(module)));
    for (const mlir::mili::codegen::CpuVariant &variant : mlir::mili::codegen::cpuVariants()) {
      FailureOr<OwningOpRef<ModuleOp>> functions = mlir::mili::codegen::emitCpuFunctions(module, variant);
      if (failed(functions))
        return failure();
    }
    return success();
  }

  std::string optionValue(std::mt19937_64 &random) const {
    constexpr const char *kValues[] = {"cpu",     "cuda",
                                       "forward", "all",
                                       "rope",    "rms_norm-linear",
                                       "1:1:1",   "4:2:1,1:1:1",
                                       "0:0:0",   "9223372036854775807:1:1",
                                       "true",    "false",
                                       "table",   "\"\"",
                                       "a,b",     "1:2:3:4"};
    return random() % 2 ? std::string(kValues[random() % std::size(kValues)])
                        : std::string(kNumbers[random() % std::size(kNumbers)]);
  }

  /// Notes where we are, and gives the step its time.
  void begin(const std::string &name) {
    std::strncpy(progress->step, name.c_str(), sizeof(progress->step) - 1);
    itimerval timer{};
    timer.it_value.tv_sec = name == "done" ? 0 : kCpuSeconds;
    setitimer(ITIMER_PROF, &timer, nullptr);
  }

  std::vector<RegisteredPass> passes;
  Progress *progress;
};

//===- Corpus ----------------------------------------------------------------===//

std::optional<std::string> readFile(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return std::nullopt;
  return (*buffer)->getBuffer().str();
}

std::vector<std::string> filesOf(const std::string &folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (llvm::sys::fs::directory_iterator it(folder, error), end; it != end && !error; it.increment(error))
    if (StringRef(it->path()).ends_with(".mlir"))
      paths.push_back(it->path());
  llvm::sort(paths);
  return paths;
}

/// A file of a lit test as its modules: split where split-file and --split-input-file do.
void addModules(const std::string &text, std::vector<std::string> &corpus) {
  SmallVector<StringRef> lines;
  StringRef(text).split(lines, '\n');
  std::string module;
  auto flush = [&] {
    if (!StringRef(module).trim().empty())
      corpus.push_back(module);
    module.clear();
  };
  for (StringRef line : lines) {
    if (line.starts_with("// -----") || line.starts_with("//---"))
      flush();
    else if (!line.ltrim().starts_with("//"))
      module += line.str() + "\n";
  }
  flush();
}

/// Puts the modules that are valid behind those that are not, followed by the same in MLIR's generic form. Returns how
/// many are not.
size_t addGeneric(std::vector<std::string> &corpus) {
  DialectRegistry registry;
  mlir::mili::registerToolDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) { return success(); });
  std::vector<std::string> broken, valid, generic;
  for (std::string &text : corpus) {
    OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context);
    if (module) {
      llvm::raw_string_ostream os(generic.emplace_back());
      module->print(os, OpPrintingFlags().printGenericOpForm());
    }
    (module ? valid : broken).push_back(std::move(text));
  }
  corpus.clear();
  for (const auto &part : {broken, valid, generic})
    corpus.insert(corpus.end(), part.begin(), part.end());
  return broken.size();
}

/// Every phase of the models in `folder`, for each target.
bool addPhases(const std::string &folder, std::vector<std::string> &corpus) {
  llvm::SmallString<128> dump;
  if (llvm::sys::fs::createUniqueDirectory("mutate-phases", dump))
    return false;
  for (const char *name : {"llama", "qwen3", "granite"})
    for (const char *target : {"cpu", "cuda:source"}) {
      ::mili::CompileOptions options;
      options.model = folder + "/" + name;
      options.target = target;
      options.prefill_tokens = 16;
      options.compile_to = ::mili::Phase::kPlanMemory;
      options.dump_dir = (dump + "/" + name + "-" + StringRef(target).take_front(3)).str();
      ::mili::StatusOr<::mili::CompileResult> result = ::mili::compile_model(options, {});
      if (!result.ok()) {
        llvm::errs() << result.status().to_string() << "\n";
        return false;
      }
      for (const std::string &path : filesOf(options.dump_dir))
        if (std::optional<std::string> text = readFile(path))
          corpus.push_back(std::move(*text));
    }
  (void)llvm::sys::fs::remove_directories(dump);
  return true;
}

}  // namespace

int main(int argc, char **argv) {
  uint64_t seed = 1;
  int64_t count = 500, first = 0;
  std::string models, keep = ".", file, listed;
  for (int i = 1; i + 1 < argc; i += 2) {
    StringRef option(argv[i]), value(argv[i + 1]);
    bool bad = option == "--seed"     ? value.getAsInteger(10, seed)
               : option == "--count"  ? value.getAsInteger(10, count)
               : option == "--first"  ? value.getAsInteger(10, first)
               : option == "--models" ? (models = value.str(), false)
               : option == "--keep"   ? (keep = value.str(), false)
               : option == "--file"   ? (file = value.str(), false)
                                      : true;
    if (bad) {
      llvm::errs() << "mutate_modules: unknown option or value: " << option << " " << value << "\n";
      return 2;
    }
  }
  llvm::sys::PrintStackTraceOnErrorSignal(argv[0]);
  mlir::mili::registerToolPasses();

  std::vector<std::string> corpus;
  for (const char *folder : {"ir", "passes", "codegen"})
    for (const std::string &path : filesOf(std::string(MILI_TESTS_DIR) + "/" + folder))
      if (std::optional<std::string> text = readFile(path))
        addModules(*text, corpus);
  const size_t broken = addGeneric(corpus);
  const size_t small = corpus.size();
  if (!models.empty() && !addPhases(models, corpus))
    return 2;
  if (!file.empty()) {
    std::optional<std::string> text = readFile(file);
    if (!text) {
      llvm::errs() << "mutate_modules: " << file << ": cannot be read\n";
      return 2;
    }
    corpus.assign(1, std::move(*text));
    count = 1;
  }
  const Mutator mutator(corpus);
  auto mutantOf = [&](int64_t index, std::mt19937_64 &random) {
    random.seed(seed * 1'000'003 + static_cast<uint64_t>(index));
    if (!file.empty())
      return corpus.front();
    // What is broken already gets no further than its error.
    auto between = [&](size_t begin, size_t end) { return begin + random() % (end - begin); };
    const uint64_t kind = random() % 16;
    if (kind < 4 && corpus.size() > small)
      return mutator.mutate(corpus[between(small, corpus.size())], random);
    return mutator.mutate(corpus[kind == 4 ? between(0, broken) : between(broken, small)], random);
  };

  auto *progress = static_cast<Progress *>(
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const std::vector<RegisteredPass> passes = listPasses();
  llvm::outs() << "seed " << seed << ", mutants " << first << " to " << first + count - 1 << " of " << corpus.size()
               << " modules, " << passes.size() << " passes of our own\n";
  llvm::outs().flush();
  auto report = [&](int64_t index, const std::string &what) {
    ++progress->faults;
    std::mt19937_64 random;
    std::string path = keep + "/mutant-" + std::to_string(seed) + "-" + std::to_string(index) + ".mlir";
    std::error_code error;
    llvm::raw_fd_ostream(path, error) << mutantOf(index, random);
    llvm::errs() << "mutant " << index << ": " << what << "; kept as " << path << "\n";
  };
  for (int64_t next = first; next < first + count;) {
    pid_t child = fork();
    if (child == 0) {
#if !defined(__SANITIZE_ADDRESS__)
      rlimit limit{kMemoryBytes, kMemoryBytes};
      setrlimit(RLIMIT_AS, &limit);
#endif
      rlimit none{0, 0};
      setrlimit(RLIMIT_CORE, &none);
      Runner runner(passes, progress);
      for (int64_t index = next; index < first + count; ++index) {
        progress->mutant = index;
        std::mt19937_64 random;
        runner.run(mutantOf(index, random), random, [&](const std::string &what) { report(index, what); });
      }
      _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0) {
      llvm::errs() << "mutate_modules: cannot start a child\n";
      return 2;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
      break;
    std::string how = WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF ? "hangs"
                      : WIFSIGNALED(status) ? std::string("crashes (") + strsignal(WTERMSIG(status)) + ")"
                                            : "ends with status " + std::to_string(WEXITSTATUS(status));
    report(progress->mutant, std::string(progress->step) + ": " + how);
    next = progress->mutant + 1;
  }
  llvm::outs() << count << " mutants: " << progress->parsed << " valid, " << progress->passed << " runs passed, "
               << progress->faults << " faults\n";
  return progress->faults ? 1 : 0;
}
