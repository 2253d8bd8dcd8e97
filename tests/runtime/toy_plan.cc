#include "toy_plan.h"

#include "mili/runtime/hash.h"
#include "mili/runtime/plan_writer.h"
#include "mili/schema/cuda_generated.h"
#include "toy_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <unistd.h>

namespace mili::toy {

ToyPlan toy_plan(bool windowed) {
  ToyPlan toy;
  for (int i = 0; i < kVocab * kWidth; ++i)
    toy.table.push_back(std::sin(0.37f * static_cast<float>(i)) * 0.8f);
  const uint64_t table_bytes = toy.table.size() * sizeof(float);
  toy.weights = {{"embedding", 0, 0, table_bytes, {kVocab, kWidth}, "f32", "row_major"}};
  const uint64_t page = (kHeadWidth + kHeadWidth) * kHeads * 64 * sizeof(float);
  toy.states = {{"layers.0.kv", plan::StateKind::PagedKv, kHeads, kHeadWidth, kHeadWidth, plan::Dtype::F32, page, 0}};
  toy.kernels = {{"toy_embed", 0}, {"toy_append", 0}, {"toy_attend", 100}, {"toy_logits", 0}};
  uint64_t pages = toy.kv_pages;
  if (windowed) {
    toy.window = kToyWindow;
    toy.states.push_back(toy.states[0]);
    toy.states[1].name = "layers.1.kv";
    toy.states[1].window = kToyWindow;
    toy.kernels[1].symbol = "toy_append_window";
    toy.kernels[2].symbol = "toy_attend_window";
    pages = toy.requests * 2 + 1;  // a window and the largest step, 55 positions, touch 2 pages at most
    toy.kv_pages += pages;
  }
  const uint32_t used = windowed ? 1 : 0;
  const plan::Arg weight(plan::ArgKind::Weight, plan::Access::Read, 0, 0, table_bytes);
  const plan::Arg append(plan::ArgKind::State, plan::Access::ReadWrite, used, 0, page * pages);
  const plan::Arg state(plan::ArgKind::State, plan::Access::Read, used, 0, page * pages);
  // Attention counts 64 bytes a key and 10 operations a pair; the head reads the embedding's table.
  const plan::Work append_work(plan::RowCount::Tokens, 0, 2 * kWidth * sizeof(float), 0, kWidth, 0, 0, 0);
  const plan::Work attend_work(plan::RowCount::Tokens, 0, 0, 64, 0, 10, toy.window, windowed ? 0 : 1);
  const plan::Work logits_work(plan::RowCount::LogitRows, table_bytes, kVocab * sizeof(float), 0, 2 * kVocab * kWidth,
                               0, 0, 0);
  const uint32_t bounds[][3] = {{1, 1, 1}, {4, 3, 4}, {16, 3, 4}};
  for (auto [tokens, sequences, rows] : bounds) {
    const uint64_t activation = (tokens * kWidth * sizeof(float) + 255) / 256 * 256;
    auto arena = [&](plan::Access access, uint64_t offset, uint64_t size) {
      return plan::Arg(plan::ArgKind::Arena, access, 0, offset, size);
    };
    const uint64_t logits = rows * kVocab * sizeof(float);
    toy.buckets.push_back(
        {tokens,
         sequences,
         rows,
         2 * activation + logits,
         2 * activation,
         {{0, {weight, arena(plan::Access::Write, 0, activation)}, 1, plan::RowCount::Tokens, 1},
          {1, {arena(plan::Access::Read, 0, activation), append}, 1, plan::RowCount::Tokens, 1, append_work},
          {2,
           {arena(plan::Access::Read, 0, activation), state, arena(plan::Access::Write, activation, activation)},
           1,
           plan::RowCount::Tokens,
           1,
           attend_work},
          {3,
           {arena(plan::Access::Read, activation, activation), weight,
            arena(plan::Access::Write, 2 * activation, logits)},
           1,
           plan::RowCount::LogitRows,
           1,
           logits_work}}});
  }
  toy.variants = {{"baseline", {}, 0}, {"imaginary", {"no_such_feature"}, 0}};
  MemoryInputs inputs{toy.requests, toy.context, table_bytes, {}, {}, {0, 0, 100, 0}};
  for (const ToyState &state : toy.states)
    inputs.states.push_back({true, kHeads, kHeadWidth, kHeadWidth, 4, 0, state.window});
  for (const ToyBucket &bucket : toy.buckets)
    inputs.buckets.push_back({bucket.tokens, bucket.sequences, bucket.logit_rows, bucket.arena_bytes});
  auto memory = plan_memory(inputs);
  EXPECT_TRUE(memory.ok());
  toy.memory = *memory;
  return toy;
}

ToyPlan toy_cuda_plan() {
  ToyPlan toy = toy_plan();
  toy.target = "cuda";
  toy.variants.clear();
  // As in toy_kernels.cc; a block is a tile.
  toy.cuda_units = {{"toy_count", "extern \"C\" __global__ void toy_count(const void *, unsigned long long *counts) {\n"
                                  "  if (threadIdx.x == 0)\n    ++counts[blockIdx.x];\n}\n"},
                    {"toy_reverse", "extern \"C\" __global__ void toy_reverse(const void *, const unsigned long long "
                                    "*in, unsigned long long *out) {\n"
                                    "  if (threadIdx.x == 0)\n    out[blockIdx.x] = in[255 - blockIdx.x] + 1;\n}\n"}};
  for (ToyKernel &kernel : toy.kernels)
    kernel = {"toy_count", 0};
  toy.kernels[1].symbol = "toy_reverse";
  toy.memory.worker_scratch = 0;
  return toy;
}

std::vector<std::byte> ToyPlan::meta() const {
  flatbuffers::FlatBufferBuilder b;
  std::vector<flatbuffers::Offset<plan::Weight>> weight_records;
  for (const ToyWeight &w : weights)
    weight_records.push_back(plan::CreateWeightDirect(b, w.name.c_str(), w.rank, w.offset, w.size, &w.shape,
                                                      w.format.c_str(), w.layout.c_str()));
  std::vector<flatbuffers::Offset<plan::State>> state_records;
  for (const ToyState &s : states)
    state_records.push_back(plan::CreateStateDirect(b, s.name.c_str(), s.kind, s.heads, s.k, s.v, s.elem, s.window,
                                                    s.page_bytes, s.slot_bytes));
  std::vector<flatbuffers::Offset<plan::Kernel>> kernel_records;
  const std::vector<plan::CudaLaunch> launch{plan::CudaLaunch(80, 32, 0, 0)};
  for (const ToyKernel &k : kernels)
    kernel_records.push_back(
        plan::CreateKernelDirect(b, k.symbol.c_str(), k.scratch, nullptr, target == "cuda" ? &launch : nullptr));
  std::vector<flatbuffers::Offset<plan::Bucket>> bucket_records;
  for (const ToyBucket &bucket : buckets) {
    std::vector<flatbuffers::Offset<plan::Launch>> launches;
    for (const ToyLaunch &l : bucket.launches)
      launches.push_back(plan::CreateLaunchDirect(b, "layers.0", l.kernel, &l.args, l.tiles_fixed, l.per,
                                                  l.rows_per_tile, nullptr,
                                                  l.work.per() == plan::RowCount::One ? nullptr : &l.work));
    std::string name(1, 't');
    name += std::to_string(bucket.tokens);
    bucket_records.push_back(plan::CreateBucketDirect(b, name.c_str(), bucket.tokens, bucket.sequences,
                                                      bucket.logit_rows, bucket.arena_bytes, bucket.logits_offset, -1,
                                                      &launches));
  }
  std::vector<flatbuffers::Offset<plan::Rank>> rank_records;
  for (uint32_t r = 0; r < ranks; ++r) {
    std::vector<flatbuffers::Offset<plan::Function>> functions{
        plan::CreateFunctionDirect(b, function.c_str(), &bucket_records)};
    rank_records.push_back(plan::CreateRankDirect(b, &functions));
  }
  std::vector<flatbuffers::Offset<plan::Variant>> variant_records;
  for (const ToyVariant &v : variants) {
    std::vector<flatbuffers::Offset<flatbuffers::String>> features;
    for (const std::string &feature : v.features)
      features.push_back(b.CreateString(feature));
    variant_records.push_back(plan::CreateVariantDirect(b, v.name.c_str(), &features, v.section));
  }
  auto target_record = plan::CreateTargetDirect(b, target.c_str(), &variant_records);
  auto model = plan::CreateModelDirect(b, "toy", "toy", vocab, 1, table.size(), 1000);
  auto generation = plan::CreateGeneration(b, b.CreateVector(eos), bos, 0, 0, top_p, 0, 1);
  auto figures = plan::CreateMemory(b, memory.weights, memory.arena, memory.kv, memory.tables, memory.worker_scratch,
                                    memory.counters);
  auto root = plan::CreatePlan(b, b.CreateString("mili test"), model, target_record, plan::Dtype::F32, requests,
                               context, kv_pages, b.CreateVector(weight_records), b.CreateVector(state_records),
                               b.CreateVector(kernel_records), b.CreateVector(rank_records), generation, figures);
  plan::FinishPlanBuffer(b, root);
  auto bytes = std::as_bytes(std::span(b.GetBufferPointer(), b.GetSize()));
  return {bytes.begin(), bytes.end()};
}

Status ToyPlan::write(const std::string &path) const {
  MILI_ASSIGN_OR_RETURN(PlanWriter writer, PlanWriter::create(path));
  auto add = [&](SectionKind kind, const flatbuffers::FlatBufferBuilder &built) {
    const auto view = std::as_bytes(std::span(built.GetBufferPointer(), built.GetSize()));
    std::vector<std::byte> bytes(view.begin(), view.end());
    if (bend)
      bend(kind, bytes);
    return writer.add_section(kind, bytes).status();
  };
  if (target == "cuda") {
    flatbuffers::FlatBufferBuilder b;
    std::vector<flatbuffers::Offset<plan::SourceFile>> headers, units;
    for (const auto &[name, text] : cuda_units)
      units.push_back(plan::CreateSourceFileDirect(b, name.c_str(), text.c_str()));
    b.Finish(plan::CreateCudaSourcesDirect(b, &headers, &units));
    MILI_RETURN_IF_ERROR(add(SectionKind::kCudaSource, b));
    RunningHash hash;
    hash.update(std::as_bytes(std::span(b.GetBufferPointer(), b.GetSize())));
    for (const Images &images : cuda_images) {
      flatbuffers::FlatBufferBuilder c;
      std::vector<flatbuffers::Offset<plan::Cubin>> records;
      for (const auto &[unit, bytes] : images.units) {
        auto image = c.CreateVector(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size());
        records.push_back(plan::CreateCubin(c, c.CreateString(unit), image));
      }
      c.Finish(plan::CreateCubinsDirect(c, images.arch.c_str(), "13.0", hash.digest(), &records));
      MILI_RETURN_IF_ERROR(add(SectionKind::kCubins, c));
    }
  } else {
    MILI_RETURN_IF_ERROR(writer.add_section(SectionKind::kHostObject, read_file(MILI_TOY_OBJECT)).status());
  }
  MILI_RETURN_IF_ERROR(writer.add_section(SectionKind::kMeta, meta()).status());
  MILI_RETURN_IF_ERROR(writer.begin_weights());
  MILI_RETURN_IF_ERROR(writer.append_weights(std::as_bytes(std::span(table))));
  return writer.finish();
}

std::string temporary_path(const std::string &name) {
  const auto *test = testing::UnitTest::GetInstance()->current_test_info();
  std::string path = testing::TempDir() + "mili-" + std::to_string(getpid()) + "-" + test->name() + "-" + name;
  for (size_t i = testing::TempDir().size(); i < path.size(); ++i)
    if (path[i] == '/')
      path[i] = '_';
  return path;
}

std::vector<std::byte> read_file(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto view = std::as_bytes(std::span(bytes));
  return {view.begin(), view.end()};
}

void write_file(const std::string &path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file) << path;
}

std::vector<float> reference_logits(const ToyPlan &plan, std::span<const int32_t> tokens) {
  std::vector<std::vector<double>> x;
  for (size_t t = 0; t < tokens.size(); ++t) {
    x.emplace_back();
    for (int i = 0; i < kWidth; ++i)
      x.back().push_back(plan.table[static_cast<size_t>(tokens[t] * kWidth + i)] +
                         position_term(static_cast<int64_t>(t), i));
  }
  std::vector<float> logits;
  for (size_t t = 0; t < tokens.size(); ++t) {
    std::vector<double> y(kWidth);
    for (int head = 0; head < kHeads; ++head) {
      double sum = 0;
      for (size_t p = plan.window && t >= plan.window ? t - plan.window + 1 : 0; p <= t; ++p) {
        double dot = 0;
        for (int i = head * kHeadWidth; i < (head + 1) * kHeadWidth; ++i)
          dot += x[t][static_cast<size_t>(i)] * x[p][static_cast<size_t>(i)];
        sum += 1 + dot * dot;
        for (int i = head * kHeadWidth; i < (head + 1) * kHeadWidth; ++i)
          y[static_cast<size_t>(i)] += (1 + dot * dot) * 2 * x[p][static_cast<size_t>(i)];
      }
      for (int i = head * kHeadWidth; i < (head + 1) * kHeadWidth; ++i)
        y[static_cast<size_t>(i)] /= sum;
    }
    for (int v = 0; v < kVocab; ++v) {
      double dot = 0;
      for (int i = 0; i < kWidth; ++i)
        dot += y[static_cast<size_t>(i)] * plan.table[static_cast<size_t>(v * kWidth + i)];
      logits.push_back(static_cast<float>(dot));
    }
  }
  return logits;
}

}  // namespace mili::toy
