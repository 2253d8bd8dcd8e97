// Small modules in the mili dialect for random shapes, each with its weights, the steps to run and an f64 reference of
// every value: what ops_test compiles and compares. Free of the compiler, so that a GPU machine can make the same cases
// again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace mili::testing {

// [shape] as bf16; the values are exactly representable.
struct Weight {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

// Tokens of one sequence in a step, behind those that it has.
struct Piece {
  int sequence;
  int tokens;
};

// A step as the reference sees it: rows are tokens.
struct Rows {
  std::vector<int> token, sequence, position;
};

// What the reference computes: values by name, rows by features; keys and values of each sequence, grown by append().
struct Reference {
  bool bf16 = false;  // activations and state
  std::map<std::string, std::vector<double>> values;
  std::vector<std::vector<double>> keys, others;  // [sequence]: rows of all KV heads

  double round(double x) const;  // to an activation's type
};

struct Node {
  std::string name;
  int width;
  std::function<void(Reference &, const Rows &)> compute;
};

struct Case {
  std::string name;  // "attention-3"
  uint64_t seed;
  std::string body;  // of @forward, with ACT for the type of activations
  std::string head;  // aliases and states
  std::map<std::string, Weight> weights;
  std::vector<Node> nodes;  // in order
  std::vector<std::vector<Piece>> steps;
  int vocab = 0, context = 0, requests = 0, prefill_tokens = 0;
  std::vector<std::string> disabled_fusions;
  bool merge_projections = true;

  std::string module(bool bf16) const;
};

// The kinds of cases: "linear", "gated", "norm", "deep" and "broad" for products of many rows, "attention",
// and "long" for attention over many pages.
const std::vector<std::string> &case_kinds();
// The case of that kind and seed, always the same.
Case make_case(const std::string &kind, uint64_t seed);

}  // namespace mili::testing
