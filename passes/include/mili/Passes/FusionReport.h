//===- FusionReport.h - what was merged and fused, and why not ----*- C++ -*-===//
//
// The data behind `mili-compile --explain`. Passes append to a report that their creator owns; the driver prints it.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_PASSES_FUSIONREPORT_H
#define MILI_PASSES_FUSIONREPORT_H

#include <cstdint>
#include <string>
#include <vector>

namespace llvm {
class raw_ostream;
}  // namespace llvm

namespace mlir::mili {

/// Linears that read the same value, and whether they became one product.
struct MergeRecord {
  std::string function;
  std::vector<std::string> linears;  // source names, in program order
  std::string kind;                  // "qkv" or "gate-up"
  bool merged = false;
  std::string reason;
};

/// One candidate of fusion: a value that goes from one compute op to another.
struct FusionEdge {
  std::string function;
  int64_t tokens = 0;    // bound of the function's bucket
  std::string producer;  // source name of each end, e.g. "layers.0.attn.norm"
  std::string consumer;
  std::string kind;  // "<producer op>-<consumer op>", what `disable` takes
  bool fused = false;
  int64_t bytesSaved = 0;  // traffic of one step at the bucket's bound that fusing removed; 0 when separate
  std::string reason;
};

/// A group as it came out.
struct FusionGroup {
  std::string function;
  int64_t tokens = 0;
  std::string name;
  std::string hero;              // op name
  std::vector<std::string> ops;  // source names, in order of execution
};

struct FusionReport {
  std::vector<MergeRecord> merges;
  std::vector<FusionEdge> edges;
  std::vector<FusionGroup> groups;

  /// For people: rows that agree but for the numbers in their names (`layers.3.mlp`) are printed once, with `*` for the
  /// number, and the buckets for which they hold are listed.
  void printTable(llvm::raw_ostream &os) const;
  /// For tools: one object with the arrays `merges`, `edges` and `groups`, fields as above, nothing collapsed.
  void printJson(llvm::raw_ostream &os) const;
};

}  // namespace mlir::mili

#endif  // MILI_PASSES_FUSIONREPORT_H
