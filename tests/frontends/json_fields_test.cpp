#include "mili/Frontends/JsonFields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using mili::JsonFields;
using mili::StatusCode;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

json parse(const char *text) {
  return json::parse(text, nullptr, false);
}

TEST(JsonFields, ReadsEveryKind) {
  const json config = parse(R"({"n": 64, "big": 8192.0, "eps": 1e-6, "one": 1, "tied": true, "act": "silu",
    "eos": [2, 3], "bos": 1, "names": ["A", "B"], "factors": [1, 1.5], "none": null,
    "rope": {"theta": 10000.0, "inner": {"x": 1}}})");
  JsonFields fields(config, "config.json");
  EXPECT_EQ(fields.positive("n"), 64);
  EXPECT_EQ(fields.integer("big"), 8192);
  EXPECT_DOUBLE_EQ(fields.number("eps"), 1e-6);
  EXPECT_DOUBLE_EQ(fields.positive_number("one"), 1.0);
  EXPECT_TRUE(fields.boolean("tied"));
  EXPECT_EQ(fields.one_of("act", {"gelu", "silu"}), "silu");
  EXPECT_THAT(fields.integers("eos"), ElementsAre(2, 3));
  EXPECT_THAT(fields.integer_or_list("eos"), ElementsAre(2, 3));
  EXPECT_THAT(fields.integer_or_list("bos"), ElementsAre(1));
  EXPECT_THAT(fields.integer_or_list("absent"), ElementsAre());
  EXPECT_THAT(fields.strings("names"), ElementsAre("A", "B"));
  EXPECT_THAT(fields.numbers("factors"), ElementsAre(1.0, 1.5));
  EXPECT_FALSE(fields.has("none"));
  EXPECT_EQ(fields.integer_or("none", 7), 7);
  EXPECT_EQ(fields.positive_or("absent", 9), 9);
  EXPECT_EQ(fields.number_or("absent", 0.5), 0.5);
  EXPECT_EQ(fields.string_or("absent", "x"), "x");
  EXPECT_FALSE(fields.boolean_or("absent", false));
  EXPECT_FALSE(fields.optional_integers("absent").has_value());
  EXPECT_FALSE(fields.optional_object("absent").has_value());
  JsonFields rope = fields.object("rope");
  EXPECT_EQ(rope.number("theta"), 10000.0);
  EXPECT_EQ(rope.object("inner").integer("x"), 1);
  fields.refuse_unread();
  EXPECT_TRUE(fields.status().ok()) << fields.status().to_string();
}

struct BadField {
  const char *text;
  void (*read)(JsonFields &);
  const char *message;
  StatusCode code = StatusCode::kDataLoss;
};

TEST(JsonFields, NamesFieldExpectedAndFound) {
  const BadField table[] = {
      {R"({"h": "abc"})", [](JsonFields &f) { f.positive("h"); },
       R"(config.json: field 'h': expected a positive integer, found "abc")"},
      {R"({"h": -1})", [](JsonFields &f) { f.positive("h"); },
       "field 'h': expected an integer in 1 .. 2147483647, found -1"},
      {R"({"h": 2147483648})", [](JsonFields &f) { f.positive("h"); }, "found 2147483648"},
      {R"({"h": 18446744073709551615})", [](JsonFields &f) { f.integer("h"); }, "found 18446744073709551615"},
      {R"({"h": 0.5})", [](JsonFields &f) { f.integer("h"); }, "expected an integer, found 0.5"},
      {R"({"h": true})", [](JsonFields &f) { f.integer("h"); }, "expected an integer, found true"},
      {R"({})", [](JsonFields &f) { f.integer("h"); }, "field 'h': required, but it is missing"},
      {R"({"h": null})", [](JsonFields &f) { f.string("h"); }, "field 'h': required, but it is null"},
      {R"({"h": 1e999})", [](JsonFields &f) { f.number("h"); }, "config.json"},
      {R"({"h": 0})", [](JsonFields &f) { f.positive_number("h"); }, "expected a number above 0, found 0"},
      {R"({"h": 1})", [](JsonFields &f) { f.boolean("h"); }, "expected true or false, found 1"},
      {R"({"h": [1, "x"]})", [](JsonFields &f) { f.integers("h"); },
       R"(field 'h[1]': expected one of integers, found "x")"},
      {R"({"h": 3})", [](JsonFields &f) { f.integers("h"); }, "expected an array of integers, found 3"},
      {R"({"h": {"x": "y"}})", [](JsonFields &f) { f.object("h").number("x"); },
       R"(field 'h.x': expected a number, found "y")"},
      {R"({"h": 3})", [](JsonFields &f) { f.object("h").number("x"); }, "field 'h': expected an object, found 3"},
      {R"({"h": true})", [](JsonFields &f) { f.only_boolean("h", false); }, "only false is supported, found true",
       StatusCode::kUnimplemented},
      {R"({"h": 0.1})", [](JsonFields &f) { f.only_number("h", 0); }, "only 0.0 is supported, found 0.1",
       StatusCode::kUnimplemented},
      {R"({"h": "relu"})", [](JsonFields &f) { f.only_string("h", {"silu", "gelu"}); },
       R"(supported: "silu", "gelu"; found "relu")", StatusCode::kUnimplemented},
      {R"({"a": {"x": 1, "y": 2}, "b": 1, "c_1": 0})",
       [](JsonFields &f) {
         f.object("a").integer("x");
         f.ignore({"c_*"});
         f.refuse_unread();
       },
       "unknown fields 'a.y', 'b'", StatusCode::kUnimplemented},
      {R"([1])", [](JsonFields &f) { f.integer("h"); }, "config.json: expected a JSON object, found [1]"},
  };
  for (const BadField &bad : table) {
    const json config = parse(bad.text);
    JsonFields fields(config, "config.json");
    bad.read(fields);
    EXPECT_EQ(fields.status().code(), bad.code) << bad.text;
    EXPECT_THAT(fields.status().message(), HasSubstr(bad.message)) << bad.text;
  }
}

TEST(JsonFields, FirstErrorSticks) {
  const json config = parse(R"({"a": "x", "b": "y"})");
  JsonFields fields(config, "config.json");
  EXPECT_EQ(fields.positive("a"), 1);
  EXPECT_EQ(fields.integer("b", 5, 9), 5);
  fields.fail("b", "later");
  EXPECT_THAT(fields.status().message(), HasSubstr("field 'a'"));
}

TEST(JsonFields, LongValuesAreShortened) {
  json config = json::object();
  config["s"] = std::string(1 << 20, 'a');
  config["l"] = json::array();
  for (int i = 0; i < 100000; ++i)
    config["l"].push_back(i);
  EXPECT_LT(mili::json_excerpt(config["s"]).size(), 80u);
  EXPECT_EQ(mili::json_excerpt(config["l"]), "an array of 100000 elements");
}

}  // namespace
