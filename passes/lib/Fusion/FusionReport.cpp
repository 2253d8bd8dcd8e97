//===- FusionReport.cpp - the tables of --explain ---------------------------===//
#include "mili/Passes/FusionReport.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <map>
#include <set>

using namespace llvm;

namespace mlir::mili {

/// "layers.12.mlp" as "layers.*.mlp": a component of a dotted name that is all digits becomes '*'. Works inside
/// sentences too.
static std::string collapse(StringRef text) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && isDigit(text[end]))
      ++end;
    bool component = end > i && i > 0 && text[i - 1] == '.' && end < text.size() && text[end] == '.';
    // "0.4 us" is a number: its digits before the point follow no point of their own; "layers.0.attn" is a name.
    if (component && i > 1 && !isDigit(text[i - 2])) {
      result += '*';
      i = end;
      continue;
    }
    result += text[i++];
    while (end > i && i < text.size() && isDigit(text[i]))
      result += text[i++];
  }
  return result;
}

static std::string bytesText(double bytes) {
  std::string text;
  raw_string_ostream os(text);
  if (bytes < 1024)
    os << format("%.0f B", bytes);
  else if (bytes < 1024.0 * 1024)
    os << format("%.1f KB", bytes / 1024);
  else
    os << format("%.1f MB", bytes / (1024.0 * 1024));
  return text;
}

static void printColumns(raw_ostream &os, ArrayRef<std::vector<std::string>> rows) {
  std::vector<size_t> widths;
  for (const auto &row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      widths.resize(std::max(widths.size(), i + 1));
      // Arrows and dashes are UTF-8: count characters, not bytes.
      size_t characters = count_if(row[i], [](char c) { return (c & 0xC0) != 0x80; });
      widths[i] = std::max(widths[i], characters);
    }
  for (const auto &row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      os << row[i];
      if (i + 1 == row.size())
        break;
      size_t characters = count_if(row[i], [](char c) { return (c & 0xC0) != 0x80; });
      os.indent(widths[i] - characters + 2);
    }
    os << '\n';
  }
}

/// Values by key, in the order in which keys came first.
template <typename T>
class OrderedRows {
public:
  T &operator[](const std::string &key) {
    auto [it, inserted] = index.try_emplace(key, rows.size());
    if (inserted)
      rows.emplace_back();
    return rows[it->second];
  }
  auto begin() const { return rows.begin(); }
  auto end() const { return rows.end(); }

private:
  StringMap<size_t> index;
  std::vector<T> rows;
};

void FusionReport::printTable(raw_ostream &os) const {
  if (!merges.empty()) {
    OrderedRows<std::pair<std::vector<std::string>, int>> unique;
    for (const MergeRecord &merge : merges) {
      std::string names;
      for (const std::string &linear : merge.linears)
        names += (names.empty() ? "" : ", ") + collapse(linear);
      std::vector<std::string> row{names, merge.kind, merge.merged ? "merged" : "separate", collapse(merge.reason)};
      auto &entry = unique[join(row, "\1")];
      entry.first = row;
      ++entry.second;
    }
    std::vector<std::vector<std::string>> rows{{"projections of one input", "kind", "decision", "times", "why"}};
    for (const auto &[row, times] : unique)
      rows.push_back({row[0], row[1], row[2], std::to_string(times), row[3]});
    printColumns(os, rows);
    os << '\n';
  }

  std::set<int64_t> allTokens;
  for (const FusionEdge &edge : edges)
    allTokens.insert(edge.tokens);
  struct Row {
    std::vector<std::string> cells;  // edge, kind, decision, bytes, why
    std::map<int64_t, int> times;    // by bucket
  };
  // By edge first, so that what was decided for its buckets stands together.
  OrderedRows<OrderedRows<Row>> unique;
  for (const FusionEdge &edge : edges) {
    std::string bytes = "–";
    if (edge.fused && edge.bytesSaved && edge.tokens)
      bytes = bytesText(static_cast<double>(edge.bytesSaved) / static_cast<double>(edge.tokens)) + "/token";
    std::vector<std::string> cells{collapse(edge.producer) + " → " + collapse(edge.consumer), edge.kind,
                                   edge.fused ? "fused" : "separate", bytes, collapse(edge.reason)};
    Row &row = unique[cells[0] + "\1" + cells[1]][join(cells, "\1")];
    row.cells = cells;
    ++row.times[edge.tokens];
  }
  std::vector<std::vector<std::string>> rows{{"edge", "kind", "tokens", "decision", "bytes saved", "times", "why"}};
  for (const OrderedRows<Row> &decisions : unique)
    for (const Row &row : decisions) {
      std::string tokens = "any";
      if (row.times.size() != allTokens.size()) {
        tokens.clear();
        for (auto [bound, times] : row.times)
          tokens += (tokens.empty() ? "≤ " : ", ") + std::to_string(bound);
      }
      int times = 0;
      for (auto [bound, count] : row.times)
        times = std::max(times, count);
      rows.push_back(
          {row.cells[0], row.cells[1], tokens, row.cells[2], row.cells[3], std::to_string(times), row.cells[4]});
    }
  printColumns(os, rows);

  struct Account {
    std::string function;
    int64_t tokens = 0, ops = 0, groups = 0, recomputed = 0, edges = 0, fused = 0, bytes = 0;
  };
  OrderedRows<Account> accounts;
  auto account = [&](const auto &entry) -> Account & {
    Account &of = accounts[entry.function];
    of.function = entry.function;
    of.tokens = entry.tokens;
    return of;
  };
  for (const FusionOp &op : ops) {
    ++account(op).ops;
    account(op).recomputed += op.recomputed;
  }
  for (const FusionGroup &group : groups)
    ++account(group).groups;
  for (const FusionEdge &edge : edges) {
    Account &of = account(edge);
    ++of.edges;
    of.fused += edge.fused;
    of.bytes += edge.bytesSaved;
  }
  rows = {{"function", "tokens", "ops", "groups", "recomputed", "fused edges", "bytes saved"}};
  for (const Account &of : accounts)
    rows.push_back({of.function, "≤ " + std::to_string(of.tokens), std::to_string(of.ops), std::to_string(of.groups),
                    std::to_string(of.recomputed), std::to_string(of.fused) + " of " + std::to_string(of.edges),
                    bytesText(static_cast<double>(of.bytes)) + "/step"});
  os << '\n';
  printColumns(os, rows);
}

void FusionReport::printJson(raw_ostream &os) const {
  json::OStream json(os, /*IndentSize=*/2);
  auto strings = [&](StringRef name, ArrayRef<std::string> values) {
    json.attributeArray(name, [&] {
      for (const std::string &value : values)
        json.value(value);
    });
  };
  auto integers = [&](StringRef name, ArrayRef<int64_t> values) {
    json.attributeArray(name, [&] {
      for (int64_t value : values)
        json.value(value);
    });
  };
  json.object([&] {
    json.attributeArray("merges", [&] {
      for (const MergeRecord &merge : merges)
        json.object([&] {
          json.attribute("function", merge.function);
          strings("linears", merge.linears);
          json.attribute("kind", merge.kind);
          json.attribute("merged", merge.merged);
          json.attribute("reason", merge.reason);
        });
    });
    json.attributeArray("ops", [&] {
      for (const FusionOp &op : ops)
        json.object([&] {
          json.attribute("function", op.function);
          json.attribute("tokens", op.tokens);
          json.attribute("index", op.index);
          json.attribute("name", op.name);
          json.attribute("op", op.op);
          integers("groups", op.groups);
          json.attribute("recomputed", op.recomputed);
        });
    });
    json.attributeArray("edges", [&] {
      for (const FusionEdge &edge : edges)
        json.object([&] {
          json.attribute("function", edge.function);
          json.attribute("tokens", edge.tokens);
          json.attribute("producer", edge.producer);
          json.attribute("consumer", edge.consumer);
          json.attribute("producer_op", edge.producerOp);
          json.attribute("consumer_op", edge.consumerOp);
          integers("values", edge.values);
          json.attribute("kind", edge.kind);
          json.attribute("fused", edge.fused);
          json.attribute("bytes_saved", edge.bytesSaved);
          json.attribute("reason", edge.reason);
        });
    });
    json.attributeArray("groups", [&] {
      for (const FusionGroup &group : groups)
        json.object([&] {
          json.attribute("function", group.function);
          json.attribute("tokens", group.tokens);
          json.attribute("index", group.index);
          json.attribute("name", group.name);
          json.attribute("hero", group.hero);
          strings("ops", group.ops);
        });
    });
  });
  os << '\n';
}

}  // namespace mlir::mili
