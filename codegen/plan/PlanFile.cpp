//===- PlanFile.cpp - one op, one record -------------------------------------===//
#include "mili/Codegen/PlanFile.h"

#include "WeightPacker.h"
#include "mili/Codegen/KernelTemplate.h"
#include "mili/Codegen/WeightLayout.h"
#include "mili/IR/MiliPlan.h"
#include "mili/runtime/hash.h"
#include "mili/runtime/plan.h"
#include "mili/schema/cuda_generated.h"
#include "mili/schema/plan_generated.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <nlohmann/json.hpp>

using namespace mlir;
using namespace mlir::mili;

namespace fbs = ::mili::plan;
using ::mili::Status;
using ::mili::StatusOr;
using nlohmann::json;

namespace {

fbs::Dtype dtypeOf(Type type) {
  if (type.isBF16())
    return fbs::Dtype::BF16;
  return type.isF16() ? fbs::Dtype::F16 : fbs::Dtype::F32;
}

std::string formatOf(Type element) {
  if (auto block = dyn_cast<BlockType>(element))
    return stringifyBlockFormat(block.getFormat()).str();
  if (element.isBF16())
    return "bf16";
  return element.isF16() ? "f16" : "f32";
}

/// How META names what a layout made of a weight.
std::string packedFormat(RankedTensorType type, StringRef layout) {
  return layout == "rows_bf16" ? "bf16" : layout == "vector_f32" ? "f32" : formatOf(type.getElementType());
}
std::string packedLayout(StringRef layout) {
  return layout == "rows_bf16" || layout == "vector_f32" ? "row_major" : layout.str();
}

int64_t attributeOr(ModuleOp module, StringRef name, int64_t otherwise) {
  auto attr = module->getAttrOfType<IntegerAttr>(name);
  return attr ? attr.getInt() : otherwise;
}
std::string textOr(ModuleOp module, StringRef name, StringRef otherwise) {
  auto attr = module->getAttrOfType<StringAttr>(name);
  return (attr ? attr.getValue() : otherwise).str();
}

/// Builds META.
class PlanRecords {
public:
  PlanRecords(ModuleOp module, const ::mili::ModelFile &model) : module(module), model(model) {}

  StatusOr<std::vector<::mili::WeightRecipe>> layOutWeights();
  void build(const codegen::PlanTarget &target, ArrayRef<uint32_t> sections);
  std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte *>(builder.GetBufferPointer()), builder.GetSize()};
  }
  uint64_t weightBytes() const { return end; }
  ArrayRef<uint64_t> offsets() const { return weightOffsets; }

private:
  flatbuffers::Offset<fbs::Generation> buildGeneration();
  fbs::Arg buildArg(Attribute arg);

  ModuleOp module;
  const ::mili::ModelFile &model;
  flatbuffers::FlatBufferBuilder builder;
  SmallVector<uint64_t> weightOffsets, weightSizes;
  uint64_t end = 0, parameters = 0;
  llvm::StringMap<uint32_t> weightIndex, stateIndex, kernelIndex;
};

StatusOr<std::vector<::mili::WeightRecipe>> PlanRecords::layOutWeights() {
  std::vector<::mili::WeightRecipe> recipes;
  for (auto weight : module.getOps<plan::WeightOp>()) {
    auto type = cast<RankedTensorType>(weight.getType());
    ::mili::WeightRecipe recipe;
    for (PieceAttr piece : weight.getParam().getPieces())
      recipe.pieces.push_back({piece.getName().str(), piece.getBegin(), piece.getEnd()});
    recipe.interleave = weight.getParam().getInterleave();
    MILI_ASSIGN_OR_RETURN(recipe.format, ::mili::tensor_format_from_name(formatOf(type.getElementType())));
    recipe.rows = type.getRank() == 1 ? 1 : type.getShape()[0];
    recipe.columns = type.getShape().back();
    recipe.packing = llvm::StringSwitch<::mili::Packing>(weight.getLayout())
                         .Case("panel16", ::mili::Packing::kPanels)
                         .Case("rows_bf16", ::mili::Packing::kRowsBf16)
                         .Case("vector_f32", ::mili::Packing::kVectorF32)
                         .Default(::mili::Packing::kRowMajor);
    end = llvm::alignTo(end, ::mili::kWeightAlign);
    weightIndex[weight.getSymName()] = static_cast<uint32_t>(recipes.size());
    weightOffsets.push_back(end);
    weightSizes.push_back(codegen::packedBytes(type, weight.getLayout()));
    end += weightSizes.back();
    parameters += type.getNumElements();
    recipes.push_back(std::move(recipe));
  }
  return recipes;
}

fbs::Arg PlanRecords::buildArg(Attribute arg) {
  auto access = [](plan::Access a) {
    return a == plan::Access::read    ? fbs::Access::Read
           : a == plan::Access::write ? fbs::Access::Write
                                      : fbs::Access::ReadWrite;
  };
  if (auto arena = dyn_cast<plan::ArenaAttr>(arg))
    return {fbs::ArgKind::Arena, access(arena.getAccess()), 0, static_cast<uint64_t>(arena.getOffset()),
            static_cast<uint64_t>(arena.getSize())};
  if (auto weight = dyn_cast<plan::WeightRefAttr>(arg)) {
    uint32_t index = weightIndex.lookup(weight.getWeight().getValue());
    return {fbs::ArgKind::Weight, fbs::Access::Read, index, 0, weightSizes[index]};
  }
  if (auto counters = dyn_cast<plan::CountersAttr>(arg))
    return {fbs::ArgKind::Counters, fbs::Access::ReadWrite, 0, 0, static_cast<uint64_t>(counters.getSize())};
  auto state = cast<plan::StateRefAttr>(arg);
  uint32_t index = stateIndex.lookup(state.getState().getValue());
  auto memory = module->getAttrOfType<DictionaryAttr>(plan::MiliPlanDialect::getMemoryAttrName());
  auto type = cast<StateOp>(SymbolTable::lookupNearestSymbolFrom(module, state.getState())).getType();
  uint64_t size = 0;
  if (auto kv = dyn_cast<KvType>(type))
    size = kv.getPageBytes() * codegen::pageTableOf(module, kv).pages;
  else
    size = cast<RecurrentType>(type).getSlotBytes() * (cast<IntegerAttr>(memory.get("requests")).getInt() + 1);
  return {fbs::ArgKind::State, access(state.getAccess()), index, 0, size};
}

/// Numbers of a JSON object that may be missing or of another type.
template <typename T>
T numberOr(const json &object, const char *name, T otherwise) {
  auto it = object.find(name);
  return it != object.end() && it->is_number() ? it->get<T>() : otherwise;
}

flatbuffers::Offset<fbs::Generation> PlanRecords::buildGeneration() {
  const json &generation = model.generation_config(), &config = model.config();
  std::vector<int32_t> eos;
  auto addEos = [&](const json &object, const char *name) {
    auto it = object.find(name);
    if (it == object.end())
      return;
    for (const json &id : it->is_array() ? *it : json::array({*it}))
      if (id.is_number_integer() && !llvm::is_contained(eos, id.get<int32_t>()))
        eos.push_back(id.get<int32_t>());
  };
  addEos(generation, "eos_token_id");
  int32_t bos = -1;
  if (model.kind() == ::mili::ModelFileKind::kGguf) {
    bos = numberOr(config, "tokenizer.ggml.bos_token_id", -1);
  } else {
    if (eos.empty())
      addEos(config, "eos_token_id");
    bos = numberOr(generation, "bos_token_id", numberOr(config, "bos_token_id", -1));
  }
  auto sampled = generation.find("do_sample");
  bool sample = sampled != generation.end() && sampled->is_boolean() && sampled->get<bool>();
  return fbs::CreateGeneration(
      builder, builder.CreateVector(eos), bos, sample ? numberOr(generation, "temperature", 1.0f) : 0.0f,
      sample ? numberOr(generation, "top_k", 50) : 0, sample ? numberOr(generation, "top_p", 1.0f) : 1.0f,
      sample ? numberOr(generation, "min_p", 0.0f) : 0.0f, numberOr(generation, "repetition_penalty", 1.0f));
}

void PlanRecords::build(const codegen::PlanTarget &target, ArrayRef<uint32_t> sections) {
  std::vector<flatbuffers::Offset<fbs::Weight>> weights;
  for (auto [i, weight] : llvm::enumerate(module.getOps<plan::WeightOp>())) {
    auto type = cast<RankedTensorType>(weight.getType());
    std::vector<uint64_t> shape(type.getShape().begin(), type.getShape().end());
    weights.push_back(fbs::CreateWeightDirect(builder, weight.getParam().getDisplayName().c_str(), 0, weightOffsets[i],
                                              weightSizes[i], &shape, packedFormat(type, weight.getLayout()).c_str(),
                                              packedLayout(weight.getLayout()).c_str()));
  }

  std::vector<flatbuffers::Offset<fbs::State>> states;
  fbs::Dtype activation = fbs::Dtype::F32;
  for (auto state : module.getOps<StateOp>()) {
    stateIndex[state.getSymName()] = static_cast<uint32_t>(states.size());
    std::string name = state.getSymName().str();
    if (auto kv = dyn_cast<KvType>(state.getType())) {
      activation = dtypeOf(kv.getElementType());
      states.push_back(fbs::CreateStateDirect(builder, name.c_str(), fbs::StateKind::PagedKv, kv.getHeads(), kv.getK(),
                                              kv.getV(), activation, kv.getWindow(), kv.getPageBytes(), 0));
    } else {
      auto recurrent = cast<RecurrentType>(state.getType());
      states.push_back(fbs::CreateStateDirect(builder, name.c_str(), fbs::StateKind::Recurrent, 0, 0, 0,
                                              dtypeOf(recurrent.getElementType()), 0, 0, recurrent.getSlotBytes()));
    }
  }

  // A kernel of several stages is as many symbols.
  std::vector<flatbuffers::Offset<fbs::Kernel>> kernels;
  SmallVector<StageAttr> stageOf;
  for (auto kernel : module.getOps<plan::KernelOp>()) {
    kernelIndex[kernel.getSymName()] = static_cast<uint32_t>(kernels.size());
    auto stages = llvm::to_vector(kernel.getStages().getAsRange<StageAttr>());
    std::string ir;
    llvm::raw_string_ostream os(ir);
    kernel->print(os, OpPrintingFlags().enableDebugInfo(false));
    for (auto [i, stage] : llvm::enumerate(stages)) {
      std::string symbol = kernel.getSymName().str();
      if (target.cuda)
        symbol = target.cuda->symbols.at(symbol)[i];
      else if (stages.size() > 1)
        symbol += "." + stage.getName().str();
      std::vector<fbs::CudaLaunch> cuda;
      for (CudaLaunchAttr launch : stage.getCuda())
        cuda.emplace_back(launch.getArch(), launch.getThreads(), launch.getShared(), launch.getBlocksPerSm());
      kernels.push_back(fbs::CreateKernelDirect(builder, symbol.c_str(), stage.getScratch(), ir.c_str(),
                                                cuda.empty() ? nullptr : &cuda));
      stageOf.push_back(stage);
    }
  }

  std::vector<flatbuffers::Offset<fbs::Bucket>> buckets;
  for (auto bucket : module.getOps<plan::BucketOp>()) {
    std::vector<flatbuffers::Offset<fbs::Launch>> launches;
    for (auto launch : bucket.getBody().front().getOps<plan::LaunchOp>()) {
      uint32_t kernel = kernelIndex.lookup(launch.getKernel()) + launch.getStage();
      StageAttr stage = stageOf[kernel];
      std::vector<fbs::Arg> args;
      for (Attribute arg : launch.getArgs())
        args.push_back(buildArg(arg));
      std::vector<fbs::TensorMap> maps;
      for (TensorMapAttr map : stage.getMaps())
        maps.emplace_back(map.getArg(), map.getBoxRows(), 64, map.getRows(), map.getColumns());
      std::optional<fbs::Work> work;
      if (plan::WorkAttr w = launch.getWorkAttr())
        work.emplace(static_cast<fbs::RowCount>(w.getPer()), w.getBytesFixed(), w.getBytesRow(), w.getBytesKey(),
                     w.getFlopsRow(), w.getFlopsPair(), w.getVisibleBase(), w.getVisibleEvery());
      launches.push_back(fbs::CreateLaunchDirect(builder, launch.getName().str().c_str(), kernel, &args,
                                                 stage.getTiles(), static_cast<fbs::RowCount>(stage.getPer()),
                                                 stage.getRowsPerTile(), maps.empty() ? nullptr : &maps,
                                                 work ? &*work : nullptr));
    }
    BucketAttr bounds = bucket.getBucket();
    buckets.push_back(fbs::CreateBucketDirect(
        builder, bucket.getSymName().str().c_str(), bounds.getTokens(), bounds.getSequences(), bounds.getLogitRows(),
        bucket.getArena(), bucket.getLogits(), bucket.getSampled() ? static_cast<int64_t>(*bucket.getSampled()) : -1,
        &launches, bucket.getLowerBound(), bucket.getNaive()));
  }
  std::vector<flatbuffers::Offset<fbs::Function>> functions = {fbs::CreateFunctionDirect(builder, "forward", &buckets)};
  std::vector<flatbuffers::Offset<fbs::Rank>> ranks = {fbs::CreateRankDirect(builder, &functions)};

  std::vector<flatbuffers::Offset<fbs::Variant>> variantRecords;
  for (auto [variant, section] : llvm::zip(target.variants, sections)) {
    std::vector<flatbuffers::Offset<flatbuffers::String>> features;
    features.reserve(variant.features.size());
    for (const std::string &feature : variant.features)
      features.push_back(builder.CreateString(feature));
    variantRecords.push_back(fbs::CreateVariantDirect(builder, variant.name.c_str(), &features, section));
  }
  auto targetRecord = fbs::CreateTargetDirect(builder, target.cuda ? "cuda" : "cpu", &variantRecords);
  auto modelRecord = fbs::CreateModelDirect(
      builder, textOr(module, MiliDialect::getModelNameAttrName(), "model").c_str(),
      textOr(module, MiliDialect::getFamilyAttrName(), "unknown").c_str(),
      attributeOr(module, MiliDialect::getVocabAttrName(), 0), attributeOr(module, MiliDialect::getLayersAttrName(), 0),
      parameters, attributeOr(module, MiliDialect::getTrainedContextAttrName(), 0));
  auto memory = module->getAttrOfType<DictionaryAttr>(plan::MiliPlanDialect::getMemoryAttrName());
  auto figure = [&](StringRef name) { return static_cast<uint64_t>(cast<IntegerAttr>(memory.get(name)).getInt()); };
  auto memoryRecord = fbs::CreateMemory(builder, figure("weights"), figure("arena"), figure("kv"), figure("tables"),
                                        figure("worker_scratch"), figure("counters"));
  auto generation = buildGeneration();
  flatbuffers::Offset<fbs::SyntheticWeights> synthetic;
  if (target.syntheticSeed)
    synthetic = fbs::CreateSyntheticWeights(builder, *target.syntheticSeed);
  auto planRecord =
      fbs::CreatePlan(builder, builder.CreateString("mili " MILI_VERSION), modelRecord, targetRecord, activation,
                      figure("requests"), figure("context"), figure("kv_pages"), builder.CreateVector(weights),
                      builder.CreateVector(states), builder.CreateVector(kernels), builder.CreateVector(ranks),
                      generation, memoryRecord, synthetic, module->hasAttr(MiliDialect::getDeterministicAttrName()));
  fbs::FinishPlanBuffer(builder, planRecord);
}

}  // namespace

/// The CUDA_SOURCE section.
static std::string packSources(const codegen::CudaProgram &program) {
  flatbuffers::FlatBufferBuilder builder;
  auto files = [&](const std::vector<codegen::CudaFile> &list) {
    std::vector<flatbuffers::Offset<fbs::SourceFile>> records;
    records.reserve(list.size());
    for (const codegen::CudaFile &file : list)
      records.push_back(fbs::CreateSourceFileDirect(builder, file.name.c_str(), file.text.c_str()));
    return builder.CreateVector(records);
  };
  auto headers = files(program.headers), units = files(program.units);
  builder.Finish(fbs::CreateCudaSources(builder, headers, units));
  return {reinterpret_cast<const char *>(builder.GetBufferPointer()), builder.GetSize()};
}

/// A CUBINS section.
static std::string packCubins(const codegen::CudaCubins &cubins, uint64_t sourceHash) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::Cubin>> records;
  for (const codegen::CudaImage &image : cubins.images) {
    auto bytes = builder.CreateVector(reinterpret_cast<const uint8_t *>(image.bytes.data()), image.bytes.size());
    auto name = builder.CreateString(image.unit);
    const fbs::KernelResources resources(image.registers, image.spilled, image.stack, image.shared);
    records.push_back(fbs::CreateCubin(builder, name, bytes, &resources));
  }
  builder.Finish(fbs::CreateCubinsDirect(builder, cubins.arch.c_str(), cubins.nvrtc.c_str(), sourceHash, &records));
  return {reinterpret_cast<const char *>(builder.GetBufferPointer()), builder.GetSize()};
}

Status mlir::mili::codegen::writePlan(ModuleOp module, const PlanTarget &target, const ::mili::ModelFile &model,
                                      const std::string &path, const PackProgress &progress) {
  if (!module->hasAttr(plan::MiliPlanDialect::getMemoryAttrName()))
    return ::mili::failed_precondition("the module has no memory plan; run mili-memory-plan first");
  PlanRecords records(module, model);
  MILI_ASSIGN_OR_RETURN(std::vector<::mili::WeightRecipe> recipes, records.layOutWeights());
  MILI_ASSIGN_OR_RETURN(::mili::PlanWriter writer, ::mili::PlanWriter::create(path));
  SmallVector<uint32_t> sections;
  for (const CompiledVariant &variant : target.variants) {
    MILI_ASSIGN_OR_RETURN(uint32_t section, writer.add_section(::mili::SectionKind::kHostObject,
                                                               std::as_bytes(std::span(variant.bytes))));
    sections.push_back(section);
  }
  if (target.cuda) {
    std::string sources = packSources(*target.cuda);
    std::span<const std::byte> bytes = std::as_bytes(std::span(sources));
    MILI_RETURN_IF_ERROR(writer.add_section(::mili::SectionKind::kCudaSource, bytes).status());
    ::mili::RunningHash hash;
    hash.update(bytes);
    for (const CudaCubins &cubins : target.cubins)
      MILI_RETURN_IF_ERROR(writer
                               .add_section(::mili::SectionKind::kCubins,
                                            std::as_bytes(std::span<const char>(packCubins(cubins, hash.digest()))))
                               .status());
  }
  records.build(target, sections);
  MILI_RETURN_IF_ERROR(writer.add_section(::mili::SectionKind::kMeta, records.bytes()).status());
  StatusOr<std::vector<uint8_t>> tokenizer = model.tokenizer();
  if (tokenizer.ok())
    MILI_RETURN_IF_ERROR(
        writer.add_section(::mili::SectionKind::kTokenizer, std::as_bytes(std::span(*tokenizer))).status());
  else if (tokenizer.status().code() != ::mili::StatusCode::kNotFound)
    return tokenizer.status();

  MILI_RETURN_IF_ERROR(writer.begin_weights());
  if (target.syntheticSeed)
    return writer.finish();
  uint64_t done = 0;
  for (auto [recipe, offset] : llvm::zip(recipes, records.offsets())) {
    MILI_RETURN_IF_ERROR(writer.pad_weights_to(offset));
    MILI_RETURN_IF_ERROR(::mili::packWeight(model, recipe, writer, [&](uint64_t bytes) {
      done += bytes;
      if (progress)
        progress(std::min(done, records.weightBytes()), records.weightBytes(), recipe.pieces.front().tensor);
    }));
  }
  if (writer.weights_size() != records.weightBytes())
    return ::mili::internal_error("packing wrote " + std::to_string(writer.weights_size()) +
                                  " bytes of weights, the plan states " + std::to_string(records.weightBytes()));
  return writer.finish();
}
