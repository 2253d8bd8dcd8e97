// What META may say: every index, range and size against what it refers to.
#include "mili/runtime/plan.h"
#include "mili/runtime/sampling.h"
#include "mili/schema/plan_generated.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <tuple>

namespace mili {
namespace {

std::string num(uint64_t value) {
  return std::to_string(value);
}

uint64_t elem_size(plan::Dtype dtype) {
  switch (dtype) {
  case plan::Dtype::F32:
  case plan::Dtype::I32: return 4;
  case plan::Dtype::F16:
  case plan::Dtype::BF16: return 2;
  case plan::Dtype::I8:
  case plan::Dtype::U8: return 1;
  }
  return 0;
}

bool fits(uint64_t offset, uint64_t size, uint64_t room) {
  return offset <= room && size <= room - offset;
}

class MetaVerifier {
public:
  MetaVerifier(const plan::Plan &meta, std::span<const SectionEntry> sections) : meta_(meta), sections_(sections) {}

  Status run() {
    MILI_RETURN_IF_ERROR(check_model());
    MILI_RETURN_IF_ERROR(check_target());
    MILI_RETURN_IF_ERROR(check_weights());
    MILI_RETURN_IF_ERROR(check_states());
    for (const plan::Kernel *kernel : *meta_.kernels())
      MILI_RETURN_IF_ERROR(check_kernel(*kernel));
    for (uint32_t r = 0; r < meta_.ranks()->size(); ++r)
      MILI_RETURN_IF_ERROR(check_rank(*meta_.ranks()->Get(r), r));
    return check_memory();
  }

private:
  Status check_model() {
    const plan::Model &model = *meta_.model();
    if (model.vocab() == 0 || model.vocab() > static_cast<uint32_t>(std::numeric_limits<int32_t>::max()))
      return data_loss("META: the model has a vocabulary of " + num(model.vocab()) + ", expected 1 to 2^31-1");
    if (!elem_size(meta_.activation_dtype()))
      return data_loss("META: activation dtype " + num(static_cast<uint64_t>(meta_.activation_dtype())) +
                       " is unknown");
    if (meta_.requests() == 0 || meta_.context() == 0 ||
        meta_.context() > static_cast<uint32_t>(std::numeric_limits<int32_t>::max()))
      return data_loss("META: " + num(meta_.requests()) + " requests of " + num(meta_.context()) +
                       " tokens, expected at least one of each");
    if (meta_.ranks()->size() != 1)
      return unimplemented("META: the plan has " + num(meta_.ranks()->size()) + " ranks; this runtime runs one");
    const plan::Generation *generation = meta_.generation();
    if (!generation)
      return ok_status();
    if (generation->bos() < -1 || generation->bos() >= static_cast<int64_t>(model.vocab()))
      return data_loss("META: the first token " + std::to_string(generation->bos()) + " is not in the vocabulary of " +
                       num(model.vocab()));
    if (generation->eos())
      for (int32_t id : *generation->eos())
        if (id < 0 || id >= static_cast<int64_t>(model.vocab()))
          return data_loss("META: the end token " + std::to_string(id) + " is not in the vocabulary of " +
                           num(model.vocab()));
    SamplingParams params;
    params.temperature = generation->temperature();
    params.top_k = generation->top_k();
    params.top_p = generation->top_p();
    params.min_p = generation->min_p();
    params.repetition_penalty = generation->repetition_penalty();
    Status status = validate(params, model.vocab());
    return status.ok() ? status : data_loss("META: generation defaults: " + status.message());
  }

  Status check_target() {
    if (meta_.target()->variants())
      for (const plan::Variant *variant : *meta_.target()->variants())
        if (variant->section() >= sections_.size() ||
            sections_[variant->section()].kind != static_cast<uint32_t>(SectionKind::kHostObject))
          return data_loss("META: variant \"" + variant->name()->str() + "\" names section " + num(variant->section()) +
                           ", which is not a HOST_OBJECT of the plan's " + num(sections_.size()) + " sections");
    return ok_status();
  }

  Status check_kernel(const plan::Kernel &kernel) {
    if (kernel.symbol()->size() == 0)
      return data_loss("META: a kernel without a symbol");
    const std::string label = "META: kernel \"" + kernel.symbol()->str() + "\"";
    if (meta_.target()->name()->string_view() != "cuda")
      return ok_status();
    if (!kernel.cuda() || kernel.cuda()->size() == 0)
      return data_loss(label + " does not say how it is launched on a GPU");
    if (reinterpret_cast<uintptr_t>(kernel.cuda()->Data()) % alignof(plan::CudaLaunch) != 0)
      return data_loss(label + ": its launches are misaligned");
    uint32_t before = 0;
    for (const plan::CudaLaunch *launch : *kernel.cuda()) {
      if (launch->arch() <= before || launch->threads() == 0 || launch->threads() > 1024 || launch->shared() > 232448 ||
          launch->blocks_per_sm() > 32)
        return data_loss(label + ": " + num(launch->threads()) + " threads with " + num(launch->shared()) +
                         " bytes of shared memory on architecture " + num(launch->arch()) + " after " + num(before));
      before = launch->arch();
    }
    return ok_status();
  }

  Status check_weights() {
    const bool synthetic = meta_.synthetic() != nullptr;
    if (synthetic && sections_.back().size != 0)
      return data_loss("META: the weights are synthetic, yet the plan carries " + num(sections_.back().size) +
                       " bytes of them");
    const uint64_t room = synthetic ? meta_.memory()->weights() : sections_.back().size;
    std::vector<std::pair<uint64_t, const plan::Weight *>> order;
    for (const plan::Weight *weight : *meta_.weights()) {
      const std::string label = "META: weight \"" + weight->name()->str() + "\"";
      if (weight->rank() >= meta_.ranks()->size())
        return data_loss(label + ": rank " + num(weight->rank()) + " of " + num(meta_.ranks()->size()));
      if (weight->size() == 0 || weight->offset() % kWeightAlign != 0 || !fits(weight->offset(), weight->size(), room))
        return data_loss(label + ": " + num(weight->size()) + " bytes at " + num(weight->offset()) +
                         ", expected a multiple of " + num(kWeightAlign) + " within the section's " + num(room) +
                         " bytes");
      uint64_t elements = 1;
      for (uint64_t extent : *weight->shape())
        if (extent == 0 || __builtin_mul_overflow(elements, extent, &elements) || elements > uint64_t{1} << 56)
          return data_loss(label + ": a shape with an extent of " + num(extent) + " or too many elements");
      const std::string_view format = weight->format()->string_view();
      const uint64_t dense = format == "f32" ? 4 : format == "f16" || format == "bf16" ? 2 : 0;
      if (dense && weight->layout()->string_view() == "row_major" && weight->size() < elements * dense)
        return data_loss(label + ": " + num(weight->size()) + " bytes, its shape needs " + num(elements * dense));
      order.emplace_back(weight->offset(), weight);
    }
    std::sort(order.begin(), order.end());
    for (size_t i = 1; i < order.size(); ++i) {
      const plan::Weight *before = order[i - 1].second;
      if (before->offset() + before->size() > order[i].first)
        return data_loss("META: weights \"" + before->name()->str() + "\" and \"" + order[i].second->name()->str() +
                         "\" overlap at byte " + num(order[i].first));
    }
    return ok_status();
  }

  Status check_states() {
    for (const plan::State *state : *meta_.states()) {
      const std::string label = "META: state \"" + state->name()->str() + "\"";
      if (state->kind() == plan::StateKind::Recurrent) {
        if (state->slot_bytes() == 0)
          return data_loss(label + ": recurrent, with slots of 0 bytes");
        uint64_t slots = uint64_t{meta_.requests()} + 1, pool = 0;
        if (__builtin_mul_overflow(slots, state->slot_bytes(), &pool))
          return data_loss(label + ": slots of " + num(state->slot_bytes()) + " bytes are too large");
        continue;
      }
      if (state->kind() != plan::StateKind::PagedKv || !elem_size(state->elem()))
        return data_loss(label + ": kind " + num(static_cast<uint64_t>(state->kind())) + " with element type " +
                         num(static_cast<uint64_t>(state->elem())) + " is unknown");
      MILI_ASSIGN_OR_RETURN(uint64_t bytes, page_bytes({true, state->heads(), state->k(), state->v(),
                                                        elem_size(state->elem()), 0, state->window()}));
      if (bytes == 0 || bytes != state->page_bytes())
        return data_loss(label + ": pages of " + num(state->page_bytes()) + " bytes, its shape makes " + num(bytes));
    }
    auto inputs = memory_inputs(meta_, meta_.synthetic() ? meta_.memory()->weights() : sections_.back().size);
    if (!inputs.ok())
      return inputs.status();
    auto figures = plan_memory(*inputs);
    if (!figures.ok())
      return data_loss("META: " + figures.status().message());
    figures_ = *std::move(figures);
    // The sum of all pools is known to be small enough.
    for (const plan::State *state : *meta_.states()) {
      uint64_t bytes = state->slot_bytes() * (uint64_t{meta_.requests()} + 1);
      for (const PageTable &table : figures_.page_tables)
        if (state->kind() == plan::StateKind::PagedKv && table.window == state->window())
          bytes = state->page_bytes() * table.pages;
      pool_bytes_.push_back(bytes);
    }
    return ok_status();
  }

  Status check_rank(const plan::Rank &rank, uint32_t index) {
    if (rank.functions()->size() == 0)
      return data_loss("META: rank " + num(index) + " has no functions");
    for (const plan::Function *function : *rank.functions()) {
      const std::string label = "META: function \"" + function->name()->str() + "\"";
      if (function->buckets()->size() == 0)
        return data_loss(label + " has no buckets");
      uint32_t tokens_before = 0;
      std::set<std::tuple<uint32_t, uint32_t, uint32_t>> seen;
      for (const plan::Bucket *bucket : *function->buckets()) {
        const std::string bucket_label = label + ", bucket \"" + bucket->name()->str() + "\"";
        if (bucket->tokens() < tokens_before ||
            !seen.emplace(bucket->tokens(), bucket->sequences(), bucket->logit_rows()).second)
          return data_loss(bucket_label + ": buckets ascend by tokens and differ; found " + num(bucket->tokens()) +
                           " tokens after " + num(tokens_before));
        tokens_before = bucket->tokens();
        MILI_RETURN_IF_ERROR(check_bucket(*bucket, bucket_label));
      }
    }
    return ok_status();
  }

  Status check_bucket(const plan::Bucket &bucket, const std::string &label) {
    constexpr uint32_t kMost = 1u << 30;
    if (bucket.tokens() == 0 || bucket.tokens() > kMost || bucket.sequences() == 0 ||
        bucket.sequences() > bucket.tokens() || bucket.logit_rows() > bucket.tokens())
      return data_loss(label + ": " + num(bucket.tokens()) + " tokens, " + num(bucket.sequences()) + " sequences, " +
                       num(bucket.logit_rows()) +
                       " logit rows; expected at least one token and sequence, and no more " +
                       "sequences or rows than tokens");
    const uint64_t logits = uint64_t{bucket.logit_rows()} * meta_.model()->vocab();  // < 2^61
    if (bucket.logits_offset() % sizeof(float) != 0 ||
        !fits(bucket.logits_offset(), logits * sizeof(float), bucket.arena_bytes()))
      return data_loss(label + ": its logits, " + num(logits * sizeof(float)) + " bytes at " +
                       num(bucket.logits_offset()) + ", are not within the arena of " + num(bucket.arena_bytes()) +
                       " bytes");
    if (bucket.sampled_offset() != -1 &&
        (bucket.sampled_offset() < 0 || bucket.sampled_offset() % sizeof(int32_t) != 0 ||
         !fits(static_cast<uint64_t>(bucket.sampled_offset()), uint64_t{bucket.logit_rows()} * sizeof(int32_t),
               bucket.arena_bytes())))
      return data_loss(label + ": its sampled tokens at " + std::to_string(bucket.sampled_offset()) +
                       " are not within the arena of " + num(bucket.arena_bytes()) + " bytes");
    for (uint32_t l = 0; l < bucket.launches()->size(); ++l)
      if (Status status = check_launch(*bucket.launches()->Get(l), bucket); !status.ok())
        return status.with_context(label + ", launch " + num(l) + " \"" + bucket.launches()->Get(l)->name()->str() +
                                   "\"");
    return ok_status();
  }

  Status check_launch(const plan::Launch &launch, const plan::Bucket &bucket) {
    if (launch.kernel() >= meta_.kernels()->size())
      return data_loss("kernel " + num(launch.kernel()) + " of " + num(meta_.kernels()->size()));
    uint64_t rows = 1;
    switch (launch.tiles_per()) {
    case plan::RowCount::One: break;
    case plan::RowCount::Tokens: rows = bucket.tokens(); break;
    case plan::RowCount::LogitRows: rows = bucket.logit_rows(); break;
    case plan::RowCount::Sequences: rows = bucket.sequences(); break;
    default: return data_loss("tiles per row count " + num(static_cast<uint64_t>(launch.tiles_per())) + " is unknown");
    }
    if (launch.tiles_per() != plan::RowCount::One && launch.rows_per_tile() == 0)
      return data_loss("0 rows per tile");
    if (launch.tiles_fixed() == 0 || launch.tiles_fixed() > (uint64_t{1} << 60) / std::max<uint64_t>(rows, 1))
      return data_loss(num(launch.tiles_fixed()) + " tiles for each of " + num(rows) + " rows");
    // The FlatBuffers verifier checks the alignment of a vector's length, not of the structs in it.
    if (reinterpret_cast<uintptr_t>(launch.args()->Data()) % alignof(plan::Arg) != 0)
      return data_loss("its arguments are misaligned");
    if (launch.tensor_maps()) {
      if (reinterpret_cast<uintptr_t>(launch.tensor_maps()->Data()) % alignof(plan::TensorMap) != 0)
        return data_loss("its tensor maps are misaligned");
      for (const plan::TensorMap *map : *launch.tensor_maps()) {
        uint64_t bytes = 0;
        if (map->arg() >= launch.args()->size() || map->box_rows() == 0 || map->box_rows() > 256 ||
            map->box_columns() != 64 || map->rows() == 0 || map->columns() == 0 || map->columns() % 8 != 0 ||
            __builtin_mul_overflow(map->rows(), map->columns(), &bytes) ||
            bytes > launch.args()->Get(map->arg())->size() / 2)
          return data_loss("a tensor map of " + num(map->rows()) + " x " + num(map->columns()) + " in boxes of " +
                           num(map->box_rows()) + " x " + num(map->box_columns()) + " on argument " + num(map->arg()) +
                           " of " + num(launch.args()->size()) + " is not within it");
      }
    }
    if (launch.work())
      MILI_RETURN_IF_ERROR(check_work(*launch.work(), bucket));
    for (uint32_t a = 0; a < launch.args()->size(); ++a)
      if (Status status = check_arg(*launch.args()->Get(a), bucket); !status.ok())
        return status.with_context("argument " + num(a));
    return ok_status();
  }

  Status check_work(const plan::Work &work, const plan::Bucket &bucket) {
    if (work.per() > plan::RowCount::Sequences)
      return data_loss("work per row count " + num(static_cast<uint64_t>(work.per())) + " is unknown");
    const bool keys = work.bytes_key() || work.flops_pair();
    if (keys != (work.visible_base() || work.visible_every()))
      return data_loss("work of " + num(work.bytes_key()) + " bytes a key and " + num(work.flops_pair()) +
                       " operations a pair, of which " + num(work.visible_base()) + " and one of " +
                       num(work.visible_every()) + " are visible");
    // Sums over a step are within 64 bits, whatever a reader does with them.
    auto real = [](uint64_t value) { return static_cast<double>(value); };
    const double tokens = bucket.tokens(), context = meta_.context();
    const double bytes = real(work.bytes_fixed()) + real(work.bytes_row()) * tokens +
                         real(work.bytes_key()) * bucket.sequences() * context;
    const double flops = (real(work.flops_row()) + real(work.flops_pair()) * context) * tokens;
    if (bytes > 0x1p62 || flops > 0x1p62 || real(work.visible_base()) > 0x1p62)
      return data_loss("work of " + std::to_string(bytes) + " bytes and " + std::to_string(flops) +
                       " operations a step is out of range");
    return ok_status();
  }

  Status check_arg(const plan::Arg &arg, const plan::Bucket &bucket) {
    if (arg.access() > plan::Access::ReadWrite)
      return data_loss("access " + num(static_cast<uint64_t>(arg.access())) + " is unknown");
    uint64_t room = 0;
    switch (arg.kind()) {
    case plan::ArgKind::Arena:
      if (arg.index() != 0)
        return data_loss("arena " + num(arg.index()) + " of 1");
      room = bucket.arena_bytes();
      break;
    case plan::ArgKind::Weight:
      if (arg.index() >= meta_.weights()->size())
        return data_loss("weight " + num(arg.index()) + " of " + num(meta_.weights()->size()));
      if (arg.access() != plan::Access::Read)
        return data_loss("a weight is written to");
      room = meta_.weights()->Get(arg.index())->size();
      break;
    case plan::ArgKind::State:
      if (arg.index() >= pool_bytes_.size())
        return data_loss("state " + num(arg.index()) + " of " + num(pool_bytes_.size()));
      room = pool_bytes_[arg.index()];
      break;
    case plan::ArgKind::Counters:
      if (arg.index() != 0)
        return data_loss("counter block " + num(arg.index()) + " of 1");
      room = meta_.memory()->counters();
      break;
    default: return data_loss("kind " + num(static_cast<uint64_t>(arg.kind())) + " is unknown");
    }
    if (!fits(arg.offset(), arg.size(), room))
      return data_loss(num(arg.size()) + " bytes at " + num(arg.offset()) + " of " + num(room));
    return ok_status();
  }

  Status check_memory() {
    const plan::Memory &stated = *meta_.memory();
    const struct {
      const char *name;
      uint64_t stated, computed;
    } rows[] = {{"weights", stated.weights(), figures_.weights},
                {"arena", stated.arena(), figures_.arena},
                {"kv", stated.kv(), figures_.kv},
                {"tables", stated.tables(), figures_.tables},
                {"worker_scratch", stated.worker_scratch(), figures_.worker_scratch},
                {"counters", stated.counters(), figures_.counters},
                {"kv_pages", meta_.kv_pages(), figures_.kv_pages}};
    for (const auto &row : rows)
      if (row.stated != row.computed)
        return data_loss(std::string("META: memory.") + row.name + " says " + num(row.stated) + ", the plan needs " +
                         num(row.computed));
    return ok_status();
  }

  const plan::Plan &meta_;
  std::span<const SectionEntry> sections_;
  MemoryFigures figures_;
  std::vector<uint64_t> pool_bytes_;
};

}  // namespace

StatusOr<MemoryInputs> memory_inputs(const plan::Plan &meta, uint64_t weight_bytes) {
  MemoryInputs inputs;
  inputs.requests = meta.requests();
  inputs.context = meta.context();
  inputs.weight_bytes = weight_bytes;
  for (const plan::State *state : *meta.states())
    inputs.states.push_back({state->kind() == plan::StateKind::PagedKv, state->heads(), state->k(), state->v(),
                             elem_size(state->elem()), state->slot_bytes(), state->window()});
  for (const plan::Rank *rank : *meta.ranks())
    for (const plan::Function *function : *rank->functions())
      for (const plan::Bucket *bucket : *function->buckets())
        inputs.buckets.push_back({bucket->tokens(), bucket->sequences(), bucket->logit_rows(), bucket->arena_bytes()});
  for (const plan::Kernel *kernel : *meta.kernels())
    inputs.kernel_scratch.push_back(kernel->scratch_bytes());
  inputs.counter_bytes = meta.memory()->counters();
  return inputs;
}

Status verify_meta(std::span<const std::byte> meta, std::span<const SectionEntry> sections) {
  if (sections.empty() || sections.back().kind != static_cast<uint32_t>(SectionKind::kWeights))
    return data_loss("the last section is not WEIGHTS");
  const auto *bytes = reinterpret_cast<const uint8_t *>(meta.data());
  // Depth and number of tables of the largest models are far below these.
  flatbuffers::Verifier verifier(bytes, meta.size(), 16, 16u << 20);
  if (meta.size() < 16 || !plan::PlanBufferHasIdentifier(bytes) || !plan::VerifyPlanBuffer(verifier))
    return data_loss("META: not a well-formed description of a plan");
  return MetaVerifier(*plan::GetPlan(bytes), sections).run();
}

}  // namespace mili
