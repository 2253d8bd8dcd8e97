// Plans: what a good one says, and that a bad one is refused before anything in it is used. Run in the asan preset.
#include "mili/runtime/plan.h"

#include "mili/runtime/engine.h"
#include "mili/runtime/plan_writer.h"
#include "toy_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <unistd.h>

namespace mili {
namespace {

using testing::HasSubstr;
using toy::ToyPlan;

class PlanTest : public testing::Test {
public:
  void SetUp() override {
    path = toy::temporary_path("plan.mili");
    ASSERT_TRUE(toy::toy_plan().write(path).ok());
    bytes = toy::read_file(path);
  }
  void TearDown() override { unlink(path.c_str()); }

  FileHeader &header() { return *reinterpret_cast<FileHeader *>(bytes.data()); }
  SectionEntry &entry(int i) { return reinterpret_cast<SectionEntry *>(bytes.data() + sizeof(FileHeader))[i]; }
  void rehash_table() {
    header().table_hash =
        section_hash({bytes.data() + sizeof(FileHeader), header().section_count * sizeof(SectionEntry)});
  }
  Status open() {
    toy::write_file(path, bytes);
    return Plan::open(path).status();
  }

  std::string path;
  std::vector<std::byte> bytes;
};

TEST_F(PlanTest, SaysWhatWasWritten) {
  auto plan = Plan::open(path);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  EXPECT_EQ(plan->meta().model()->vocab(), 37u);
  EXPECT_EQ(plan->sections().size(), 3u);
  EXPECT_EQ(plan->memory().kv_pages, 13u);
  EXPECT_EQ(plan->memory().kv, 13u * 64 * 2 * 8 * 4);
  ToyPlan toy = toy::toy_plan();
  ASSERT_EQ(plan->weight(0).size(), toy.table.size() * 4);
  EXPECT_EQ(std::memcmp(plan->weight(0).data(), toy.table.data(), plan->weight(0).size()), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(plan->weights().data()) % kWeightSectionAlign, 0u);
  EXPECT_TRUE(plan->tokenizer().empty());
}

TEST_F(PlanTest, EveryTruncationIsRefused) {
  for (size_t size = 0; size < bytes.size(); size += size < 512 || size + 64 > bytes.size() ? 1 : 97) {
    toy::write_file(path, std::span(bytes).first(size));
    EXPECT_EQ(Plan::open(path).status().code(), StatusCode::kDataLoss) << size;
  }
}

TEST_F(PlanTest, HeaderFields) {
  const struct {
    const char *name;
    std::function<void(FileHeader &)> change;
    StatusCode code;
    const char *says;
  } rows[] = {
      {"magic", [](FileHeader &h) { h.magic[3] = 'J'; }, StatusCode::kInvalidArgument, "not a plan"},
      {"newer major", [](FileHeader &h) { h.major = 2; }, StatusCode::kUnimplemented,
       "version 2.0, this runtime reads up to 1.0"},
      {"older major", [](FileHeader &h) { h.major = 0; }, StatusCode::kUnimplemented, "compile the model again"},
      {"feature", [](FileHeader &h) { h.features = 4; }, StatusCode::kUnimplemented, "newer MILI"},
      {"no sections", [](FileHeader &h) { h.section_count = 0; }, StatusCode::kDataLoss, "0 sections"},
      {"too many sections", [](FileHeader &h) { h.section_count = 257; }, StatusCode::kDataLoss, "257 sections"},
      {"most sections", [](FileHeader &h) { h.section_count = ~0u; }, StatusCode::kDataLoss, "sections"},
      {"other count", [](FileHeader &h) { h.section_count = 4; }, StatusCode::kDataLoss, "hash"},
      {"short", [](FileHeader &h) { --h.file_size; }, StatusCode::kDataLoss, "truncated or was appended"},
      {"long", [](FileHeader &h) { h.file_size = ~0ull; }, StatusCode::kDataLoss, "truncated"},
      {"table hash", [](FileHeader &h) { ++h.table_hash; }, StatusCode::kDataLoss, "hash"},
      {"reserved", [](FileHeader &h) { h.reserved[1] = 1; }, StatusCode::kDataLoss, "reserved"},
  };
  const std::vector<std::byte> good = bytes;
  for (const auto &row : rows) {
    bytes = good;
    row.change(header());
    Status status = open();
    EXPECT_EQ(status.code(), row.code) << row.name << ": " << status.to_string();
    EXPECT_THAT(status.message(), HasSubstr(row.says)) << row.name;
  }
  bytes = good;
  header().minor = 9;  // additions that an older reader can ignore
  EXPECT_TRUE(open().ok());
}

// Every bit of header and table, first as it is, then with the table's hash made right again where the table changed.
// Only the minor version is free; a changed alignment may still hold.
TEST_F(PlanTest, FlippedBitsOfHeaderAndTable) {
  const std::vector<std::byte> good = bytes;
  const size_t table_end = sizeof(FileHeader) + header().section_count * sizeof(SectionEntry);
  for (size_t bit = 0; bit < table_end * 8; ++bit) {
    const size_t at = bit / 8;
    bytes[at] ^= static_cast<std::byte>(1 << bit % 8);
    const bool minor = at >= offsetof(FileHeader, minor) && at < offsetof(FileHeader, minor) + sizeof(uint16_t);
    alignas(kWeightSectionAlign) static std::byte room[1 << 20];
    ASSERT_LE(bytes.size(), sizeof(room));
    std::memcpy(room, bytes.data(), bytes.size());
    EXPECT_EQ(Plan::from_memory({room, bytes.size()}, "flipped").ok(), minor) << "byte " << at << ", bit " << bit % 8;
    if (at >= sizeof(FileHeader)) {
      rehash_table();
      std::memcpy(room, bytes.data(), bytes.size());
      const size_t field = (at - sizeof(FileHeader)) % sizeof(SectionEntry);
      const bool alignment = field >= offsetof(SectionEntry, alignment) && field < offsetof(SectionEntry, offset);
      Status status = Plan::from_memory({room, bytes.size()}, "flipped").status();
      EXPECT_TRUE(alignment || !status.ok()) << "byte " << at << ", bit " << bit % 8;
    }
    bytes = good;
  }
}

TEST_F(PlanTest, SectionTable) {
  const struct {
    const char *name;
    std::function<void(PlanTest &)> change;
    const char *says;
  } rows[] = {
      {"unknown kind", [](PlanTest &t) { t.entry(0).kind = 99; }, "unknown kind"},
      {"two META", [](PlanTest &t) { t.entry(0).kind = 1; }, "one META"},
      {"no META", [](PlanTest &t) { t.entry(1).kind = 3; }, "one META"},
      {"no WEIGHTS", [](PlanTest &t) { t.entry(2).kind = 3; }, "WEIGHTS"},
      {"alignment 0", [](PlanTest &t) { t.entry(0).alignment = 0; }, "alignment"},
      {"alignment 96", [](PlanTest &t) { t.entry(0).alignment = 96; }, "alignment"},
      {"weights at 64", [](PlanTest &t) { t.entry(2).alignment = 64; }, "4096"},
      {"odd offset", [](PlanTest &t) { t.entry(1).offset += 8; }, "multiple"},
      {"in the table", [](PlanTest &t) { t.entry(0).offset = 64; }, "begins at byte 64"},
      {"overlap", [](PlanTest &t) { t.entry(1).offset = t.entry(0).offset; }, "begins at"},
      {"order", [](PlanTest &t) { std::swap(t.entry(0), t.entry(1)); }, "begins at"},
      {"beyond", [](PlanTest &t) { t.entry(2).offset += 4096 * 64; }, "beyond"},
      {"offset 2^63", [](PlanTest &t) { t.entry(2).offset = 1ull << 63; }, "beyond"},
      {"size overflows", [](PlanTest &t) { t.entry(2).size = ~0ull - 4095; }, "beyond"},
      {"too small", [](PlanTest &t) { t.entry(2).size -= 4; }, "ends at byte"},
      {"hash", [](PlanTest &t) { ++t.entry(1).hash; }, "hash"},
      {"weights' hash", [](PlanTest &t) { ++t.entry(2).hash; }, "hash"},
  };
  const std::vector<std::byte> good = bytes;
  for (const auto &row : rows) {
    bytes = good;
    row.change(*this);
    rehash_table();
    Status status = open();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << row.name << ": " << status.to_string();
    EXPECT_THAT(status.message(), HasSubstr(row.says)) << row.name;
  }
}

TEST_F(PlanTest, DamagedWeightsAreNoticedUnlessAskedNotTo) {
  bytes.back() ^= std::byte{1};
  EXPECT_EQ(open().code(), StatusCode::kDataLoss);
  PlanOptions options;
  options.verify_weights = false;
  EXPECT_TRUE(Plan::open(path, options).ok());
}

TEST_F(PlanTest, ProgressCancels) {
  PlanOptions options;
  options.progress = [](double, std::string_view) { return false; };
  EXPECT_EQ(Plan::open(path, options).status().code(), StatusCode::kCancelled);
}

// Each bit of META flipped, checked as if the hashes had been made right again: whatever it means then, nothing
// crashes.
TEST_F(PlanTest, FlippedBitsOfMetaNeverCrash) {
  const SectionEntry meta = entry(1);
  std::vector<SectionEntry> table = {entry(0), entry(1), entry(2)};
  std::vector<std::byte> copy(bytes.begin() + static_cast<ptrdiff_t>(meta.offset),
                              bytes.begin() + static_cast<ptrdiff_t>(meta.offset + meta.size));
  int refused = 0;
  for (size_t bit = 0; bit < copy.size() * 8; ++bit) {
    copy[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    Status status = verify_meta(copy, table);
    refused += !status.ok();
    if (!status.ok()) {
      EXPECT_TRUE(status.code() == StatusCode::kDataLoss || status.code() == StatusCode::kUnimplemented ||
                  status.code() == StatusCode::kInvalidArgument)
          << status.to_string();
    }
    copy[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
  EXPECT_TRUE(verify_meta(copy, table).ok());
  EXPECT_GT(refused, static_cast<int>(copy.size()));
}

// Work with these figures and no others.
plan::Work work(int per, uint64_t bytes_fixed, uint64_t bytes_key, uint64_t base, uint64_t every) {
  return plan::Work(static_cast<plan::RowCount>(per), bytes_fixed, 0, bytes_key, 0, 0, base, every);
}

TEST_F(PlanTest, ContradictoryMeta) {
  const struct {
    const char *name;
    std::function<void(ToyPlan &)> change;
    const char *says;
  } rows[] = {
      {"vocab 0", [](ToyPlan &t) { t.vocab = 0; }, "vocabulary"},
      {"vocab 2^31", [](ToyPlan &t) { t.vocab = 1u << 31; }, "vocabulary"},
      {"vocab beyond arena", [](ToyPlan &t) { t.vocab = 1000; }, "logits"},
      {"bos", [](ToyPlan &t) { t.bos = 37; }, "first token 37"},
      {"eos", [](ToyPlan &t) { t.eos = {2, 37}; }, "end token 37"},
      {"eos negative", [](ToyPlan &t) { t.eos = {-1}; }, "end token -1"},
      {"top_p", [](ToyPlan &t) { t.top_p = 7; }, "top_p"},
      {"requests", [](ToyPlan &t) { t.requests = 0; }, "requests"},
      {"context", [](ToyPlan &t) { t.context = 0; }, "tokens"},
      {"context 2^32", [](ToyPlan &t) { t.context = ~0u; }, "tokens"},
      {"pages", [](ToyPlan &t) { t.kv_pages = 14; }, "kv_pages"},
      {"pages too few for args", [](ToyPlan &t) { t.kv_pages = 2; }, "kv_pages"},
      {"no ranks", [](ToyPlan &t) { t.ranks = 0; }, "ranks"},
      {"two ranks", [](ToyPlan &t) { t.ranks = 2; }, "ranks"},
      {"variant's section", [](ToyPlan &t) { t.variants[0].section = 3; }, "section 3"},
      {"variant is META", [](ToyPlan &t) { t.variants[0].section = 1; }, "not a HOST_OBJECT"},
      {"weight's rank", [](ToyPlan &t) { t.weights[0].rank = 1; }, "rank 1"},
      {"weight unaligned", [](ToyPlan &t) { t.weights[0].offset = 64; }, "multiple of 256"},
      {"weight beyond", [](ToyPlan &t) { t.weights[0].size += 4; }, "within the section"},
      {"weight overflows", [](ToyPlan &t) { t.weights[0].offset = ~0ull - 255; }, "within the section"},
      {"weight empty", [](ToyPlan &t) { t.weights[0].size = 0; }, "0 bytes"},
      {"weight's shape", [](ToyPlan &t) { t.weights[0].shape[0] = 38; }, "its shape needs"},
      {"weight's shape 0", [](ToyPlan &t) { t.weights[0].shape[0] = 0; }, "extent of 0"},
      {"weight's shape overflows", [](ToyPlan &t) { t.weights[0].shape = {1ull << 33, 1ull << 33}; }, "too many"},
      {"weights overlap", [](ToyPlan &t) { t.weights.push_back(t.weights[0]); }, "overlap"},
      {"state's pages", [](ToyPlan &t) { t.states[0].page_bytes = 64; }, "pages of 64 bytes"},
      {"state's heads overflow", [](ToyPlan &t) { t.states[0].heads = t.states[0].k = ~0u; }, "state"},
      {"state's dtype", [](ToyPlan &t) { t.states[0].elem = static_cast<plan::Dtype>(77); }, "unknown"},
      {"state's kind", [](ToyPlan &t) { t.states[0].kind = static_cast<plan::StateKind>(5); }, "unknown"},
      {"slots of 0 bytes", [](ToyPlan &t) { t.states[0].kind = plan::StateKind::Recurrent; }, "slots"},
      {"symbol", [](ToyPlan &t) { t.kernels[1].symbol.clear(); }, "without a symbol"},
      {"scratch", [](ToyPlan &t) { t.kernels[1].scratch = 1000; }, "worker_scratch"},
      {"scratch 2^63", [](ToyPlan &t) { t.kernels[1].scratch = 1ull << 63; }, "scratch"},
      {"no buckets", [](ToyPlan &t) { t.buckets.clear(); }, "no buckets"},
      {"buckets descend", [](ToyPlan &t) { std::swap(t.buckets[0], t.buckets[1]); }, "ascend"},
      {"same bucket", [](ToyPlan &t) { t.buckets[1] = t.buckets[0]; }, "ascend"},
      {"bucket without tokens", [](ToyPlan &t) { t.buckets[0].tokens = 0; }, "at least one token"},
      {"more sequences", [](ToyPlan &t) { t.buckets[0].sequences = 2; }, "no more sequences"},
      {"more rows", [](ToyPlan &t) { t.buckets[0].logit_rows = 2; }, "no more"},
      {"arena", [](ToyPlan &t) { t.buckets[2].arena_bytes += 4096; }, "memory.arena"},
      {"arena too small", [](ToyPlan &t) { t.buckets[2].arena_bytes = 256; }, "arena"},
      {"arena 2^63", [](ToyPlan &t) { t.buckets[2].arena_bytes = 1ull << 63; }, "arena"},
      {"logits", [](ToyPlan &t) { t.buckets[2].logits_offset += 4; }, "logits"},
      {"logits overflow", [](ToyPlan &t) { t.buckets[2].logits_offset = ~0ull - 3; }, "logits"},
      {"logits unaligned", [](ToyPlan &t) { t.buckets[2].logits_offset -= 2; }, "logits"},
      {"kernel", [](ToyPlan &t) { t.buckets[1].launches[0].kernel = 4; }, "kernel 4 of 4"},
      {"tiles per", [](ToyPlan &t) { t.buckets[1].launches[0].per = static_cast<plan::RowCount>(9); }, "row count 9"},
      {"rows per tile", [](ToyPlan &t) { t.buckets[1].launches[0].rows_per_tile = 0; }, "0 rows per tile"},
      {"no tiles", [](ToyPlan &t) { t.buckets[1].launches[0].tiles_fixed = 0; }, "0 tiles"},
      {"tiles overflow", [](ToyPlan &t) { t.buckets[1].launches[0].tiles_fixed = 1ull << 62; }, "tiles"},
      {"work per", [](ToyPlan &t) { t.buckets[1].launches[0].work = work(9, 1, 0, 0, 0); }, "row count 9"},
      {"work sees nothing", [](ToyPlan &t) { t.buckets[1].launches[0].work = work(1, 0, 8, 0, 0); }, "8 bytes a key"},
      {"work sees no keys", [](ToyPlan &t) { t.buckets[1].launches[0].work = work(1, 1, 0, 64, 0); },
       "64 and one of 0"},
      {"work's bytes", [](ToyPlan &t) { t.buckets[1].launches[0].work = work(1, ~0ull, 0, 0, 0); }, "out of range"},
      {"work's keys", [](ToyPlan &t) { t.buckets[1].launches[0].work = work(1, 0, 1ull << 60, 0, 1); }, "out of range"},
      {"work's base", [](ToyPlan &t) { t.buckets[1].launches[0].work = work(1, 0, 1, ~0ull, 1); }, "out of range"},
      {"weights figure", [](ToyPlan &t) { ++t.memory.weights; }, "memory.weights"},
      {"kv figure", [](ToyPlan &t) { --t.memory.kv; }, "memory.kv"},
      {"tables figure", [](ToyPlan &t) { t.memory.tables = 0; }, "memory.tables"},
  };
  const std::vector<SectionEntry> table = {entry(0), entry(1), entry(2)};
  for (const auto &row : rows) {
    ToyPlan toy = toy::toy_plan();
    row.change(toy);
    Status status = verify_meta(toy.meta(), table);
    EXPECT_FALSE(status.ok()) << row.name;
    EXPECT_THAT(status.message(), HasSubstr(row.says)) << row.name;
  }
  const struct {
    const char *name;
    plan::Arg arg;
  } args[] = {
      {"weight's index", {plan::ArgKind::Weight, plan::Access::Read, 1, 0, 4}},
      {"weight written", {plan::ArgKind::Weight, plan::Access::Write, 0, 0, 4}},
      {"weight beyond", {plan::ArgKind::Weight, plan::Access::Read, 0, 1184, 4}},
      {"state's index", {plan::ArgKind::State, plan::Access::Read, 1, 0, 4}},
      {"state beyond", {plan::ArgKind::State, plan::Access::Read, 0, 4096, 13 * 4096}},
      {"arena's index", {plan::ArgKind::Arena, plan::Access::Read, 1, 0, 4}},
      {"arena beyond", {plan::ArgKind::Arena, plan::Access::Read, 0, 1ull << 40, 4}},
      {"arena overflow", {plan::ArgKind::Arena, plan::Access::Read, 0, ~0ull - 3, 8}},
      {"kind", {static_cast<plan::ArgKind>(3), plan::Access::Read, 0, 0, 4}},
      {"access", {plan::ArgKind::Arena, static_cast<plan::Access>(3), 0, 0, 4}},
  };
  for (const auto &row : args) {
    ToyPlan toy = toy::toy_plan();
    toy.buckets[1].launches[2].args[0] = row.arg;
    Status status = verify_meta(toy.meta(), table);
    EXPECT_FALSE(status.ok()) << row.name;
    EXPECT_THAT(status.message(), HasSubstr("bucket \"t4\", launch 2")) << row.name;
    EXPECT_THAT(status.message(), HasSubstr("argument 0")) << row.name;
  }
}

TEST_F(PlanTest, AFileThatShrinksLaterIsAnError) {
  auto plan = Plan::open(path);
  ASSERT_TRUE(plan.ok());
  auto engine = Engine::load(std::move(*plan));
  ASSERT_TRUE(engine.ok()) << engine.status().to_string();
  const int32_t token = 3;
  const PageList pages{1};
  StepSequence sequence{{&token, 1}, 0, {&pages, 1}, LogitRows::kLast};
  ASSERT_TRUE((*engine)->step({&sequence, 1}).ok());
  ASSERT_EQ(truncate(path.c_str(), 4096), 0);
  Status status = (*engine)->step({&sequence, 1}).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("renaming"));
}

TEST_F(PlanTest, WriterLeavesTheOldFileUntilItIsDone) {
  const std::vector<std::byte> before = toy::read_file(path);
  {
    auto writer = PlanWriter::create(path);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->begin_weights().ok());
    EXPECT_FALSE(writer->add_section(SectionKind::kMeta, {}).ok());
    EXPECT_TRUE(writer->pad_weights_to(5000).ok());
    EXPECT_EQ(writer->weights_size(), 5000u);
    EXPECT_EQ(writer->pad_weights_to(4999).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(toy::read_file(path), before);
}

TEST(Plan, NotAFile) {
  EXPECT_EQ(Plan::open("/nonexistent/plan.mili").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Plan::open("/dev/null").status().code(), StatusCode::kInvalidArgument);
}

TEST(Memory, FiguresByHand) {
  MemoryInputs inputs{2, 100, 1000, {{true, 3, 64, 32, 2, 0}, {false, 0, 0, 0, 0, 500}}, {{4, 2, 4, 1000}}, {65, 7}};
  auto figures = plan_memory(inputs);
  ASSERT_TRUE(figures.ok());
  EXPECT_EQ(figures->kv_pages, 5u);
  EXPECT_EQ(figures->kv, 5u * 64 * 3 * 96 * 2 + 3 * 500);
  EXPECT_EQ(figures->arena, 1024u);
  EXPECT_EQ(figures->worker_scratch, 128u);
  EXPECT_EQ(figures->tables,
            128 + 7u * 64 + 2u * 64);  // the batch, seven tables in a line each, two sequences' sampling
  EXPECT_EQ(figures->total(2), 1000 + figures->kv + 1024 + figures->tables + 256);
  // Beside it a state that keeps a window of 30: with a step of 4 tokens 33 positions, which lie in two pages at most.
  inputs.states.push_back({true, 1, 8, 8, 4, 0, 30});
  figures = plan_memory(inputs);
  ASSERT_TRUE(figures.ok());
  ASSERT_EQ(figures->page_tables.size(), 2u);
  EXPECT_EQ(figures->page_tables[1].ring, 2u);
  EXPECT_EQ(figures->page_tables[1].pages, 5u);
  EXPECT_EQ(figures->kv_pages, 10u);
  EXPECT_EQ(figures->kv, 5u * 64 * 3 * 96 * 2 + 3 * 500 + 5u * 64 * 16 * 4);
  EXPECT_EQ(figures->tables, 128 + 7u * 64 + 2u * 64);  // two tables of 2 sequences and 2 pages: one line still
  // The same ring however long the context; a window that is longer takes what the context takes.
  inputs.context = 100000;
  EXPECT_EQ(plan_memory(inputs)->page_tables[1].pages, 5u);
  inputs.states.back().window = 99990;
  EXPECT_EQ(plan_memory(inputs)->page_tables[1].ring, 1563u);
  inputs.states.back().window = ~0ull;
  EXPECT_EQ(plan_memory(inputs)->page_tables[1].ring, 1563u);
  EXPECT_EQ(page_table_index({4096, 0, 4096, 512}, 4096), 2u);
  inputs.states[0].heads = inputs.states[0].k = ~0ull >> 3;
  EXPECT_FALSE(plan_memory(inputs).ok());
}

}  // namespace
}  // namespace mili
