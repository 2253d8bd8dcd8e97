//===- RopeScaling.cpp ------------------------------------------------------===//
#include "mili/Frontends/RopeScaling.h"

#include "mili/Frontends/JsonFields.h"

#include <algorithm>
#include <cmath>
#include <numbers>

using ::mili::JsonFields;
using ::mili::StatusOr;

namespace mlir::mili {

/// theta^(2i / dims) of each pair, in float.
static std::vector<float> wavelengthsOverTwoPi(const RopeParameters &parameters) {
  std::vector<float> powers(parameters.rotaryDims / 2);
  for (size_t i = 0; i < powers.size(); ++i)
    powers[i] = std::pow(static_cast<float>(parameters.theta),
                         static_cast<float>(2 * i) / static_cast<float>(parameters.rotaryDims));
  return powers;
}

/// Between the wavelengths of the two bounds the frequency slides from unscaled to divided by the factor.
static void scaleLlama3(const RopeParameters &parameters, float factor, std::vector<float> &frequencies) {
  const double original = static_cast<double>(parameters.originalContext);
  const auto low = static_cast<float>(parameters.lowFrequencyFactor);
  const auto high = static_cast<float>(parameters.highFrequencyFactor);
  const auto longest = static_cast<float>(original / parameters.lowFrequencyFactor);
  const auto shortest = static_cast<float>(original / parameters.highFrequencyFactor);
  for (float &frequency : frequencies) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    if (wavelength > longest) {
      frequency /= factor;
    } else if (!(wavelength < shortest)) {
      const float smooth = (static_cast<float>(original) / wavelength - low) / (high - low);
      frequency = (1 - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

/// The (fractional) dimension whose pair turns `rotations` times over the original context.
static double yarnDimension(const RopeParameters &parameters, double rotations) {
  return static_cast<double>(parameters.rotaryDims) *
         std::log(static_cast<double>(parameters.originalContext) / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(parameters.theta));
}

static void scaleYarn(const RopeParameters &parameters, float factor, const std::vector<float> &powers,
                      std::vector<float> &frequencies) {
  double low = yarnDimension(parameters, parameters.betaFast);
  double high = yarnDimension(parameters, parameters.betaSlow);
  if (parameters.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(parameters.rotaryDims - 1));
  if (low == high)
    high += 0.001;  // a ramp of width zero would divide by it
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float ramp = (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float kept = 1 - std::clamp(ramp, 0.0f, 1.0f);
    const float interpolated = 1.0f / (factor * powers[i]);
    frequencies[i] = interpolated * (1 - kept) + frequencies[i] * kept;
  }
}

static double yarnMagnitude(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

static double yarnAttentionFactor(const RopeParameters &parameters, double factor) {
  if (parameters.attentionFactor)
    return *parameters.attentionFactor;
  if (parameters.mscale.value_or(0) != 0 && parameters.mscaleAllDim.value_or(0) != 0)
    return yarnMagnitude(factor, *parameters.mscale) / yarnMagnitude(factor, *parameters.mscaleAllDim);
  return yarnMagnitude(factor, 1.0);
}

static double longRopeAttentionFactor(const RopeParameters &parameters, double factor) {
  if (parameters.attentionFactor)
    return *parameters.attentionFactor;
  if (factor <= 1)
    return 1.0;
  return std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(parameters.originalContext)));
}

static ::mili::Status checkDivisors(const char *name, const std::vector<double> &divisors, size_t expected) {
  if (divisors.size() != expected)
    return ::mili::invalid_argument("RoPE: " + std::string(name) + ": expected " + std::to_string(expected) +
                                    " numbers, one for each rotating pair, found " + std::to_string(divisors.size()));
  for (double divisor : divisors)
    if (!(divisor > 0) || !std::isfinite(divisor))
      return ::mili::invalid_argument("RoPE: " + std::string(name) + ": every number must be above 0, found " +
                                      std::to_string(divisor));
  return ::mili::ok_status();
}

StatusOr<RopeTable> computeRope(const RopeParameters &parameters, int64_t context) {
  if (parameters.rotaryDims <= 0 || parameters.rotaryDims % 2)
    return ::mili::invalid_argument("RoPE: the number of rotating elements must be even and positive, found " +
                                    std::to_string(parameters.rotaryDims));
  if (!(parameters.theta > 1))
    return ::mili::invalid_argument("RoPE: theta must be above 1, found " + std::to_string(parameters.theta));
  const bool scaled = parameters.scaling == RopeScaling::kLlama3 || parameters.scaling == RopeScaling::kYarn ||
                      parameters.scaling == RopeScaling::kLongRope;
  // The logarithm of the original context is a divisor below.
  if (scaled && parameters.originalContext < 2)
    return ::mili::invalid_argument("RoPE: original_max_position_embeddings must be at least 2, found " +
                                    std::to_string(parameters.originalContext));

  double factor = 1;
  if (parameters.factor)
    factor = *parameters.factor;
  else if (scaled)
    factor = static_cast<double>(parameters.trainedContext) / static_cast<double>(parameters.originalContext);
  if (!(factor > 0))
    return ::mili::invalid_argument("RoPE: factor must be above 0, found " + std::to_string(factor));

  const std::vector<float> powers = wavelengthsOverTwoPi(parameters);
  RopeTable table;
  table.frequencies.resize(powers.size());
  for (size_t i = 0; i < powers.size(); ++i)
    table.frequencies[i] = 1.0f / powers[i];

  switch (parameters.scaling) {
  case RopeScaling::kDefault: table.kind = "default"; break;
  case RopeScaling::kLinear:
    table.kind = "linear";
    for (float &frequency : table.frequencies)
      frequency /= static_cast<float>(factor);
    break;
  case RopeScaling::kLlama3:
    if (!(parameters.lowFrequencyFactor > 0) || !(parameters.highFrequencyFactor > parameters.lowFrequencyFactor))
      return ::mili::invalid_argument("RoPE: expected 0 < low_freq_factor < high_freq_factor, found " +
                                      std::to_string(parameters.lowFrequencyFactor) + " and " +
                                      std::to_string(parameters.highFrequencyFactor));
    table.kind = "llama3";
    scaleLlama3(parameters, static_cast<float>(factor), table.frequencies);
    break;
  case RopeScaling::kYarn:
    if (!(parameters.betaSlow > 0) || parameters.betaFast < parameters.betaSlow)
      return ::mili::invalid_argument("RoPE: expected 0 < beta_slow <= beta_fast, found " +
                                      std::to_string(parameters.betaSlow) + " and " +
                                      std::to_string(parameters.betaFast));
    table.kind = "yarn";
    table.amplitude = static_cast<float>(yarnAttentionFactor(parameters, factor));
    scaleYarn(parameters, static_cast<float>(factor), powers, table.frequencies);
    break;
  case RopeScaling::kLongRope: {
    MILI_RETURN_IF_ERROR(checkDivisors("short_factor", parameters.shortFactors, powers.size()));
    MILI_RETURN_IF_ERROR(checkDivisors("long_factor", parameters.longFactors, powers.size()));
    const bool isLong = context > parameters.originalContext;
    const std::vector<double> &divisors = isLong ? parameters.longFactors : parameters.shortFactors;
    table.kind = isLong ? "longrope-long" : "longrope-short";
    table.amplitude = static_cast<float>(longRopeAttentionFactor(parameters, factor));
    for (size_t i = 0; i < powers.size(); ++i)
      table.frequencies[i] = 1.0f / (static_cast<float>(divisors[i]) * powers[i]);
    break;
  }
  case RopeScaling::kDivisors:
    MILI_RETURN_IF_ERROR(checkDivisors("frequency divisors", parameters.shortFactors, powers.size()));
    table.kind = "divisors";
    for (size_t i = 0; i < powers.size(); ++i)
      table.frequencies[i] /= static_cast<float>(parameters.shortFactors[i]);
    break;
  }
  return table;
}

//===- config.json -----------------------------------------------------------===//

static std::optional<double> optionalNumber(JsonFields &fields, const char *key) {
  if (!fields.has(key)) {
    fields.ignore({key});  // null means absent
    return std::nullopt;
  }
  return fields.number(key);
}

static void readScaling(JsonFields &fields, std::string type, const RopeDefaults &defaults,
                        std::optional<int64_t> &original, RopeParameters &parameters) {
  const std::vector<std::string> &names = defaults.longRopeNames;
  if (std::find(names.begin(), names.end(), type) != names.end())
    type = "longrope";
  if (type == "default")
    return;
  if (type == "linear") {
    parameters.scaling = RopeScaling::kLinear;
    parameters.factor = fields.positive_number("factor");
    return;
  }
  const bool known = type == "llama3" || type == "yarn" || type == "longrope";
  if (!known) {
    fields.fail("rope_type",
                "supported: \"default\", \"linear\", \"llama3\", \"yarn\", \"longrope\"; found \"" + type + "\"",
                ::mili::StatusCode::kUnimplemented);
    return;
  }
  if (fields.has("original_max_position_embeddings"))
    original = fields.positive("original_max_position_embeddings");
  if (type == "llama3") {
    parameters.scaling = RopeScaling::kLlama3;
    parameters.factor = fields.positive_number("factor");
    parameters.lowFrequencyFactor = fields.positive_number("low_freq_factor");
    parameters.highFrequencyFactor = fields.positive_number("high_freq_factor");
    return;
  }
  parameters.factor = optionalNumber(fields, "factor");
  parameters.attentionFactor = optionalNumber(fields, "attention_factor");
  if (type == "yarn") {
    parameters.scaling = RopeScaling::kYarn;
    parameters.betaFast = fields.positive_number_or("beta_fast", 32.0);
    parameters.betaSlow = fields.positive_number_or("beta_slow", 1.0);
    parameters.mscale = optionalNumber(fields, "mscale");
    parameters.mscaleAllDim = optionalNumber(fields, "mscale_all_dim");
    parameters.truncate = fields.boolean_or("truncate", true);
    return;
  }
  parameters.scaling = RopeScaling::kLongRope;
  parameters.shortFactors = fields.numbers("short_factor");
  parameters.longFactors = fields.numbers("long_factor");
}

RopeParameters readRopeParameters(JsonFields &fields, int64_t headDim, int64_t trainedContext,
                                  const RopeDefaults &defaults) {
  RopeParameters parameters;
  parameters.trainedContext = trainedContext;
  parameters.theta = fields.positive_number_or("rope_theta", defaults.theta);
  double partial = fields.positive_number_or("partial_rotary_factor", 1.0);

  std::optional<int64_t> original;
  const char *spelling = fields.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (fields.has("rope_parameters") && fields.has("rope_scaling"))
    fields.fail("rope_scaling", "given beside 'rope_parameters', which says the same; keep one of them");
  fields.ignore({"rope_parameters", "rope_scaling"});  // null means absent
  if (std::optional<JsonFields> nested = fields.optional_object(spelling)) {
    const std::string older = nested->string_or("type", "default");
    const std::string type = nested->string_or("rope_type", older);
    parameters.theta = nested->positive_number_or("rope_theta", parameters.theta);
    partial = nested->positive_number_or("partial_rotary_factor", partial);
    readScaling(*nested, type, defaults, original, parameters);
  }
  // transformers lets a field of the configuration itself win over the one among the RoPE parameters.
  if (fields.has("original_max_position_embeddings"))
    original = fields.positive("original_max_position_embeddings");
  else if (defaults.originalContext)
    original = defaults.originalContext;
  parameters.originalContext = original.value_or(trainedContext);

  if (partial > 1)
    fields.fail("partial_rotary_factor", "must not be above 1");
  parameters.rotaryDims = static_cast<int64_t>(static_cast<double>(headDim) * partial);
  return parameters;
}

}  // namespace mlir::mili
