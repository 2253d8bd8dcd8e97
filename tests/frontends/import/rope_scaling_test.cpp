// RoPE tables against tests/data/frontends/rope_reference.json, which make_rope_reference.py computes in double
// precision from the papers' formulas; and what is refused.
#include "mili/Frontends/JsonFields.h"
#include "mili/Frontends/RopeScaling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <fstream>

using mili::JsonFields;
using mlir::mili::computeRope;
using mlir::mili::readRopeParameters;
using mlir::mili::RopeDefaults;
using mlir::mili::RopeParameters;
using mlir::mili::RopeScaling;
using mlir::mili::RopeTable;
using nlohmann::json;
using testing::HasSubstr;

namespace {

TEST(RopeScaling, AgreesWithTheFormulasInDoublePrecision) {
  std::ifstream file("frontends/rope_reference.json");
  const json cases = json::parse(file, nullptr, false);
  ASSERT_GE(cases.size(), 17u);
  for (const json &reference : cases) {
    const std::string name = reference["name"];
    JsonFields fields(reference["config"], "config.json");
    const int64_t trained = fields.positive("max_position_embeddings");
    const RopeParameters parameters = readRopeParameters(fields, reference["head_dim"], trained, RopeDefaults{});
    fields.refuse_unread();
    ASSERT_TRUE(fields.status().ok()) << name << ": " << fields.status().message();
    const mili::StatusOr<RopeTable> table = computeRope(parameters, reference["context"]);
    ASSERT_TRUE(table.ok()) << name << ": " << table.status().message();
    const double amplitude = reference["amplitude"];
    EXPECT_NEAR(table->amplitude, amplitude, 1e-7 * amplitude) << name;
    const std::vector<double> expected = reference["frequencies"];
    ASSERT_EQ(table->frequencies.size(), expected.size()) << name;
    // The exponent is rounded to float before the power, as in transformers: 2^-25 * ln(theta) at the most, twice.
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(table->frequencies[i] / expected[i], 1.0, 1.5e-6) << name << " pair " << i;
  }
}

TEST(RopeScaling, DivisorsOfAFile) {
  RopeParameters parameters;
  parameters.rotaryDims = 8;
  const std::vector<float> plain = computeRope(parameters, 64)->frequencies;
  parameters.scaling = RopeScaling::kDivisors;
  parameters.shortFactors = {1, 2, 4, 8};
  const mili::StatusOr<RopeTable> table = computeRope(parameters, 64);
  ASSERT_TRUE(table.ok());
  for (size_t i = 0; i < 4; ++i)
    EXPECT_EQ(table->frequencies[i], plain[i] / static_cast<float>(1 << i));
}

TEST(RopeScaling, LongRopeUnderItsOlderNames) {
  const json config = json::parse(R"({"rope_scaling": {"type": "su", "short_factor": [1, 1], "long_factor": [2, 2]},
                                      "original_max_position_embeddings": 16})");
  JsonFields fields(config, "config.json");
  RopeDefaults defaults;
  defaults.longRopeNames = {"su", "yarn"};
  const RopeParameters parameters = readRopeParameters(fields, 4, 64, defaults);
  EXPECT_TRUE(fields.status().ok());
  EXPECT_EQ(parameters.scaling, RopeScaling::kLongRope);
  EXPECT_EQ(computeRope(parameters, 17)->frequencies[0], 0.5f);
}

struct BadParameters {
  const char *config;
  const char *message;
};

TEST(RopeScaling, RefusesFields) {
  const BadParameters table[] = {
      {R"({"rope_scaling": {"type": "dynamic", "factor": 2}})",
       R"(field 'rope_scaling.rope_type': supported: "default", "linear", "llama3", "yarn", "longrope"; found "dynamic")"},
      {R"({"rope_parameters": {"rope_type": "ntk"}})", R"(found "ntk")"},
      {R"({"rope_scaling": {"type": "su"}})", R"(found "su")"},
      {R"({"rope_scaling": {"type": "linear"}})", "field 'rope_scaling.factor': required, but it is missing"},
      {R"({"rope_scaling": {"type": "linear", "factor": 0}})", "'rope_scaling.factor': expected a number above 0"},
      {R"({"rope_scaling": {"type": "linear", "factor": 2, "beta": 1}})", "unknown field 'rope_scaling.beta'"},
      {R"({"rope_parameters": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1}})",
       "field 'rope_parameters.high_freq_factor': required"},
      {R"({"rope_parameters": {"rope_type": "longrope", "short_factor": [1, 1]}})",
       "field 'rope_parameters.long_factor': required"},
      {R"({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "default"}})",
       "field 'rope_scaling': given beside 'rope_parameters'"},
      {R"({"rope_scaling": "linear"})", "field 'rope_scaling': expected an object"},
      {R"({"rope_theta": -1})", "field 'rope_theta': expected a number above 0"},
      {R"({"partial_rotary_factor": 1.5})", "field 'partial_rotary_factor': must not be above 1"},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})",
       "unknown field 'rope_parameters.full_attention'"},
  };
  for (const BadParameters &bad : table) {
    const json config = json::parse(bad.config);
    JsonFields fields(config, "config.json");
    readRopeParameters(fields, 64, 2048, RopeDefaults{});
    fields.refuse_unread();
    EXPECT_FALSE(fields.status().ok()) << bad.config;
    EXPECT_THAT(fields.status().message(), HasSubstr(bad.message)) << bad.config;
  }
}

TEST(RopeScaling, RefusesValues) {
  const BadParameters table[] = {
      {R"({"rope_theta": 1})", "theta must be above 1"},
      {R"({"partial_rotary_factor": 0.05})", "must be even and positive, found 3"},
      {R"({"partial_rotary_factor": 0.01})", "must be even and positive, found 0"},
      {R"({"rope_parameters": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}})",
       "expected 0 < low_freq_factor < high_freq_factor"},
      {R"({"rope_parameters": {"rope_type": "yarn", "factor": 8, "beta_fast": 1, "beta_slow": 2}})",
       "expected 0 < beta_slow <= beta_fast"},
      {R"({"rope_parameters": {"rope_type": "yarn", "factor": -8}})", "factor must be above 0"},
      {R"({"original_max_position_embeddings": 1, "rope_parameters": {"rope_type": "yarn", "factor": 8}})",
       "original_max_position_embeddings must be at least 2"},
      {R"({"rope_parameters": {"rope_type": "longrope", "short_factor": [1, 1], "long_factor": [1, 1]}})",
       "short_factor: expected 32 numbers, one for each rotating pair, found 2"},
      {R"({"partial_rotary_factor": 0.0625, "rope_parameters": {"rope_type": "longrope", "short_factor": [1, 1],
           "long_factor": [1, 0]}})",
       "long_factor: every number must be above 0"},
  };
  for (const BadParameters &bad : table) {
    const json config = json::parse(bad.config);
    JsonFields fields(config, "config.json");
    const RopeParameters parameters = readRopeParameters(fields, 64, 2048, RopeDefaults{});
    ASSERT_TRUE(fields.status().ok()) << bad.config << fields.status().message();
    const mili::StatusOr<RopeTable> rope = computeRope(parameters, 2048);
    ASSERT_FALSE(rope.ok()) << bad.config;
    EXPECT_EQ(rope.status().code(), mili::StatusCode::kInvalidArgument);
    EXPECT_THAT(rope.status().message(), HasSubstr(bad.message)) << bad.config;
  }
}

}  // namespace
