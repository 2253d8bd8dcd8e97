// What --explain prints.
#include "mili/Passes/FusionReport.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

using mlir::mili::FusionEdge;
using mlir::mili::FusionReport;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

std::string table(const FusionReport &report) {
  std::string text;
  llvm::raw_string_ostream os(text);
  report.printTable(os);
  return text;
}

/// The table's lines without the account of functions at their end, runs of spaces as one.
std::vector<std::string> lines(const FusionReport &report) {
  std::vector<std::string> result(1);
  for (char c : table(report)) {
    if (c == '\n')
      result.emplace_back();
    else if (c != ' ' || (!result.back().empty() && result.back().back() != ' '))
      result.back() += c;
  }
  result.pop_back();
  const auto account =
      std::find(result.begin(), result.end(), "function tokens ops groups recomputed fused edges bytes saved");
  EXPECT_NE(account, result.end());
  if (account != result.end())
    result.erase(account, result.end());
  if (!result.empty() && result.back().empty())
    result.pop_back();
  return result;
}

FusionEdge edge(int layer, int64_t tokens, bool fused, int64_t bytes, std::string reason) {
  std::string prefix = "layers." + std::to_string(layer) + ".";
  return {"forward_t" + std::to_string(tokens),
          tokens,
          prefix + "norm",
          prefix + "qkv",
          0,
          1,
          {0},
          "rms_norm-linear",
          fused,
          bytes,
          std::move(reason)};
}

TEST(FusionReport, LayersThatAgreeAreOneRow) {
  FusionReport report;
  for (int layer = 0; layer < 12; ++layer)
    report.edges.push_back(edge(layer, 1, true, 2048, "input of layers." + std::to_string(layer) + ".attn, 0.4 us"));
  EXPECT_THAT(lines(report),
              ElementsAre("edge kind tokens decision bytes saved times why",
                          "layers.*.norm → layers.*.qkv rms_norm-linear any fused 2.0 KB/token 12 input of "
                          "layers.*.attn, 0.4 us"));
  EXPECT_THAT(table(report), HasSubstr("12 of 12"));
}

TEST(FusionReport, BucketsThatDifferAreRowsOfOneEdge) {
  FusionReport report;
  for (int64_t tokens : {1, 16, 512})
    for (int layer : {0, 1}) {
      report.edges.push_back(
          edge(layer, tokens, tokens < 512, tokens < 512 ? 100 * tokens : 0, tokens < 512 ? "yes" : "no"));
      report.edges.push_back({"f", tokens, "a", "b", 2, 3, {0}, "add-linear", false, 0, "never"});
    }
  EXPECT_THAT(lines(report), ElementsAre("edge kind tokens decision bytes saved times why",
                                         "layers.*.norm → layers.*.qkv rms_norm-linear ≤ 1, 16 fused 100 B/token 2 yes",
                                         "layers.*.norm → layers.*.qkv rms_norm-linear ≤ 512 separate – 2 no",
                                         "a → b add-linear any separate – 2 never"));
}

TEST(FusionReport, NamesThatMerelyHaveDigitsAreKept) {
  FusionReport report;
  report.edges.push_back({"f", 1, "fc1.2", "layers.3.fc2", 0, 1, {0}, "linear-linear", false, 0, "1.5.2 and 3.14 us"});
  EXPECT_THAT(table(report), HasSubstr("fc1.2 → layers.*.fc2"));
  EXPECT_THAT(table(report), HasSubstr("1.5.2 and 3.14 us"));
}

TEST(FusionReport, MergesComeFirst) {
  FusionReport report;
  report.merges.push_back({"forward", {"layers.0.q", "layers.0.k"}, "qkv", true, "one input, stored as q4_1"});
  report.merges.push_back({"forward", {"layers.1.q", "layers.1.k"}, "qkv", true, "one input, stored as q4_1"});
  report.merges.push_back(
      {"forward", {"layers.1.v"}, "qkv", false, "weights are stored in different formats (q4_1, q8_0)"});
  EXPECT_THAT(lines(report),
              ElementsAre("projections of one input kind decision times why",
                          "layers.*.q, layers.*.k qkv merged 2 one input, stored as q4_1",
                          "layers.*.v qkv separate 1 weights are stored in different formats (q4_1, q8_0)", "",
                          "edge kind tokens decision bytes saved times why"));
}

TEST(FusionReport, JsonKeepsEverything) {
  FusionReport report;
  report.merges.push_back({"forward", {"q \"quoted\"", "k"}, "qkv", false, "switched off"});
  report.edges.push_back(edge(3, 16, true, 4096, "epilogue"));
  report.groups.push_back({"forward_t16", 16, 0, "qkv", "mili.linear", {"norm", "qkv"}});
  std::string text;
  llvm::raw_string_ostream os(text);
  report.printJson(os);
  llvm::Expected<llvm::json::Value> parsed = llvm::json::parse(text);
  ASSERT_TRUE(static_cast<bool>(parsed)) << text;
  const llvm::json::Object &root = *parsed->getAsObject();
  const llvm::json::Object &merge = *(*root.getArray("merges"))[0].getAsObject();
  EXPECT_EQ((*merge.getArray("linears"))[0].getAsString(), std::optional<llvm::StringRef>("q \"quoted\""));
  EXPECT_EQ(merge.getBoolean("merged"), false);
  const llvm::json::Object &first = *(*root.getArray("edges"))[0].getAsObject();
  EXPECT_EQ(first.getString("producer"), "layers.3.norm");
  EXPECT_EQ(first.getInteger("bytes_saved"), 4096);
  EXPECT_EQ(first.getInteger("tokens"), 16);
  EXPECT_EQ(first.getBoolean("fused"), true);
  const llvm::json::Object &group = *(*root.getArray("groups"))[0].getAsObject();
  EXPECT_EQ(group.getString("hero"), "mili.linear");
  EXPECT_EQ(group.getArray("ops")->size(), 2u);
}

}  // namespace
