//===- Import.cpp - from a model file to the mili dialect -------------------===//
#include "mili/Frontends/Import.h"

#include "BuilderState.h"
#include "mili/Frontends/JsonFields.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::mili;
using ::mili::JsonFields;
using ::mili::ModelFile;
using ::mili::StatusOr;

namespace {
struct Configured {
  const Architecture *architecture = nullptr;
  DecoderConfig config;
};
}  // namespace

static ::mili::Status unknownArchitecture(const std::string &where, const std::string &name,
                                          const std::vector<std::string> &known) {
  return ::mili::unimplemented(where + ": architecture \"" + name +
                               "\" is not known; known: " + llvm::join(known, ", "));
}

static StatusOr<Configured> configureHuggingFace(const ModelFile &model) {
  JsonFields fields(model.config(), "config.json");
  const std::vector<std::string> classes = fields.strings("architectures");
  if (fields.status().ok() && classes.size() != 1)
    fields.fail("architectures", "expected one name, found " + std::to_string(classes.size()));
  MILI_RETURN_IF_ERROR(fields.status());
  Configured result;
  result.architecture = findArchitectureByClass(classes[0]);
  if (!result.architecture || !result.architecture->readHuggingFace)
    return unknownArchitecture("config.json", classes[0], knownArchitectureClasses());
  result.config = result.architecture->readHuggingFace(fields);
  fields.refuse_unread();
  MILI_RETURN_IF_ERROR(fields.status());
  return result;
}

static StatusOr<Configured> configureGguf(const ModelFile &model) {
  const std::string where = "metadata";
  JsonFields fields(model.config(), where);
  const std::string name = fields.string("general.architecture");
  MILI_RETURN_IF_ERROR(fields.status());
  Configured result;
  result.architecture = findArchitectureByGgufName(name);
  if (!result.architecture || !result.architecture->readGguf)
    return unknownArchitecture(where, name, knownGgufArchitectures());
  result.config = result.architecture->readGguf(model, fields, name + ".");
  fields.refuse_unread();
  MILI_RETURN_IF_ERROR(fields.status());
  return result;
}

/// Says the first few; a checkpoint of another shape would repeat itself for every layer.
static void report(Location loc, ArrayRef<std::string> errors) {
  constexpr size_t limit = 8;
  for (const std::string &error : errors.take_front(limit))
    emitError(loc) << error;
  if (errors.size() > limit)
    emitError(loc) << "and " << errors.size() - limit << " more errors about tensors";
}

OwningOpRef<ModuleOp> mlir::mili::importModel(const ModelFile &model, const ImportOptions &options,
                                              MLIRContext *context) {
  context->loadDialect<MiliDialect, func::FuncDialect>();
  const std::string name = model.name();
  const Location loc = NameLoc::get(StringAttr::get(context, name));

  FloatType activation;
  if (options.activationDtype == "f32")
    activation = Float32Type::get(context);
  else if (options.activationDtype == "bf16")
    activation = BFloat16Type::get(context);
  if (!activation) {
    emitError(loc) << "activation dtype: expected \"f32\" or \"bf16\", found \"" << options.activationDtype << "\"";
    return {};
  }

  StatusOr<Configured> configured =
      model.kind() == ::mili::ModelFileKind::kGguf ? configureGguf(model) : configureHuggingFace(model);
  if (!configured.ok()) {
    emitError(loc) << configured.status().message();
    return {};
  }
  const DecoderConfig &config = configured->config;
  const int64_t tokens = options.context > 0 ? options.context : config.trainedContext;
  if (tokens > config.trainedContext)
    emitWarning(loc) << "a context of " << tokens << " tokens exceeds the " << config.trainedContext
                     << " that the model was trained for";

  StatusOr<RopeTable> table = computeRope(config.rope, tokens);
  if (!table.ok()) {
    emitError(loc) << table.status().message();
    return {};
  }
  Builder attributes(context);
  // Parameters within their own ranges can still give frequencies that overflow; the attribute's verifier says so.
  const auto rope = RopeAttr::getChecked(
      [&] { return emitError(loc) << "RoPE '" << table->kind << "': "; }, context, StringRef(table->kind),
      config.adjacentPairs ? RopePairing::adjacent : RopePairing::half, attributes.getF32FloatAttr(table->amplitude),
      attributes.getDenseF32ArrayAttr(table->frequencies));
  if (!rope)
    return {};

  OwningOpRef<ModuleOp> module = ModuleOp::create(loc, name);
  ModuleOp op = *module;
  const Architecture &architecture = *configured->architecture;
  op->setAttr(MiliDialect::getFamilyAttrName(), attributes.getStringAttr(architecture.family));
  op->setAttr(MiliDialect::getModelNameAttrName(), attributes.getStringAttr(name));
  op->setAttr(MiliDialect::getContextAttrName(), attributes.getI64IntegerAttr(tokens));
  op->setAttr(MiliDialect::getTrainedContextAttrName(), attributes.getI64IntegerAttr(config.trainedContext));
  op->setAttr(MiliDialect::getVocabAttrName(), attributes.getI64IntegerAttr(config.vocab));
  op->setAttr(MiliDialect::getLayersAttrName(), attributes.getI64IntegerAttr(config.layers));

  ModelBuilder::State state(model, architecture, config, activation, rope, context);
  state.synthetic = options.syntheticWeights;
  OpBuilder &builder = state.builder;
  builder.setInsertionPointToEnd(op.getBody());
  auto tokensType = RankedTensorType::get({ShapedType::kDynamic}, builder.getI32Type());
  auto batchType = builder.getType<BatchType>();
  auto logitsType = RankedTensorType::get({ShapedType::kDynamic, config.vocab}, builder.getF32Type());
  auto function = func::FuncOp::create(builder, state.loc("forward"), "forward",
                                       builder.getFunctionType({tokensType, batchType}, logitsType));
  Block *entry =
      builder.createBlock(&function.getBody(), {}, {tokensType, batchType}, {state.loc("tokens"), state.loc("batch")});
  state.tokens = entry->getArgument(0);
  state.batch = entry->getArgument(1);

  ModelBuilder modelBuilder(state);
  architecture.build(modelBuilder);
  state.refuseUnusedTensors();
  if (!state.errors.empty()) {
    report(loc, state.errors);
    return {};
  }
  if (failed(verify(op)))
    return {};
  return module;
}
