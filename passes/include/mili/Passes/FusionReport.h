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

/// A compute op of a function as it was before fusion, and where it went: into one group, or recomputed in some.
struct FusionOp {
  std::string function;
  int64_t tokens = 0;           // bound of the function's bucket
  int64_t index = 0;            // among the function's compute ops, in program order
  std::string name;             // in the source, e.g. "layers.0.attn.norm"
  std::string op;               // "mili.rms_norm"
  std::vector<int64_t> groups;  // indices of the function's groups that run it: one, unless recomputed
  bool recomputed = false;
};

/// One candidate of fusion: the values that go from one compute op to another.
struct FusionEdge {
  std::string function;
  int64_t tokens = 0;    // bound of the function's bucket
  std::string producer;  // source name of each end
  std::string consumer;
  int64_t producerOp = 0, consumerOp = 0;  // `FusionOp::index` of each end
  std::vector<int64_t> values;             // numbers of the producer's results
  std::string kind;                        // "<producer op>-<consumer op>", what `disable` takes
  bool fused = false;
  int64_t bytesSaved = 0;  // traffic of one step at the bucket's bound that fusing removes; 0 when separate
  std::string reason;
};

/// A group as it came out.
struct FusionGroup {
  std::string function;
  int64_t tokens = 0;
  int64_t index = 0;  // among the function's groups
  std::string name;
  std::string hero;              // op name
  std::vector<std::string> ops;  // source names, in order of execution
};

struct FusionReport {
  std::vector<MergeRecord> merges;
  std::vector<FusionOp> ops;
  std::vector<FusionEdge> edges;
  std::vector<FusionGroup> groups;

  /// For people: rows that agree but for the numbers in their names (`layers.3.mlp`) are printed once, with `*` for the
  /// number, and the buckets for which they hold are listed. Ends with the account of each function: its ops, how many
  /// groups run them, how many are recomputed, how many edges are fused and what that saves.
  void printTable(llvm::raw_ostream &os) const;
  /// For tools: one object with the arrays `merges`, `ops`, `edges` and `groups`, fields as above in snake_case,
  /// nothing collapsed.
  void printJson(llvm::raw_ostream &os) const;
};

}  // namespace mlir::mili

#endif  // MILI_PASSES_FUSIONREPORT_H
