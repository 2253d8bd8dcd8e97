//===- ModelBuilder.cpp - tensors by role, ops, blocks ----------------------===//
#include "BuilderState.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"

using namespace mlir;
using namespace mlir::mili;
using ::mili::TensorInfo;

//===- Tensors ---------------------------------------------------------------===//

/// The parts that decoders share. A family's own roles come before these.
static constexpr TensorRole commonRoles[] = {
    {"attn.norm", "input_layernorm", "attn_norm"},
    {"attn.q", "self_attn.q_proj", "attn_q"},
    {"attn.k", "self_attn.k_proj", "attn_k"},
    {"attn.v", "self_attn.v_proj", "attn_v"},
    {"attn.qkv", "self_attn.qkv_proj", "attn_qkv"},
    {"attn.q_norm", "self_attn.q_norm", "attn_q_norm"},
    {"attn.k_norm", "self_attn.k_norm", "attn_k_norm"},
    {"attn.out", "self_attn.o_proj", "attn_output"},
    {"mlp.norm", "post_attention_layernorm", "ffn_norm"},
    {"mlp.gate", "mlp.gate_proj", "ffn_gate"},
    {"mlp.up", "mlp.up_proj", "ffn_up"},
    {"mlp.gate_up", "mlp.gate_up_proj", "ffn_up"},
    {"mlp.down", "mlp.down_proj", "ffn_down"},
    {"embed", "model.embed_tokens", "token_embd"},
    {"norm", "model.norm", "output_norm"},
    {"head", "lm_head", "output"},
};

static std::string shapeText(ArrayRef<int64_t> shape) {
  return llvm::join(llvm::map_range(shape, [](int64_t d) { return std::to_string(d); }), "x");
}

std::string ModelBuilder::State::fullName(StringRef role) const {
  return layer < 0 ? role.str() : ("layers." + Twine(layer) + "." + role).str();
}

Location ModelBuilder::State::loc(StringRef role) const {
  return NameLoc::get(StringAttr::get(builder.getContext(), fullName(role)));
}

std::string ModelBuilder::State::tensorStem(StringRef role) const {
  const TensorRole *found = nullptr;
  for (const TensorRole &candidate : architecture.roles)
    if (StringRef(candidate.role) == role)
      found = &candidate;
  for (const TensorRole &candidate : commonRoles)
    if (!found && StringRef(candidate.role) == role)
      found = &candidate;
  assert(found && "a family uses a role without tensor names");
  const bool gguf = model.kind() == ::mili::ModelFileKind::kGguf;
  std::string name(gguf ? found->gguf : found->huggingFace);
  if (layer < 0)
    return name;
  return (gguf ? "blk." : "model.layers.") + std::to_string(layer) + "." + name;
}

RankedTensorType ModelBuilder::State::rows(int64_t features) const {
  return RankedTensorType::get({ShapedType::kDynamic, features}, activation);
}

const TensorInfo *ModelBuilder::State::claim(const std::string &name, ArrayRef<int64_t> shape) {
  const TensorInfo *tensor = model.find(name);
  if (!tensor) {
    errors.push_back("tensor '" + name + "' is missing; expected shape " + shapeText(shape));
    return nullptr;
  }
  usedTensors.insert(name);
  SmallVector<int64_t> found(tensor->shape.begin(), tensor->shape.end());
  if (ArrayRef(found) != shape) {
    errors.push_back("tensor '" + name + "': expected shape " + shapeText(shape) + ", found " + shapeText(found));
    return nullptr;
  }
  return tensor;
}

Value ModelBuilder::State::weight(StringRef role, const std::string &name, ArrayRef<int64_t> shape, int64_t begin,
                                  int64_t end) {
  std::string key = name;
  if (end != -1)
    key += ("[" + Twine(begin) + ":" + Twine(end) + "]").str();
  if (auto it = weights.find(key); it != weights.end())
    return it->second;

  Type element = activation;
  if (synthetic) {
    element = shape.size() > 1 ? Type(builder.getBF16Type()) : builder.getF32Type();
  } else if (const TensorInfo *tensor = claim(name, shape)) {
    const auto &format = ::mili::tensor_format_info(tensor->format);
    const StringRef spelling(format.name.data(), format.name.size());
    if (spelling == "f32")
      element = builder.getF32Type();
    else if (spelling == "f16")
      element = builder.getF16Type();
    else if (spelling == "bf16")
      element = builder.getBF16Type();
    else if (std::optional<BlockFormat> block = symbolizeBlockFormat(spelling))
      element = BlockType::get(builder.getContext(), *block);
    else
      errors.push_back("tensor '" + name + "': format " + spelling.str() + " has no type in the mili dialect");
  }
  SmallVector<int64_t> pieceShape(shape);
  if (end != -1)
    pieceShape[0] = end - begin;
  auto piece = PieceAttr::get(builder.getContext(), name, begin, end);
  auto param = ParamAttr::get(builder.getContext(), piece, /*interleave=*/0);
  Value value =
      WeightOp::create(builder, loc(role), RankedTensorType::get(pieceShape, element), param, /*layout=*/StringAttr());
  weights[key] = value;
  return value;
}

Value ModelBuilder::State::matrix(StringRef role, const std::string &name, ArrayRef<int64_t> shape, int64_t begin,
                                  int64_t end) {
  Value stored = weight((role + ".weight").str(), name, shape, begin, end);
  auto type = cast<RankedTensorType>(stored.getType());
  if (!isa<BlockType>(type.getElementType()))
    return stored;
  return DequantOp::create(builder, loc((role + ".dequant").str()), RankedTensorType::get(type.getShape(), activation),
                           stored);
}

Value ModelBuilder::State::vector(StringRef role, const std::string &name, int64_t size) {
  Value stored = weight(role, name, size);
  auto type = cast<RankedTensorType>(stored.getType());
  if (isa<FloatType>(type.getElementType()))
    return stored;
  errors.push_back("tensor '" + name + "': expected plain floats, found blocks");
  auto param = stored.getDefiningOp<WeightOp>().getParam();
  return WeightOp::create(builder, stored.getLoc(), RankedTensorType::get(size, activation), param, StringAttr());
}

Value ModelBuilder::State::optionalBias(StringRef role, const std::string &name, int64_t size, Bias bias) {
  if (bias == Bias::kNone || (bias == Bias::kIfPresent && !model.find(name)))
    return {};
  return vector(role, name, size);
}

void ModelBuilder::State::refuseUnusedTensors() {
  if (synthetic)
    return;
  const bool gguf = model.kind() == ::mili::ModelFileKind::kGguf;
  for (const TensorInfo &tensor : model.tensors()) {
    const StringRef name = tensor.name;
    if (usedTensors.count(tensor.name))
      continue;
    // A table computed from the configuration, which older checkpoints stored.
    if (!gguf && name.ends_with(".rotary_emb.inv_freq"))
      continue;
    // A copy of the embeddings, saved although the configuration ties the two.
    if (!gguf && config.tied && name == "lm_head.weight")
      continue;
    // Read as configuration (readGgufDecoder), or a table computed from it.
    if (gguf && (name == "rope_freqs.weight" || name == "rope_factors_long.weight" ||
                 name == "rope_factors_short.weight" || name.ends_with(".attn_rot_embd.weight")))
      continue;
    errors.push_back("tensor '" + tensor.name + "' (" +
                     shapeText(SmallVector<int64_t>(tensor.shape.begin(), tensor.shape.end())) +
                     ") has no place in family '" + architecture.family + "'");
  }
}

//===- Ops -------------------------------------------------------------------===//

const DecoderConfig &ModelBuilder::config() const {
  return state.config;
}

void ModelBuilder::enterLayer(int64_t layer) {
  state.layer = layer;
}

int64_t ModelBuilder::layer() const {
  return state.layer;
}

static int64_t featuresOf(Value x) {
  return cast<RankedTensorType>(x.getType()).getDimSize(1);
}

Value ModelBuilder::embedding() {
  State &s = state;
  Value table = s.matrix("embed", s.tensorStem("embed") + ".weight", {s.config.vocab, s.config.hidden});
  Value x = EmbeddingOp::create(s.builder, s.loc("embed"), s.rows(s.config.hidden), s.tokens, table);
  return scale(x, s.config.embeddingMultiplier, "embed.scale");
}

Value ModelBuilder::rmsNorm(Value x, StringRef role, int64_t features) {
  State &s = state;
  Value weight = s.vector((role + ".weight").str(), s.tensorStem(role) + ".weight", features);
  return RmsNormOp::create(s.builder, s.loc(role), x.getType(), x, weight,
                           s.builder.getF32FloatAttr(static_cast<float>(s.config.epsilon)));
}

Value ModelBuilder::linear(Value x, StringRef role, int64_t outputs, Bias bias) {
  State &s = state;
  const std::string stem = s.tensorStem(role);
  Value weight = s.matrix(role, stem + ".weight", {outputs, featuresOf(x)});
  Value biasValue = s.optionalBias((role + ".bias").str(), stem + ".bias", outputs, bias);
  return LinearOp::create(s.builder, s.loc(role), s.rows(outputs), x, weight, biasValue);
}

Value ModelBuilder::linearRows(Value x, StringRef role, StringRef merged, int64_t rows, int64_t begin,
                               int64_t outputs) {
  State &s = state;
  Value weight = s.matrix(role, s.tensorStem(merged) + ".weight", {rows, featuresOf(x)}, begin, begin + outputs);
  return LinearOp::create(s.builder, s.loc(role), s.rows(outputs), x, weight, Value());
}

Value ModelBuilder::rope(Value x, StringRef role, int64_t heads) {
  State &s = state;
  return RopeOp::create(s.builder, s.loc(role), x.getType(), x, s.batch, s.builder.getI64IntegerAttr(heads), s.rope);
}

Value ModelBuilder::attend(Value q, Value k, Value v) {
  State &s = state;
  const DecoderConfig &c = s.config;
  MLIRContext *context = s.builder.getContext();
  const int64_t window = c.windows[s.layer];
  const std::string symbol = s.fullName("kv");
  auto type = KvType::get(context, c.kvHeads, c.headDim, c.headDim, s.activation, window);
  {
    // States stand before the function, in the order of the layers.
    OpBuilder::InsertionGuard guard(s.builder);
    s.builder.setInsertionPoint(s.builder.getInsertionBlock()->getParentOp());
    StateOp::create(s.builder, s.loc("kv"), symbol, type);
  }
  Value before = StateGetOp::create(s.builder, s.loc("kv"), type, symbol);
  Value after = KvAppendOp::create(s.builder, s.loc("attn.append"), type, before, k, v, s.batch);
  Attribute mask = CausalAttr::get(context);
  if (window)
    mask = WindowAttr::get(context, window);
  Value out = AttentionOp::create(s.builder, s.loc("attn.core"), s.rows(c.heads * c.headDim), q, after, s.batch,
                                  s.builder.getI64IntegerAttr(c.heads),
                                  s.builder.getF32FloatAttr(static_cast<float>(c.attentionScale)), mask);
  StateSetOp::create(s.builder, s.loc("kv"), symbol, after);
  return out;
}

Value ModelBuilder::gated(Value gate, Value up) {
  State &s = state;
  const std::optional<Activation> function = symbolizeActivation(s.config.activation);
  assert(function && "configurations are checked when they are read");
  return GatedOp::create(s.builder, s.loc("mlp.gated"), gate.getType(), gate, up, *function);
}

Value ModelBuilder::add(Value lhs, Value rhs, StringRef role) {
  return AddOp::create(state.builder, state.loc(role), lhs.getType(), lhs, rhs);
}

Value ModelBuilder::scale(Value x, double factor, StringRef role) {
  if (factor == 1)
    return x;
  return ScaleOp::create(state.builder, state.loc(role), x.getType(), x,
                         state.builder.getF32FloatAttr(static_cast<float>(factor)));
}

void ModelBuilder::head(Value x) {
  State &s = state;
  s.layer = -1;
  x = rmsNorm(x, "norm", s.config.hidden);
  const StringRef role = s.config.tied ? "embed" : "head";
  Value weight = s.matrix(role, s.tensorStem(role) + ".weight", {s.config.vocab, s.config.hidden});
  auto type = RankedTensorType::get({ShapedType::kDynamic, s.config.vocab}, s.builder.getF32Type());
  Value logits = LogitsOp::create(s.builder, s.loc("head"), type, x, weight, s.batch);
  logits = scale(logits, 1.0 / s.config.logitsDivisor, "head.scale");
  func::ReturnOp::create(s.builder, s.loc("head"), logits);
}

//===- Blocks ----------------------------------------------------------------===//

ModelBuilder::Projections ModelBuilder::project(Value x) {
  const DecoderConfig &c = config();
  Projections p;
  p.q = linear(x, "attn.q", c.heads * c.headDim, c.queryKeyValueBias);
  p.k = linear(x, "attn.k", c.kvHeads * c.headDim, c.queryKeyValueBias);
  p.v = linear(x, "attn.v", c.kvHeads * c.headDim, c.queryKeyValueBias);
  return p;
}

ModelBuilder::Projections ModelBuilder::projectMerged(Value x) {
  const DecoderConfig &c = config();
  const int64_t query = c.heads * c.headDim, key = c.kvHeads * c.headDim;
  const int64_t rows = query + 2 * key;
  Projections p;
  p.q = linearRows(x, "attn.q", "attn.qkv", rows, 0, query);
  p.k = linearRows(x, "attn.k", "attn.qkv", rows, query, key);
  p.v = linearRows(x, "attn.v", "attn.qkv", rows, query + key, key);
  return p;
}

Value ModelBuilder::attention(Projections p) {
  const DecoderConfig &c = config();
  if (c.rotary[layer()]) {
    p.q = rope(p.q, "attn.q_rope", c.heads);
    p.k = rope(p.k, "attn.k_rope", c.kvHeads);
  }
  return linear(attend(p.q, p.k, p.v), "attn.out", c.hidden, c.outputBias);
}

Value ModelBuilder::gatedMlp(Value x) {
  const DecoderConfig &c = config();
  Value gate = linear(x, "mlp.gate", c.intermediate, c.mlpBias);
  Value up = linear(x, "mlp.up", c.intermediate, c.mlpBias);
  return linear(gated(gate, up), "mlp.down", c.hidden, c.mlpBias);
}

Value ModelBuilder::gatedMlpMerged(Value x) {
  const DecoderConfig &c = config();
  Value gate = linearRows(x, "mlp.gate", "mlp.gate_up", 2 * c.intermediate, 0, c.intermediate);
  Value up = linearRows(x, "mlp.up", "mlp.gate_up", 2 * c.intermediate, c.intermediate, c.intermediate);
  return linear(gated(gate, up), "mlp.down", c.hidden, c.mlpBias);
}

Value ModelBuilder::residual(Value x, Value branch, StringRef role) {
  return add(x, scale(branch, config().residualMultiplier, (role + ".scale").str()), role);
}

void mlir::mili::buildPreNormDecoder(ModelBuilder &b) {
  const DecoderConfig &c = b.config();
  Value x = b.embedding();
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    b.enterLayer(layer);
    x = b.residual(x, b.attention(b.project(b.rmsNorm(x, "attn.norm", c.hidden))), "attn.add");
    x = b.residual(x, b.gatedMlp(b.rmsNorm(x, "mlp.norm", c.hidden)), "mlp.add");
  }
  b.head(x);
}
