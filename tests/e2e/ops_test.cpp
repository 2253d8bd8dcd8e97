// Ops by themselves and in small groups, for random shapes, against an f64 reference (op_cases.h). Whatever a launch
// writes is compared, and then given to the reference, so that an error shows where it is made and none add up. The
// arena and the KV cache begin as NaN, so that what nobody wrote shows, too.
//
// Built twice: ops_test compiles its cases for the CPU and for CUDA and runs them where it can; ops_plans_test, free of
// LLVM, runs what ops_test left in a folder (MILI_OPS_PLANS), so that a GPU machine needs no compiler.
//
//   MILI_OPS_SEED   the first seed; random if not set, and printed
//   MILI_OPS_CASES  cases of each kind; 2 if not set
//   MILI_OPS_WRITE  ops_test: leave the plans for CUDA in this folder and run nothing
//
// Bounds. bf16: every value of a row is rounded to a relative 2^-9 where a group stores it, and at most twice inside (a
// normalized row before tensor cores, softmax weights, keys in pages): together less than 2^-7 of a row's norm, and of
// a single element, which may be a product of two such sums, no more than 2^-4 of the row's root mean square beside
// 2^-7 of itself. f32: sums of at most 512 products in another order, and exponentials to 1e-6, give about 1e-6; the
// bound is 2e-5.
#include "op_cases.h"

#ifndef MILI_OPS_PLANS_ONLY
#include "mili/Codegen/PlanFile.h"
#include "mili/Compiler/Pipeline.h"
#include "mili/Frontends/ModelFile.h"
#include "mili/IR/MiliDialect.h"
#include "mili/IR/MiliPlan.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/raw_ostream.h"
#endif
#include "mili/runtime/engine.h"
#include "mili/schema/plan_generated.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <sstream>
#include <unistd.h>

namespace {

using namespace mili;
using mili::testing::Case;
using mili::testing::Piece;
using mili::testing::Reference;
using mili::testing::Rows;
using mili::testing::Weight;
namespace fs = std::filesystem;

// The values that each launch of each bucket writes, in order.
using Outputs = std::vector<std::vector<std::vector<std::string>>>;

// A device whose memory begins as NaN where the runtime does not count on zeros.
class PoisonedDevice : public Device {
public:
  explicit PoisonedDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}
  std::string_view name() const override { return device_->name(); }
  std::string description() const override { return device_->description(); }
  uint32_t workers() const override { return device_->workers(); }
  bool host_visible() const override { return device_->host_visible(); }
  StatusOr<DeviceBuffer> allocate(uint64_t bytes, std::string_view what) override {
    MILI_ASSIGN_OR_RETURN(DeviceBuffer buffer, device_->allocate(bytes, what));
    if (bytes > 0 && (what == "the arena" || what == "the KV cache")) {
      const std::vector<unsigned char> poison(bytes, 0xff);
      MILI_RETURN_IF_ERROR(device_->copy_to_device(buffer.address(), poison.data(), bytes));
      MILI_RETURN_IF_ERROR(device_->synchronize());
    }
    if (what == "the arena")
      arena = buffer.address();
    return buffer;
  }
  StatusOr<std::unique_ptr<HostBuffer>> allocate_host(uint64_t bytes) override { return device_->allocate_host(bytes); }
  StatusOr<DeviceAddress> load_weights(const Plan &plan, const Progress &progress) override {
    return device_->load_weights(plan, progress);
  }
  uint64_t allocation_count() const override { return device_->allocation_count(); }
  uint64_t allocated_bytes() const override { return device_->allocated_bytes(); }
  Status copy_to_device(DeviceAddress to, const void *from, uint64_t bytes) override {
    return device_->copy_to_device(to, from, bytes);
  }
  Status copy_to_host(void *to, DeviceAddress from, uint64_t bytes) override {
    return device_->copy_to_host(to, from, bytes);
  }
  Status copy_to_host_async(void *to, DeviceAddress from, uint64_t bytes) override {
    return device_->copy_to_host_async(to, from, bytes);
  }
  Status copy(DeviceAddress to, DeviceAddress from, uint64_t bytes) override { return device_->copy(to, from, bytes); }
  Status clear(DeviceAddress to, uint64_t bytes) override { return device_->clear(to, bytes); }
  Status clear_rows(DeviceAddress to, uint64_t pitch, uint64_t bytes, uint64_t rows) override {
    return device_->clear_rows(to, pitch, bytes, rows);
  }
  StatusOr<std::unique_ptr<Module>> load_module(const Plan &plan) override { return device_->load_module(plan); }
  StatusOr<std::unique_ptr<LaunchList>> prepare(const Module &module, std::span<const Launch> launches,
                                                const LaunchBounds &bounds) override {
    return device_->prepare(module, launches, bounds);
  }
  Status execute(LaunchList &list, const Batch &batch, std::span<double> seconds) override {
    return device_->execute(list, batch, seconds);
  }
  StatusOr<std::unique_ptr<Event>> create_event() override { return device_->create_event(); }
  Status record(Event &event) override { return device_->record(event); }
  Status wait(Event &event) override { return device_->wait(event); }
  StatusOr<double> elapsed(Event &from, Event &to) override { return device_->elapsed(from, to); }
  Status synchronize() override { return device_->synchronize(); }
  uint64_t free_memory() override { return device_->free_memory(); }
  uint64_t total_memory() override { return device_->total_memory(); }

  DeviceAddress arena = nullptr;

protected:
  // Buffers belong to the device within.
  void release(DeviceAddress, uint64_t) override {}

private:
  std::unique_ptr<Device> device_;
};

// The worst row of `got` against `want`, and the worst element.
void compare(const std::vector<double> &got, const std::vector<double> &want, int width, bool bf16,
             const std::string &what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  const double row_bound = bf16 ? std::ldexp(1, -7) : 2e-5, element_bound = bf16 ? std::ldexp(1, -4) : 2e-4;
  for (size_t row = 0; row < got.size() / width; ++row) {
    double difference = 0, norm = 0;
    for (int i = 0; i < width; ++i) {
      const double a = got[row * width + i], b = want[row * width + i];
      difference += (a - b) * (a - b);
      norm += b * b;
    }
    const double mean = std::sqrt(norm / width);
    // Not greater, so that NaN fails.
    ASSERT_TRUE(std::sqrt(difference) <= row_bound * std::sqrt(norm) + 1e-6)
        << what << ", row " << row << ": relative error " << std::sqrt(difference / norm);
    for (int i = 0; i < width; ++i)
      ASSERT_LE(std::abs(got[row * width + i] - want[row * width + i]),
                element_bound * mean + row_bound * std::abs(want[row * width + i]) + 1e-6)
          << what << ", row " << row << ", feature " << i << ": " << got[row * width + i] << " for "
          << want[row * width + i];
  }
}

std::vector<double> read(PoisonedDevice &device, uint64_t offset, size_t count, bool bf16) {
  std::vector<std::byte> bytes(count * (bf16 ? 2 : 4));
  EXPECT_TRUE(device.copy_to_host(bytes.data(), device.arena + offset, bytes.size()).ok());
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits = 0;
    std::memcpy(reinterpret_cast<char *>(&bits) + (bf16 ? 2 : 0), bytes.data() + i * (bf16 ? 2 : 4), bf16 ? 2 : 4);
    float value;
    std::memcpy(&value, &bits, 4);
    values[i] = value;
  }
  return values;
}

void run(const Case &one, Plan opened, const Outputs &outputs) {
  const bool cuda = opened.meta().target()->name()->string_view() == "cuda", bf16 = cuda;
  // Shapes are random, so kernels are hardly ever met again.
  CudaOptions uncached;
  uncached.cache_dir = "off";
  auto inner = cuda ? create_cuda_device(uncached) : create_cpu_device({.threads = 2});
  ASSERT_TRUE(inner.ok()) << inner.status().to_string();
  auto poisoned = std::make_unique<PoisonedDevice>(std::move(*inner));
  PoisonedDevice &device = *poisoned;
  StatusOr<std::unique_ptr<Engine>> engine = Engine::load(std::move(opened), std::move(poisoned));
  ASSERT_TRUE(engine.ok()) << engine.status().to_string();
  const plan::Plan &meta = (*engine)->plan().meta();
  std::mt19937_64 random(one.seed);

  // Pages of the sequences in each page table, shuffled.
  std::vector<std::vector<PageList>> pages(one.requests);
  for (const PageTable &table : (*engine)->page_tables()) {
    PageList all(table.pages - 1);
    std::iota(all.begin(), all.end(), 1);
    std::shuffle(all.begin(), all.end(), random);
    for (int i = 0; i < one.requests; ++i)
      pages[i].emplace_back(all.begin() + static_cast<ptrdiff_t>(i * table.ring),
                            all.begin() + static_cast<ptrdiff_t>((i + 1) * table.ring));
  }

  Reference reference;
  reference.bf16 = bf16;
  reference.keys.resize(one.requests);
  reference.others.resize(one.requests);
  std::vector<int> lengths(one.requests);
  for (size_t s = 0; s < one.steps.size(); ++s) {
    const std::vector<Piece> &pieces = one.steps[s];
    Rows rows;
    std::vector<std::vector<int32_t>> tokens(pieces.size());
    std::vector<StepSequence> sequences;
    std::vector<size_t> wanted;
    for (size_t p = 0; p < pieces.size(); ++p) {
      const int sequence = pieces[p].sequence;
      for (int i = 0; i < pieces[p].tokens; ++i) {
        tokens[p].push_back(std::uniform_int_distribution<int32_t>(0, one.vocab - 1)(random));
        rows.token.push_back(tokens[p].back());
        rows.sequence.push_back(sequence);
        rows.position.push_back(lengths[sequence] + i);
      }
      wanted.push_back(rows.token.size() - 1);
      sequences.push_back({.tokens = tokens[p], .position = lengths[sequence], .pages = pages[sequence]});
      lengths[sequence] += pieces[p].tokens;
    }
    StatusOr<StepOutput> out = (*engine)->step(sequences);
    ASSERT_TRUE(out.ok()) << out.status().to_string();
    const plan::Bucket *bucket = meta.ranks()->Get(0)->functions()->Get(0)->buckets()->Get(out->bucket);
    const std::string at = one.name + ", seed " + std::to_string(one.seed) + ", step " + std::to_string(s) + " of " +
                           std::to_string(rows.token.size()) + " tokens in " + bucket->name()->str() + ", ";

    // Where each value lies: a matrix of its own, or columns of a merged projection that nobody has split.
    struct Place {
      uint64_t offset;
      int pitch, column;
    };
    std::map<std::string, Place> places;
    const auto width_of = [&](const std::string &name) {
      for (const mili::testing::Node &node : one.nodes)
        if (node.name == name)
          return node.width;
      return 0;
    };
    for (uint32_t l = 0; l < bucket->launches()->size(); ++l) {
      size_t next = 0;
      const std::vector<std::string> &names = outputs.at(out->bucket).at(l);
      for (const plan::Arg *arg : *bucket->launches()->Get(l)->args()) {
        if (arg->kind() != plan::ArgKind::Arena || arg->access() == plan::Access::Read || next == names.size())
          continue;
        // A sum may take the place of what it adds to.
        std::erase_if(places, [&](const auto &place) { return place.second.offset == arg->offset(); });
        const std::string &name = names[next++];
        const bool merged = name == "qkv";
        const std::vector<std::string> parts = merged ? std::vector<std::string>{"q", "k", "v"} : std::vector{name};
        int pitch = 0, column = 0;
        for (const std::string &part : parts)
          pitch += width_of(part);
        for (const std::string &part : parts) {
          places[part] = {arg->offset(), pitch, column};
          column += width_of(part);
        }
      }
      ASSERT_EQ(next, names.size());
    }
    reference.values.clear();
    size_t compared = 0;
    for (const mili::testing::Node &node : one.nodes) {
      node.compute(reference, rows);
      std::vector<double> &want = reference.values[node.name];
      if (auto place = places.find(node.name); place != places.end()) {
        const size_t count = rows.token.size();
        const auto &[offset, pitch, column] = place->second;
        const std::vector<double> matrix = read(device, offset, count * pitch, bf16);
        std::vector<double> got;
        for (size_t row = 0; row < count; ++row)
          got.insert(got.end(), matrix.begin() + static_cast<ptrdiff_t>(row * pitch + column),
                     matrix.begin() + static_cast<ptrdiff_t>(row * pitch + column + node.width));
        compare(got, want, node.width, bf16, at + node.name);
        if (::testing::Test::HasFatalFailure())
          return;
        want = std::move(got);
        ++compared;
      }
    }
    EXPECT_GT(compared, 0u);
    const std::vector<double> &all = reference.values["logits of all rows"];
    for (size_t r = 0; r < wanted.size(); ++r) {
      const std::vector<double> got(out->row(static_cast<int64_t>(r)).begin(), out->row(static_cast<int64_t>(r)).end());
      const auto *want = all.data() + wanted[r] * one.vocab;
      // Accumulated and stored as f32, from operands of at most bf16.
      compare(got, std::vector<double>(want, want + one.vocab), one.vocab, bf16, at + "logits");
      if (::testing::Test::HasFatalFailure())
        return;
    }
    if (bucket->sampled_offset() >= 0) {
      std::vector<int32_t> sampled(wanted.size());
      ASSERT_TRUE(
          device.copy_to_host(sampled.data(), device.arena + bucket->sampled_offset(), sampled.size() * 4).ok());
      for (size_t r = 0; r < wanted.size(); ++r) {
        const auto row = out->row(static_cast<int64_t>(r));
        EXPECT_EQ(sampled[r], std::max_element(row.begin(), row.end()) - row.begin()) << at << "sampled row " << r;
      }
    }
  }
}

#ifndef MILI_OPS_PLANS_ONLY

uint64_t first_seed() {
  static const uint64_t seed = [] {
    const char *chosen = std::getenv("MILI_OPS_SEED");
    const uint64_t seed = chosen ? std::strtoull(chosen, nullptr, 10) : std::random_device{}();
    std::printf("MILI_OPS_SEED=%llu\n", static_cast<unsigned long long>(seed));
    return seed;
  }();
  return seed;
}

// The weights as a Hugging Face folder.
void write_model(const Case &one, const fs::path &folder) {
  fs::create_directories(folder);
  std::ofstream(folder / "config.json") << "{}";
  std::string header = "{", data;
  for (const auto &[name, weight] : one.weights) {
    header += (header.size() > 1 ? ",\"" : "\"") + name + "\":{\"dtype\":\"BF16\",\"shape\":[";
    for (size_t i = 0; i < weight.shape.size(); ++i)
      header += (i ? "," : "") + std::to_string(weight.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(data.size()) + ",";
    for (double value : weight.values) {
      const float f = static_cast<float>(value);
      data.append(reinterpret_cast<const char *>(&f) + 2, 2);
    }
    header += std::to_string(data.size()) + "]}";
  }
  header += "}";
  const uint64_t size = header.size();
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  file.write(reinterpret_cast<const char *>(&size), 8);
  file << header << data;
}

// The name of a value that a group yields: of its op, and which result where there are several.
std::string name_of(mlir::Value value) {
  auto result = mlir::cast<mlir::OpResult>(value);
  auto name = mlir::dyn_cast<mlir::NameLoc>(result.getOwner()->getLoc());
  std::string text = name ? name.getName().str() : "?";
  if (result.getOwner()->getNumResults() == 1)
    return text;
  // Merged projections have a name of their own.
  static const std::map<std::string, std::vector<std::string>> kMerged = {{"qkv", {"q", "k", "v"}},
                                                                          {"gate_up", {"gate", "up"}}};
  const auto merged = kMerged.find(text);
  return merged == kMerged.end() ? text : merged->second.at(result.getResultNumber());
}

void compile(const Case &one, const std::string &target, const std::string &path, Outputs &outputs) {
  using namespace mlir;
  const fs::path folder = path + ".model";
  write_model(one, folder);
  auto model = ModelFile::open(folder);
  fs::remove_all(folder);
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  CompileOptions options;
  options.target = target;
  options.requests = one.requests;
  options.prefill_tokens = one.prefill_tokens;
  options.disabled_fusions = one.disabled_fusions;
  options.merge_projections = one.merge_projections;
  options.arena_reuse = false;
  DialectRegistry registry;
  mlir::mili::registerCompilerDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  const std::string text = one.module(target != "cpu");
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context);
  ASSERT_TRUE(module) << text;
  for (Phase phase : {Phase::kOptimize, Phase::kSpecialize, Phase::kFuse, Phase::kPlanMemory}) {
    PassManager pm(&context);
    mlir::mili::buildPhase(pm, phase, options, *module, nullptr);
    ASSERT_TRUE(succeeded(pm.run(*module))) << phase_name(phase) << "\n" << text;
  }
  mlir::mili::codegen::PlanTarget plan;
  if (target == "cpu") {
    auto compiled = mlir::mili::codegen::emitCpuObjects(*module);
    ASSERT_TRUE(succeeded(compiled));
    plan.variants = std::move(*compiled);
  } else {
    auto program = mlir::mili::codegen::emitCudaProgram(*module);
    ASSERT_TRUE(succeeded(program));
    plan.cuda = std::move(*program);
  }
  for (auto bucket : module->getOps<mlir::mili::plan::BucketOp>()) {
    auto &launches = outputs.emplace_back();
    for (auto launch : bucket.getBody().front().getOps<mlir::mili::plan::LaunchOp>()) {
      auto kernel = mlir::SymbolTable::lookupNearestSymbolFrom<mlir::mili::plan::KernelOp>(
          module->getOperation(), FlatSymbolRefAttr::get(&context, launch.getKernel()));
      // A launch is named after its hero. Equal groups share a kernel, whose names are those of the first.
      auto &names = launches.emplace_back();
      for (Value value : kernel.getBody().front().getTerminator()->getOperands())
        if (isa<RankedTensorType>(value.getType()))
          names.push_back(value.getDefiningOp()->getName().getStringRef() == kernel.getHero() &&
                                  value.getDefiningOp()->getNumResults() == 1
                              ? launch.getName().str()
                              : name_of(value));
    }
  }
  Status written = mlir::mili::codegen::writePlan(*module, plan, **model, path, {});
  ASSERT_TRUE(written.ok()) << written.to_string();
}

class Ops : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(Ops, AgreeWithTheReference) {
  const auto &[kind, target] = GetParam();
  const char *count = std::getenv("MILI_OPS_CASES"), *folder = std::getenv("MILI_OPS_WRITE");
  if (folder && target == "cpu")
    GTEST_SKIP() << "MILI_OPS_WRITE asks for the plans for CUDA alone";
  if (target != "cpu" && !folder)
    if (auto device = create_cuda_device({}); !device.ok())
      GTEST_SKIP() << device.status().message();
  for (uint64_t i = 0; i < (count ? std::strtoull(count, nullptr, 10) : 2); ++i) {
    const Case one = mili::testing::make_case(kind, first_seed() + i);
    SCOPED_TRACE(kind + ", MILI_OPS_SEED=" + std::to_string(one.seed));
    const std::string path =
        (folder ? std::string(folder) + "/" : ::testing::TempDir() + "ops-" + std::to_string(getpid()) + "-") + kind +
        "-" + std::to_string(one.seed) + ".mili";
    Outputs outputs;
    compile(one, target, path, outputs);
    if (HasFatalFailure())
      return;
    if (folder) {
      std::ofstream list(path + ".outputs");
      for (size_t b = 0; b < outputs.size(); ++b)
        for (size_t l = 0; l < outputs[b].size(); ++l) {
          list << b << ' ' << l;
          for (const std::string &name : outputs[b][l])
            list << ' ' << name;
          list << '\n';
        }
      continue;
    }
    StatusOr<Plan> plan = Plan::open(path);
    fs::remove(path);
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    run(one, std::move(*plan), outputs);
    if (HasFatalFailure())
      return;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Ops,
                         ::testing::Combine(::testing::ValuesIn(mili::testing::case_kinds()),
                                            ::testing::Values("cpu", "cuda:source")),
                         [](const auto &info) {
                           return std::get<0>(info.param) + (std::get<1>(info.param) == "cpu" ? "_cpu" : "_cuda");
                         });

#else

TEST(Ops, PlansCompiledElsewhere) {
  const char *folder = std::getenv("MILI_OPS_PLANS");
  if (!folder)
    GTEST_SKIP() << "MILI_OPS_PLANS names no folder of plans";
  if (auto device = create_cuda_device({}); !device.ok())
    GTEST_SKIP() << device.status().message();
  int ran = 0;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder)) {
    const std::string stem = entry.path().stem();
    if (entry.path().extension() != ".mili")
      continue;
    const size_t dash = stem.rfind('-');
    const Case one =
        mili::testing::make_case(stem.substr(0, dash), std::strtoull(stem.c_str() + dash + 1, nullptr, 10));
    SCOPED_TRACE(stem);
    Outputs outputs;
    std::ifstream list(entry.path().string() + ".outputs");
    for (std::string line; std::getline(list, line);) {
      std::istringstream words(line);
      size_t bucket, launch;
      words >> bucket >> launch;
      outputs.resize(bucket + 1);
      outputs[bucket].resize(launch + 1);
      for (std::string name; words >> name;)
        outputs[bucket][launch].push_back(name);
    }
    StatusOr<Plan> plan = Plan::open(entry.path());
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    run(one, std::move(*plan), outputs);
    ++ran;
  }
  EXPECT_GT(ran, 0);
  std::printf("%d cases of ops agree with the reference\n", ran);
}

#endif

}  // namespace
