//===- CudaPrinter.cpp -------------------------------------------------------===//
#include "mili/Codegen/CudaPrinter.h"

#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::mili;
using namespace mlir::mili::codegen;
using llvm::formatv;

bool mlir::mili::codegen::isKernelArgument(Value argument) {
  auto tensor = dyn_cast<RankedTensorType>(argument.getType());
  bool tokens =
      isa<BlockArgument>(argument) && tensor && tensor.getRank() == 1 && tensor.getElementType().isInteger(32);
  return !isa<BatchType>(argument.getType()) && !tokens;
}

Value mlir::mili::codegen::storedWeight(Value weight) {
  auto dequant = weight.getDefiningOp<DequantOp>();
  return dequant ? dequant.getStorage() : weight;
}

static std::string pointerTo(Type type, bool constant) {
  std::string element = "mili::bf16";
  if (auto tensor = dyn_cast<RankedTensorType>(type)) {
    // Vectors are packed as f32, matrices as bf16 (see WeightLayout.h).
    bool weight = tensor.hasStaticShape();
    if ((weight && tensor.getRank() == 1) || (!weight && tensor.getElementType().isF32()))
      element = "float";
    else if (tensor.getElementType().isInteger(32))
      element = "int";
  }
  return (constant ? "const " : "") + element + " *";
}

//===- Parameters and functors -----------------------------------------------===//

void KernelParameters::add(StringRef name, StringRef type) {
  parameters.push_back((type + name).str());
  types[name] = type.str();
}

KernelParameters::KernelParameters(CudaWriter &writer, const CudaKernel &kernel) {
  // What functors and loops name for themselves.
  for (StringRef name : {"batch", "g", "i", "k", "operands", "row", "feature", "token", "team", "shared", "v"})
    writer.unique(name);
  add("batch", "const mili::Batch *");
  for (BlockArgument argument : kernel.body.getArguments()) {
    if (!isKernelArgument(argument))
      continue;
    bool state = isa<KvType, RecurrentType>(argument.getType());
    std::string name = writer.name(argument, state ? "kv" : "x").str();
    inputs[argument] = name;
    add(name, pointerTo(argument.getType(), !state));
  }
  for (Value yielded : kernel.body.getTerminator()->getOperands()) {
    if (isa<KvType, RecurrentType>(yielded.getType())) {
      results.emplace_back();
      continue;
    }
    results.push_back(writer.unique("out"));
    add(results.back(), pointerTo(yielded.getType(), false));
  }
  if (kernel.get("scratch")) {
    writer.unique("scratch");
    add("scratch", "float *");
  }
  if (kernel.get("counters")) {
    writer.unique("counters");
    add("counters", "unsigned *");
  }
  for (unsigned i = 0; i < kernel.stage.getMaps().size(); ++i) {
    maps.push_back(writer.unique("map"));
    add(maps.back(), "const __grid_constant__ mili::TensorMap ");
  }
}

std::string KernelParameters::declaration() const {
  return llvm::join(parameters, ", ");
}

std::string Functor::use(StringRef parameter) {
  if (!llvm::is_contained(members, parameter.str()))
    members.push_back(parameter.str());
  return parameter.str();
}

void Functor::declareMembers() const {
  for (const std::string &member : members)
    writer.line(parameters.typeOf(member) + member + ";");
}

std::string Functor::construct() const {
  return "{" + llvm::join(members, ", ") + "}";
}

//===- Scalars ---------------------------------------------------------------===//

std::string CudaPrinter::activation(Activation function, StringRef x) {
  return ("mili::" + stringifyActivation(function) + "(" + x + ")").str();
}

std::string CudaPrinter::frequencies(RopeOp op) {
  std::string &name = tables[op.getRope().getFrequencies()];
  if (!name.empty())
    return name;
  name = writer.unique("frequencies");
  ArrayRef<float> values = op.getRope().getFrequencies().asArrayRef();
  writer.global(formatv("// Radians a position, {0} scaling.", op.getRope().getKind()));
  writer.global(formatv("static __device__ const float {0}[{1}] = {{", name, values.size()));
  for (size_t i = 0; i < values.size(); i += 8) {
    std::string text;
    for (float value : values.slice(i, std::min<size_t>(8, values.size() - i)))
      text += cudaFloat(value) + ", ";
    writer.global("    " + StringRef(text).rtrim());
  }
  writer.global("};");
  return name;
}

//===- Units of features in registers ----------------------------------------===//

static bool isInterleaved(Operation *op) {
  auto split = dyn_cast<SplitOp>(op);
  return split && split.getInterleave() != 0;
}

int64_t CudaPrinter::unitOf(Value value) {
  for (Operation *user : value.getUsers()) {
    if (isInterleaved(user))
      return 16;
    if (!isa<YieldOp>(user))
      for (Value result : user->getResults())
        if (unitOf(result) == 16)
          return 16;
  }
  return 8;
}

bool CudaPrinter::canEpilogue(Value value) {
  for (Operation *user : value.getUsers()) {
    if (isa<YieldOp>(user))
      continue;
    if (auto split = dyn_cast<SplitOp>(user)) {
      if (split.getInterleave() && split.getInterleave() != 8)
        return false;
      if (!split.getInterleave())
        for (Value piece : split.getResults())
          if (featuresOf(piece) % 8 != 0 || unitOf(piece) != 8)
            return false;
    } else if (!isa<AddOp, ScaleOp, ActivationOp, GatedOp>(user)) {
      return false;
    }
    for (Value result : user->getResults())
      if (!canEpilogue(result))
        return false;
  }
  return true;
}

LogicalResult CudaPrinter::stores(Functor &functor, Value value, const Unit &unit) {
  for (auto [i, yielded] : llvm::enumerate(kernel.body.getTerminator()->getOperands())) {
    if (yielded != value)
      continue;
    int64_t width = featuresOf(value);
    for (int64_t part = 0; part < unit.width; part += 8) {
      std::string array = unit.array, feature = unit.feature;
      if (unit.width == 16) {
        array = formatv("reinterpret_cast<const float(&)[8]>({0}[{1}])", unit.array, part);
        feature = formatv("{0} + {1}", unit.feature, part);
      }
      writer.line(formatv("mili::store_unit<{0}>({1} + row * {0}, {2}, {3});", width, functor.use(parameters.result(i)),
                          feature, array));
    }
  }
  return success();
}

LogicalResult CudaPrinter::epilogueOps(Functor &functor, DenseMap<Value, Unit> units, llvm::DenseSet<Operation *> &done,
                                       Block::iterator from) {
  auto declare = [&](Value value, int64_t width) {
    std::string name = writer.unique(writer.name(value, "y"));
    writer.line(formatv("float {0}[{1}];", name, width));
    return name;
  };
  auto loop = [&](int64_t width, const Twine &statement) {
    writer.line("#pragma unroll");
    writer.line(formatv("for (int i = 0; i < {0}; ++i)", width));
    writer.line("  " + statement);
  };
  for (Operation &op : llvm::make_range(from, kernel.body.end())) {
    if (isa<YieldOp>(op) || done.contains(&op))
      continue;
    if (llvm::none_of(op.getOperands(), [&](Value v) { return units.contains(v); }))
      continue;
    // The unit of an operand: computed here, or the same features of an activation in memory.
    auto first = llvm::find_if(op.getOperands(), [&](Value v) { return units.contains(v); });
    const Unit like = units.lookup(*first);
    auto unitOfOperand = [&](Value operand) -> Unit {
      if (auto it = units.find(operand); it != units.end())
        return it->second;
      Unit unit{declare(operand, like.width), like.feature, like.width};
      int64_t width = featuresOf(operand);
      // Outside of branches the kernel asks for operands ahead of their use.
      if (fetched && like.width == 8 && width % 8 == 0 && !elementOf(operand).isF32()) {
        std::string member = writer.unique(parameters.input(operand));
        fetched->push_back({member, formatv("mili::load16({0} + row * {1} + {2})",
                                            functor.use(parameters.input(operand)), width, like.feature)});
        writer.line(formatv("mili::unpack8(operands.{0}, {1});", member, unit.array));
        return unit;
      }
      for (int64_t part = 0; part < like.width; part += 8)
        writer.line(formatv(
            "mili::load_unit<{0}>({1}, {2} + row * {0}, {3});", width,
            like.width == 8 ? unit.array : formatv("reinterpret_cast<float(&)[8]>({0}[{1}])", unit.array, part).str(),
            functor.use(parameters.input(operand)),
            part ? formatv("{0} + {1}", like.feature, part).str() : like.feature));
      return unit;
    };
    for (Value operand : op.getOperands())
      if (!units.contains(operand) && !isa<BlockArgument>(operand))
        return op.emitError("mili-codegen: an operand is not at hand in the epilogue of this target's product");
    done.insert(&op);
    LogicalResult printed =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
            .Case<AddOp>([&](AddOp add) {
              Unit a = unitOfOperand(add.getLhs()), b = unitOfOperand(add.getRhs());
              Unit y{declare(add.getResult(), a.width), a.feature, a.width};
              loop(a.width, formatv("{0}[i] = {1}[i] + {2}[i];", y.array, a.array, b.array));
              units[add.getResult()] = y;
              return success();
            })
            .Case<ScaleOp>([&](ScaleOp scale) {
              Unit a = unitOfOperand(scale.getInput());
              Unit y{declare(scale.getResult(), a.width), a.feature, a.width};
              loop(a.width,
                   formatv("{0}[i] = {1}[i] * {2};", y.array, a.array, cudaFloat(scale.getFactor().convertToFloat())));
              units[scale.getResult()] = y;
              return success();
            })
            .Case<ActivationOp>([&](ActivationOp act) {
              Unit a = unitOfOperand(act.getInput());
              Unit y{declare(act.getResult(), a.width), a.feature, a.width};
              loop(a.width, formatv("{0}[i] = {1};", y.array, activation(act.getFunction(), a.array + "[i]")));
              units[act.getResult()] = y;
              return success();
            })
            .Case<GatedOp>([&](GatedOp gated) {
              Unit g = unitOfOperand(gated.getGate()), u = unitOfOperand(gated.getUp());
              Unit y{declare(gated.getResult(), g.width), g.feature, g.width};
              loop(g.width, formatv("{0}[i] = {1} * {2}[i];", y.array, activation(gated.getFunction(), g.array + "[i]"),
                                    u.array));
              units[gated.getResult()] = y;
              return success();
            })
            .Case<SplitOp>([&](SplitOp split) -> LogicalResult {
              if (split.getInterleave()) {
                for (auto [i, piece] : llvm::enumerate(split.getResults())) {
                  Unit y{formatv("reinterpret_cast<const float(&)[8]>({0}[{1}])", like.array, 8 * i),
                         formatv("({0}) / 2", like.feature), 8};
                  units[piece] = y;
                }
                return success();
              }
              // A unit lies in one piece; which, its feature says.
              int64_t begin = 0;
              for (auto [i, piece] : llvm::enumerate(split.getResults())) {
                int64_t end = begin + featuresOf(piece);
                bool last = i + 1 == split.getNumResults();
                writer.open(last ? Twine("else") : formatv("{0}if ({1} < {2})", i ? "else " : "", like.feature, end));
                DenseMap<Value, Unit> inside = units;
                Unit y{like.array, begin ? formatv("{0} - {1}", like.feature, begin).str() : like.feature, like.width};
                inside[piece] = y;
                if (failed(stores(functor, piece, y)))
                  return failure();
                llvm::DenseSet<Operation *> doneInside = done;
                Fetches *outside = std::exchange(fetched, nullptr);
                if (failed(epilogueOps(functor, inside, doneInside, std::next(op.getIterator()))))
                  return failure();
                fetched = outside;
                writer.close();
                begin = end;
              }
              return success();
            })
            .Default([](Operation *other) {
              return other->emitError("mili-codegen: the CUDA printer does not know this op in an epilogue");
            });
    if (failed(printed))
      return failure();
    if (isInterleaved(&op) || !isa<SplitOp>(op))
      for (Value result : op.getResults())
        if (auto it = units.find(result); it != units.end() && failed(stores(functor, result, it->second)))
          return failure();
  }
  return success();
}

FailureOr<std::string> CudaPrinter::epilogue(Value value, int64_t unit) {
  Functor functor(writer, parameters);
  std::string name = writer.unique("Epilogue"), array = writer.unique("sum");
  writer.line("// What follows the product, on consecutive features of a row.");
  writer.open("struct " + name);
  writer.line(formatv("static constexpr int kUnit = {0};", unit));
  Fetches fetches;
  fetched = &fetches;
  writer.line("struct Operands;");
  writer.open(
      formatv("MILI_MEMBER void operator()(const float (&{0})[{1}], const Operands &operands, mili::int64_t row, "
              "int feature) const",
              array, unit));
  DenseMap<Value, Unit> units;
  Unit start{array, "feature", unit};
  // A product adds its bias before anything else.
  if (auto linear = value.getDefiningOp<LinearOp>())
    if (Value bias = linear.getBias()) {
      std::string biased = writer.unique("biased");
      writer.line(formatv("float {0}[{1}];", biased, unit));
      for (int64_t part = 0; part < unit; part += 8)
        writer.line(formatv("mili::load_unit<{0}>(reinterpret_cast<float(&)[8]>({1}[{2}]), {3}, feature + {2});",
                            featuresOf(value), biased, part, functor.use(parameters.input(bias))));
      writer.line("#pragma unroll");
      writer.line(formatv("for (int i = 0; i < {0}; ++i)", unit));
      writer.line(formatv("  {0}[i] += {1}[i];", biased, array));
      start.array = biased;
    }
  units[value] = start;
  if (failed(stores(functor, value, start)))
    return failure();
  llvm::DenseSet<Operation *> done;
  if (failed(epilogueOps(functor, units, done, std::next(value.getDefiningOp()->getIterator()))))
    return failure();
  writer.close();
  fetched = nullptr;
  writer.line("// What it reads, asked for ahead.");
  writer.open("struct Operands");
  for (auto &[member, load] : fetches)
    writer.line("mili::Vector16 " + member + ";");
  writer.close(";");
  writer.open("MILI_MEMBER void fetch(Operands &operands, mili::int64_t row, int feature) const");
  for (auto &[member, load] : fetches)
    writer.line("operands." + member + " = " + load + ";");
  writer.close();
  functor.declareMembers();
  writer.close(";");
  writer.blank();
  return name + functor.construct();
}

//===- Eight elements of a product's input -----------------------------------===//

/// Element-wise ops between the arguments and an input.
static bool canLoad(Value value) {
  if (isa<BlockArgument>(value))
    return true;
  Operation *op = value.getDefiningOp();
  return isa<AddOp, ScaleOp, ActivationOp, GatedOp>(op) && llvm::all_of(op->getOperands(), canLoad);
}

bool CudaPrinter::canInput(Value operand) {
  if (auto norm = operand.getDefiningOp<RmsNormOp>())
    return featuresOf(norm.getWeight()) == featuresOf(norm.getInput()) && isa<BlockArgument>(norm.getWeight()) &&
           canLoad(norm.getInput());
  return canLoad(operand);
}

FailureOr<std::string> CudaPrinter::input(Value operand) {
  Functor functor(writer, parameters);
  std::string name = writer.unique("Input");
  auto norm = operand.getDefiningOp<RmsNormOp>();
  Value source = norm ? norm.getInput() : operand;
  int64_t width = featuresOf(source);
  writer.line("// What the product reads, eight elements of a row.");
  writer.open("struct " + name);
  writer.line(formatv("static constexpr bool kNorm = {0};", norm ? "true" : "false"));
  writer.line(formatv("static constexpr float kEps = {0};", cudaFloat(norm ? norm.getEps().convertToFloat() : 0.0f)));
  writer.open("MILI_MEMBER void load(float (&v)[8], mili::int64_t row, int k) const");
  unsigned temporaries = 0;
  std::function<LogicalResult(Value, std::string)> load = [&](Value value, std::string to) -> LogicalResult {
    if (isa<BlockArgument>(value)) {
      writer.line(formatv("mili::load8({0}, {1} + row * {2} + k);", to, functor.use(parameters.input(value)), width));
      return success();
    }
    Operation *op = value.getDefiningOp();
    if (failed(load(op->getOperand(0), to)))
      return failure();
    std::string other;
    if (op->getNumOperands() == 2) {
      other = "t" + std::to_string(temporaries++);
      writer.line("float " + other + "[8];");
      if (failed(load(op->getOperand(1), other)))
        return failure();
    }
    std::string expression;
    if (isa<AddOp>(op))
      expression = to + "[i] + " + other + "[i]";
    else if (auto scale = dyn_cast<ScaleOp>(op))
      expression = to + "[i] * " + cudaFloat(scale.getFactor().convertToFloat());
    else if (auto act = dyn_cast<ActivationOp>(op))
      expression = activation(act.getFunction(), to + "[i]");
    else if (auto gated = dyn_cast<GatedOp>(op))
      expression = activation(gated.getFunction(), to + "[i]") + " * " + other + "[i]";
    else
      return op->emitError("mili-codegen: the CUDA printer does not know this op in the input of a product");
    writer.line("#pragma unroll");
    writer.line("for (int i = 0; i < 8; ++i)");
    writer.line("  " + to + "[i] = " + expression + ";");
    return success();
  };
  if (failed(load(source, "v")))
    return failure();
  writer.close();
  writer.open("MILI_MEMBER void gain(float (&v)[8], int k) const");
  if (norm) {
    writer.line("float g[8];");
    writer.line(formatv("mili::load8(g, {0} + k);", functor.use(parameters.input(norm.getWeight()))));
    writer.line("#pragma unroll");
    writer.line("for (int i = 0; i < 8; ++i)");
    writer.line("  v[i] *= g[i];");
  }
  writer.close();
  functor.declareMembers();
  writer.close(";");
  writer.blank();
  return name + functor.construct();
}

//===- Rows in shared memory -------------------------------------------------===//

namespace {
/// Where each value of a row program lies, in floats from the beginning of the shared memory.
struct RowLayout {
  DenseMap<Value, int64_t> offset;
  int64_t table = 32, total = 0;  // after a float of each warp: a rope's sines and cosines

  explicit RowLayout(Block &body) {
    int64_t pairs = 0;
    for (auto rope : body.getOps<RopeOp>())
      pairs = std::max<int64_t>(pairs, rope.getRope().getFrequencies().size());
    total = table + llvm::alignTo(2 * pairs, 4);
    auto fresh = [&](Value value) {
      offset[value] = total;
      total += llvm::alignTo(featuresOf(value), 4);
    };
    for (BlockArgument argument : body.getArguments())
      if (auto type = dyn_cast<RankedTensorType>(argument.getType()))
        if (!type.hasStaticShape() && type.getRank() == 2)
          fresh(argument);
    for (Operation &op : body.without_terminator()) {
      auto split = dyn_cast<SplitOp>(op);
      if (split && !split.getInterleave()) {
        int64_t at = offset.lookup(split.getInput());
        for (Value piece : split.getResults()) {
          offset[piece] = at;
          at += featuresOf(piece);
        }
        continue;
      }
      for (Value result : op.getResults()) {
        if (!isa<RankedTensorType>(result.getType()))
          continue;
        // In place of an operand that nothing else reads.
        Value over;
        for (Value operand : op.getOperands())
          if (!split && !over && offset.contains(operand) && operand.hasOneUse() &&
              featuresOf(operand) == featuresOf(result))
            over = operand;
        if (over)
          offset[result] = offset.lookup(over);
        else
          fresh(result);
      }
    }
  }
};
}  // namespace

int64_t CudaPrinter::rowBuffers(Block &body) {
  return RowLayout(body).total * 4;
}

LogicalResult CudaPrinter::rows() {
  Block &body = kernel.body;
  RowLayout layout(body);
  DenseMap<Value, std::string> buffers;
  auto buffer = [&](Value value) {
    std::string &name = buffers[value];
    if (name.empty()) {
      name = writer.unique(writer.name(value, "v").str() + "_row");
      writer.line(formatv("float *{0} = shared + {1};", name, layout.offset.lookup(value)));
    }
    return name;
  };
  auto source = [&](Value value) {
    bool loaded = buffers.contains(value);
    std::string name = buffer(value);
    if (isa<BlockArgument>(value) && !loaded)
      writer.line(formatv("mili::load_row<{0}>(team, {1}, {2} + row * {0});", featuresOf(value), name,
                          parameters.input(value)));
    return name;
  };
  for (Operation &op : body.without_terminator()) {
    LogicalResult printed =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
            .Case<DequantOp>([](DequantOp) { return success(); })
            .Case<EmbeddingOp>([&](EmbeddingOp embedding) {
              std::string to = buffer(embedding.getResult());
              writer.line(formatv("mili::load_row<{0}>(team, {1}, {2} + mili::int64_t(batch->token_ids[token]) * {0});",
                                  featuresOf(embedding.getResult()), to,
                                  parameters.input(storedWeight(embedding.getTable()))));
              return success();
            })
            .Case<RmsNormOp>([&](RmsNormOp norm) {
              std::string from = source(norm.getInput()), to = buffer(norm.getResult());
              writer.line(formatv("mili::rms_norm<{0}, {1}>(team, {2}, {3}, {4}, {5});", featuresOf(norm.getResult()),
                                  featuresOf(norm.getWeight()), to, from, parameters.input(norm.getWeight()),
                                  cudaFloat(norm.getEps().convertToFloat())));
              return success();
            })
            .Case<RopeOp>([&](RopeOp rope) {
              std::string from = source(rope.getInput()), to = buffer(rope.getResult());
              auto heads = static_cast<int64_t>(rope.getHeads());
              writer.line(formatv(
                  "mili::rope<{0}, {1}, {2}, {3}>(team, {4}, {5}, shared + {6}, {7}, {8}, batch->positions[token]);",
                  heads, featuresOf(rope.getResult()) / heads, rope.getRope().getFrequencies().size(),
                  rope.getRope().getPairing() == RopePairing::adjacent ? "true" : "false", to, from, layout.table,
                  frequencies(rope), cudaFloat(rope.getRope().getAmplitude().getValue().convertToFloat())));
              return success();
            })
            .Case<KvAppendOp>([&](KvAppendOp append) {
              KvType kv = append.getKv().getType();
              Value state = append.getKv();
              while (auto before = state.getDefiningOp<KvAppendOp>())
                state = before.getKv();
              std::string key = source(append.getKey()), value = source(append.getValue());
              for (bool isValue : {false, true})
                writer.line(formatv("mili::append_row<{0}, {1}, {2}, {3}, {4}>(team, batch, {5}, token, {6});",
                                    pageTableOf(append, kv).index, kv.getHeads(), kv.getK(), kv.getV(),
                                    isValue ? "true" : "false", parameters.input(state), isValue ? value : key));
              return success();
            })
            .Case<AddOp>([&](AddOp add) {
              std::string a = source(add.getLhs()), b = source(add.getRhs()), to = buffer(add.getResult());
              writer.line(formatv("mili::map_row<{0}>(team, {1}, [&](int i) {{ return {2}[i] + {3}[i]; });",
                                  featuresOf(add.getResult()), to, a, b));
              return success();
            })
            .Case<ScaleOp>([&](ScaleOp scale) {
              std::string a = source(scale.getInput()), to = buffer(scale.getResult());
              writer.line(formatv("mili::map_row<{0}>(team, {1}, [&](int i) {{ return {2}[i] * {3}; });",
                                  featuresOf(scale.getResult()), to, a, cudaFloat(scale.getFactor().convertToFloat())));
              return success();
            })
            .Case<ActivationOp>([&](ActivationOp act) {
              std::string a = source(act.getInput()), to = buffer(act.getResult());
              writer.line(formatv("mili::map_row<{0}>(team, {1}, [&](int i) {{ return {2}; });",
                                  featuresOf(act.getResult()), to, activation(act.getFunction(), a + "[i]")));
              return success();
            })
            .Case<GatedOp>([&](GatedOp gated) {
              std::string g = source(gated.getGate()), u = source(gated.getUp()), to = buffer(gated.getResult());
              writer.line(formatv("mili::map_row<{0}>(team, {1}, [&](int i) {{ return {2} * {3}[i]; });",
                                  featuresOf(gated.getResult()), to, activation(gated.getFunction(), g + "[i]"), u));
              return success();
            })
            .Case<SplitOp>([&](SplitOp split) {
              std::string from = source(split.getInput());
              for (auto [i, piece] : llvm::enumerate(split.getResults())) {
                std::string to = buffer(piece);
                if (int64_t run = split.getInterleave())
                  writer.line(
                      formatv("mili::map_row<{0}>(team, {1}, [&](int i) {{ return {2}[i / {3} * {4} + {5} + i % "
                              "{3}]; });",
                              featuresOf(piece), to, from, run, 2 * run, i * run));
              }
              return success();
            })
            .Default([](Operation *other) {
              return other->emitError("mili-codegen: the CUDA printer does not know this op in a row kernel");
            });
    if (failed(printed))
      return failure();
    for (Value result : op.getResults())
      for (auto [i, yielded] : llvm::enumerate(body.getTerminator()->getOperands()))
        if (yielded == result && !isa<KvType, RecurrentType>(result.getType()))
          writer.line(formatv("mili::store_row<{0}>(team, {1} + row * {0}, {2});", featuresOf(result),
                              parameters.result(i), buffer(result)));
  }
  return success();
}

//===- One head by a warp ----------------------------------------------------===//

bool CudaPrinter::canHeadRow(Value operand) {
  if (isa<BlockArgument>(operand))
    return true;
  Operation *op = operand.getDefiningOp();
  return isa<RmsNormOp, RopeOp, ScaleOp>(op) && canHeadRow(op->getOperand(0));
}

LogicalResult CudaPrinter::headRow(Functor &functor, Value operand) {
  SmallVector<Operation *> chain;
  Value source = operand;
  while (Operation *op = source.getDefiningOp()) {
    chain.push_back(op);
    source = op->getOperand(0);
  }
  int64_t width = featuresOf(source);
  writer.line("const mili::WarpTeam team;");
  writer.line(formatv("mili::load_row<kHead>(team, row, {0} + mili::int64_t(token) * {1} + head * kHead);",
                      functor.use(parameters.input(source)), width));
  for (Operation *op : llvm::reverse(chain)) {
    if (auto norm = dyn_cast<RmsNormOp>(op)) {
      writer.line(formatv("mili::rms_norm<kHead, kHead>(team, row, row, {0}, {1});",
                          functor.use(parameters.input(norm.getWeight())), cudaFloat(norm.getEps().convertToFloat())));
    } else if (auto rope = dyn_cast<RopeOp>(op)) {
      writer.line(formatv("mili::rope_head<kHead, {0}, {1}>(team, row, {2}, {3}, {4}->positions[token]);",
                          rope.getRope().getFrequencies().size(),
                          rope.getRope().getPairing() == RopePairing::adjacent ? "true" : "false", frequencies(rope),
                          cudaFloat(rope.getRope().getAmplitude().getValue().convertToFloat()), functor.use("batch")));
    } else if (auto scale = dyn_cast<ScaleOp>(op)) {
      writer.line(formatv("mili::map_row<kHead>(team, row, [&](int i) {{ return row[i] * {0}; });",
                          cudaFloat(scale.getFactor().convertToFloat())));
    } else {
      return op->emitError("mili-codegen: the CUDA printer does not know this op on a head");
    }
  }
  return success();
}
