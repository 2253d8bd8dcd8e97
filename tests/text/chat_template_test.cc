// Renderings against jinja2 as transformers configures it (tests/data/text/template_cases.py), errors and limits.
#include "mili/text/chat_template.h"

#include "section_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

Value from_json(const ordered_json &j) {
  if (j.is_boolean())
    return j.get<bool>();
  if (j.is_number_integer())
    return j.get<int64_t>();
  if (j.is_number())
    return j.get<double>();
  if (j.is_string())
    return j.get<std::string>();
  if (j.is_array()) {
    Value::List list;
    for (const auto &element : j)
      list.push_back(from_json(element));
    return list;
  }
  if (j.is_object()) {
    Value::Object object;
    for (const auto &[key, element] : j.items())
      object.emplace_back(key, from_json(element));
    return object;
  }
  return nullptr;
}

std::tm reference_now() {
  std::tm now{};
  now.tm_year = 126;
  now.tm_mon = 2;
  now.tm_mday = 7;
  now.tm_hour = 9;
  now.tm_min = 5;
  now.tm_sec = 1;
  now.tm_wday = 6;
  now.tm_yday = 65;
  return now;
}

StatusOr<std::string> render(std::string_view source, const Value::Object &variables = {}, ChatLimits limits = {}) {
  StatusOr<ChatTemplate> chat = ChatTemplate::parse(source);
  if (!chat.ok())
    return chat.status();
  return chat->render(variables, limits, reference_now());
}

TEST(ChatTemplate, RendersAsJinja2) {
  const ordered_json reference = test::read_ordered_reference("templates.json");
  std::vector<Value> variables;
  for (const auto &v : reference["variables"])
    variables.push_back(from_json(v));
  ASSERT_GT(reference["cases"].size(), 400u);
  for (const auto &c : reference["cases"]) {
    const std::string source = c["source"].get<std::string>();
    SCOPED_TRACE(c.value("name", source));
    const auto rendered = render(source, *variables[c["variables"].get<size_t>()].as_object());
    if (c.contains("output")) {
      EXPECT_TRUE(rendered.ok()) << rendered.status().to_string();
      EXPECT_EQ(rendered.ok() ? *rendered : "", c["output"].get<std::string>());
    } else {
      EXPECT_FALSE(rendered.ok()) << "rendered \"" << (rendered.ok() ? *rendered : "") << "\", jinja2: " << c["error"];
    }
  }
}

TEST(ChatTemplate, InputOfAChat) {
  auto chat =
      ChatTemplate::parse("{{ bos_token }}{{ messages[0].role }}:{{ messages[0]['content'] }}{{ eos_token is defined }}"
                          "{{ tools is none }}{{ add_generation_prompt }}{{ x }}");
  ASSERT_TRUE(chat.ok());
  ChatInput input;
  input.messages = {chat_message("user", "hi \xff")};
  input.bos_token = "<s>";
  input.add_generation_prompt = true;
  input.extra = {{"x", 1}, {"add_generation_prompt", "extra"}};
  EXPECT_EQ(*chat->render(input), "<s>user:hi \uFFFD"
                                  "FalseTrueextra1");
}

struct ErrorCase {
  const char *source;
  StatusCode code;
  const char *message;
};

TEST(ChatTemplate, ErrorsSayWhereAndWhat) {
  const ErrorCase cases[] = {
      {"ab\n  {{ 1 + }}", StatusCode::kInvalidArgument, "chat template:2:10: found \"}}\", expected an expression"},
      {"é{{ s | shout }}", StatusCode::kUnimplemented, "chat template:1:9: the filter \"shout\" is not supported"},
      {"{{ s is odd_looking }}", StatusCode::kUnimplemented, "the test \"odd_looking\""},
      {"{% include 'x' %}", StatusCode::kUnimplemented, "chat template:1:4: \"include\" is not supported"},
      {"{% for x in y %}\n\n", StatusCode::kInvalidArgument, "expected \"else\" or \"endfor\""},
      {"{{ x", StatusCode::kInvalidArgument, "chat template:1:1: a tag without its end"},
      {"\n{{ x.y }}", StatusCode::kInvalidArgument, "chat template:2:5: \"x\" is undefined"},
      {"{{ raise_exception('only text') }}", StatusCode::kInvalidArgument, "refuses the messages: only text"},
      {"{{ 9223372036854775807 + 1 }}", StatusCode::kInvalidArgument, "beyond 64 bits"},
      {"{{ 99999999999999999999 }}", StatusCode::kInvalidArgument, "beyond 64 bits"},
      {"{{ (-9223372036854775807 - 1) // -1 }}", StatusCode::kInvalidArgument, "beyond 64 bits"},
      {"{{ 'a' \xff }}", StatusCode::kInvalidArgument, "not UTF-8"},
  };
  for (const ErrorCase &c : cases) {
    const auto rendered = render(c.source);
    ASSERT_FALSE(rendered.ok()) << c.source;
    EXPECT_EQ(rendered.status().code(), c.code) << c.source;
    EXPECT_THAT(rendered.status().message(), HasSubstr(c.message));
  }
}

// What would run for ever, fill the memory or overflow the stack.
TEST(ChatTemplate, Limits) {
  const auto repeat = [](std::string_view text, int times) {
    std::string out;
    for (int i = 0; i < times; ++i)
      out += text;
    return out;
  };
  const std::string sources[] = {
      "{% for i in range(1000000000000) %}x{% endfor %}",
      "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(x) %}{{ f(x ~ 'a') ~ f(x) }}{% endmacro %}{{ f('') }}",
      "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', 'aaaa') %}{% endfor %}",
      "{{ 'x' * 99999999999 }}",
      "{{ [0] * 99999999999 }}",
      "{{ '' * 9 }}{{ 'ab' * 99999999 }}",
      "{% set l = [] %}{{ l.append(l) }}{{ l }}",
      "{% set l = [] %}{{ l.append(l) }}{{ l | tojson }}",
      "{% set l = [] %}{{ l.append(l) }}{% set m = [] %}{{ m.append(m) }}{{ l == m }}",
      "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
      "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x == n.x }}",
      "{% for i in range(9999999) %}{% set x = [i, i, i] %}{% endfor %}",
      repeat("{{ ", 1) + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}",
      "{{ " + repeat("[", 5000) + repeat("]", 5000) + " }}",
      "{{ " + repeat("-", 100000) + "1 }}",
      "{{ " + repeat("not ", 100000) + "1 }}",
      "{{ 1" + repeat(" + 1", 100000) + " }}",
      "{{ x" + repeat(".x", 100000) + " }}",
      "{{ x" + repeat("|upper", 100000) + " }}",
      repeat("{% if 1 %}", 100000),
      repeat("{% for x in [1] %}", 500) + repeat("{% endfor %}", 500),
      "{{ 1" + repeat(" if 1 else 1", 50000) + " }}",
      "{{ " + repeat("{'a':", 90000) + "1" + repeat("}", 90000) + " }}",
  };
  for (const std::string &source : sources) {
    SCOPED_TRACE(source.substr(0, 100));
    const auto rendered = render(source);
    ASSERT_FALSE(rendered.ok());
    EXPECT_THAT(rendered.status().message(), HasSubstr("chat template:"));
    EXPECT_EQ(rendered.status().code(), StatusCode::kResourceExhausted) << rendered.status().to_string();
  }
  EXPECT_FALSE(render("{{ 'abcdef' }}", {}, {.output_bytes = 5}).ok());
  EXPECT_TRUE(render("{{ 'abcdef' }}", {}, {.output_bytes = 6}).ok());
  EXPECT_FALSE(render("{% for i in range(100) %}{% endfor %}", {}, {.steps = 100}).ok());
  EXPECT_FALSE(ChatTemplate::parse(std::string((1 << 20) + 1, ' ')).ok());
}

TEST(ChatTemplate, ManyBranchesAreNotNesting) {
  std::string source = "{% if x == 0 %}0";
  for (int i = 1; i < 2000; ++i)
    source += "{% elif x == " + std::to_string(i) + " %}" + std::to_string(i);
  source += "{% endif %}";
  EXPECT_EQ(*render(source, {{"x", 1999}}), "1999");
}

}  // namespace
}  // namespace mili
