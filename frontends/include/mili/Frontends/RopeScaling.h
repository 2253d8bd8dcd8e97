//===- RopeScaling.h - rotary frequencies of every published scaling --------===//
//
// A model file gives a base and the parameters of a scaling; `mili.rope` takes the resulting frequencies. This is the
// one place that knows the formulas. Free of MLIR.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_FRONTENDS_ROPESCALING_H
#define MILI_FRONTENDS_ROPESCALING_H

#include "mili/runtime/status.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mili {
class JsonFields;
}  // namespace mili

namespace mlir::mili {

enum class RopeScaling {
  kDefault,   // RoFormer, arXiv 2104.09864
  kLinear,    // positions divided by `factor`, arXiv 2306.15595
  kLlama3,    // low frequencies divided by `factor`, high ones kept, a ramp between (Llama 3.1)
  kYarn,      // "NTK by parts" and an attention factor, arXiv 2309.00071
  kLongRope,  // one divisor a frequency, two sets of them, arXiv 2402.13753
  kDivisors,  // one divisor a frequency, given by the file (ggml's rope_freqs tensor)
};

struct RopeParameters {
  RopeScaling scaling = RopeScaling::kDefault;
  double theta = 10000.0;
  /// Elements of a head that rotate; even.
  int64_t rotaryDims = 0;
  /// Tokens the model was trained for, scaling included, and before it.
  int64_t trainedContext = 0;
  int64_t originalContext = 0;
  /// Absent: trainedContext / originalContext (YaRN, LongRoPE).
  std::optional<double> factor;
  double lowFrequencyFactor = 1.0;
  double highFrequencyFactor = 4.0;
  /// What cosine and sine are multiplied by; absent: the scaling's own formula.
  std::optional<double> attentionFactor;
  double betaFast = 32.0;
  double betaSlow = 1.0;
  std::optional<double> mscale;
  std::optional<double> mscaleAllDim;
  /// YaRN: round the ends of the ramp outwards to whole dimensions.
  bool truncate = true;
  /// LongRoPE: rotaryDims / 2 divisors each. kDivisors: `shortFactors` alone.
  std::vector<double> shortFactors;
  std::vector<double> longFactors;
};

struct RopeTable {
  /// "default", "linear", "llama3", "yarn", "longrope-short", "longrope-long", "divisors"; for people.
  std::string kind;
  float amplitude = 1.0f;
  /// Radians per position, rotaryDims / 2 of them.
  std::vector<float> frequencies;
};

/// The table for a plan that serves `context` tokens a sequence: LongRoPE's long factors if that is more than
/// `originalContext`, else the short ones. Computed in float, operation by operation as Hugging Face transformers does,
/// so that both agree to the rounding of `pow`. Errors: invalid argument, naming the parameter.
::mili::StatusOr<RopeTable> computeRope(const RopeParameters &parameters, int64_t context);

/// What a family's configuration class adds to the spelling of RoPE parameters that all share.
struct RopeDefaults {
  double theta = 10000.0;
  /// The class has its own `original_max_position_embeddings` of this default, which overrides the one among the RoPE
  /// parameters; 0: it has none.
  int64_t originalContext = 0;
  /// Older names that this family gave to LongRoPE.
  std::vector<std::string> longRopeNames;
};

/// Reads config.json's RoPE fields in both spellings: `rope_parameters` (theta inside), or `rope_theta` and
/// `rope_scaling`. `headDim` times the partial rotary factor gives the rotary dimensions. Errors stick to `fields`;
/// a type of scaling without a formula here ("dynamic", ...) is refused by name.
RopeParameters readRopeParameters(::mili::JsonFields &fields, int64_t headDim, int64_t trainedContext,
                                  const RopeDefaults &defaults);

}  // namespace mlir::mili

#endif  // MILI_FRONTENDS_ROPESCALING_H
