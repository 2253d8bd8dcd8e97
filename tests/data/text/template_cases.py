"""Templates in the style of popular models, written for these tests, and single constructs; rendered by jinja2 as
transformers configures it. SmolLM2's own template is quoted from its model file (Apache-2.0)."""
import datetime
import json

import jinja2
import jinja2.ext
from jinja2.sandbox import SandboxedEnvironment

NOW = datetime.datetime(2026, 3, 7, 9, 5, 1)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def environment():
    env = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: NOW.strftime(form)
    return env


TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather \"now\" <&> später",
          "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "東京"]},
                         "days": {"type": "integer", "default": 3}}, "required": ["city"]}}},
         {"type": "function", "function": {"name": "add", "description": "", "parameters": {}}}]
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2.5}}},
    {"id": "call67890", "type": "function", "function": {"name": "add", "arguments": {}}}]}
CONVERSATIONS = {
    "single": {"messages": [{"role": "user", "content": "What is the capital of France?"}]},
    "system": {"messages": [{"role": "system", "content": "  Be brief.\n"}, {"role": "user", "content": " Hi! "},
                            {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nHello.\n"},
                            {"role": "user", "content": "Größe? 🙂 {{ not a tag }}"}]},
    "tools": {"messages": [{"role": "system", "content": "You call tools."}, {"role": "user", "content": "Weather?"}, CALL,
                           {"role": "tool", "tool_call_id": "call12345", "name": "get_weather", "content": "rain"},
                           {"role": "tool", "tool_call_id": "call67890", "name": "add", "content": "{\"sum\": 3}"},
                           {"role": "assistant", "content": "Rain."}, {"role": "user", "content": "Thanks"}],
              "tools": TOOLS},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image"},
                                                        {"type": "text", "text": "two"}]}]},
    "wrong-order": {"messages": [{"role": "assistant", "content": "first"}, {"role": "user", "content": "second"}]},
    "empty": {"messages": []},
}

TEMPLATES = {}
TEMPLATES["smollm2"] = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
    "helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] "
    "+ '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}")
TEMPLATES["header-style"] = r"""{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{% set date_string = strftime_now("%d %b %Y") %}{% else %}{% set date_string = "26 Jul 2024" %}{% endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message, if any, is taken out of the list. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|head|>system<|end_head|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: shell\n" }}
{%- endif %}
{{- "Today: " + date_string + "\n\n" + system_message + "<|eot|>" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|end_head|>\n\n'+ message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls|length > 2 %}
            {{- raise_exception("too many tool calls") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|head|>ipython<|end_head|>\n\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|end_head|>\n\n' }}
{%- endif %}
"""
TEMPLATES["thinking-style"] = r"""{%- if tools %}
    {{- '<|s|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|e|>\n" }}
{%- else %}
    {%- if messages and messages[0].role == 'system' %}
        {{- '<|s|>system\n' + messages[0].content + '<|e|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<resp>') and message.content.endswith('</resp>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|s|>' + message.role + '\n' + content + '<|e|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|s|>' + message.role + '\n<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|s|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\n' }}{%- endif %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<call>\n{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
                {%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
                {{- '}\n</call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|e|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|s|>user' }}
        {%- endif %}
        {{- '\n<resp>\n' + content + '\n</resp>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|e|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|s|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""
TEMPLATES["alternating-style"] = r"""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("ids have 9 characters") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- elif message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '{"content": ' + content|string + "}" }}
    {%- else %}
        {{- raise_exception("unknown role " + message.role) }}
    {%- endif %}
{%- endfor %}
"""
TEMPLATES["plain-blocks"] = """{% for message in messages %}
    {% if message['role'] == 'user' %}
<|user|>
{{ message['content'] }}<|end|>
    {% elif message['role'] == 'assistant' %}
<|assistant|>
{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}

    {% else %}
  {{ message.role|upper }}: {{ message.content }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}<|assistant|>
{% else %}{{ eos_token }}{% endif %}
"""
TEMPLATES["turn-style"] = r"""{{ bos_token }}{%- macro text_of(content, sep=' ') -%}
    {%- if content is string -%}{{ content | trim }}
    {%- elif content is iterable -%}
        {%- for item in content -%}
            {%- if item['type'] == 'text' -%}{{ item['text'] | trim }}{{ sep if not loop.last }}
            {%- elif item.type == 'image' -%}<image>
            {%- else -%}{{ raise_exception("unknown part") }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- if messages and messages[0]['role'] == 'system' -%}
    {%- set first_prefix = messages[0]['content'] ~ '\n\n' -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set first_prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if message.role == 'tool' -%}{%- continue -%}{%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<turn>' + role + '\n' + (first_prefix if loop.first else "") }}{{ text_of(message.content, sep='|') }}{{ '</turn>\n' }}
    {%- if loop.index >= 5 -%}{%- break -%}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<turn>model\n' }}{%- endif -%}
"""
TEMPLATES["macro-style"] = r"""{%- macro render_type(spec, depth=0) -%}
  {%- if spec.type == 'object' and spec.properties -%}
{
    {%- for name, prop in spec.properties | dictsort %}
{{ '  ' * (depth + 1) }}{{ name }}{{ '' if name in spec.required | default([]) else '?' }}: {{ render_type(prop, depth + 1) }},
    {%- endfor %}
{{ '  ' * depth }}}
  {%- elif spec.enum is defined -%}
{{ spec.enum | map('tojson') | join(' | ') }}
  {%- else -%}
{{ spec.type | default('any') | capitalize }}{% if spec.default is defined %} = {{ spec.default }}{% endif %}
  {%- endif -%}
{%- endmacro -%}
{% set header %}
Knowledge: {{ strftime_now('%B %-d, %Y') | title }}
{% endset %}
{{ header | upper }}
{% for tool in tools or [] %}
- {{ tool['function']['name'] }}: {{ render_type(tool.function.parameters) }}
{% else %}
no tools
{% endfor %}
{% for m in messages | rejectattr('role', 'in', ['tool', 'system']) %}
{{ loop.index }}/{{ loop.length }} {{ m.role }}{{ ' <' + loop.previtem.role if loop.previtem is defined }}{{ ' >' ~ loop.nextitem.role if loop.nextitem }}: {{ m.get('content') or m.get('missing', 'nothing') }}
{% endfor %}
{% filter replace('a', 'A') | trim %}  {{ messages | map(attribute='role') | join(',') }} {% endfilter %}
"""

V = {"s": "Hello, World", "u": "Größe ÀÉÎ ß 🙂 東京", "e": "", "n": None, "t": True, "f": False, "i": 7, "neg": -7, "d": 2.5,
     "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "o": {"b": 1, "a": "x", "B": None}, "nested": {"k": {"z": [1, {"y": "deep"}]}},
     "objs": [{"n": "x", "v": 2, "on": True}, {"n": "y", "v": 1}, {"n": "Z", "v": 3, "on": False}], "ws": " \t a  b \n c \u3000",
     "html": "<a href='x'>&\"", "ctl": "tab\tnl\nbs\\q'\"\x01\x7f\u200b\xa0é"}

# One construct each; the names are the expressions themselves.
EXPRESSIONS = """
1 + 2 * 3 - 4 / 2 | 7 // 2, -7 // 2, 7 % 3, -7 % 3, 7 % -3, 2 ** 10, 2 ** -1, -2 ** 2 | 7.5 // 2, 7.5 % 2, -7.5 % 2 | 1_000 + 0 | 1e3, 1.5e-7, 1e16, 123456789.125, 0.1 + 0.2, 100.0, 1e22
i / 2, d * 2, i - d | "a" "b" 'c' | "\\n\\t\\u00e9\\x41\\\\\\q" | 'it\\'s' ~ "\\"q\\"" | s + "!" | s * 2, 2 * "ab", [0] * 3, "x" * -1 | [1] + [2, 3]
"a" ~ 1 ~ none ~ true ~ 2.0 ~ [1, "x"] ~ missing | not t, not e, not l, not n | t and s or f | e or "fallback" | n and 1, 0 or none
1 == 1.0, true == 1, "1" == 1, none == none, [1, 2] == [1, 2], {"a": 1} == {"a": 1.0}, missing == other | 1 < 2 < 3, 1 < 3 < 2, "a" < "b", [1, 2] < [1, 3], 2 >= 2.0, 1 != 2
"lo" in s, "x" not in s, 1 in l, 9 not in l, "a" in o, "z" in o, "" in s | not 1 in l | not "a" in s and true
"yes" if t else "no", "yes" if f, ("yes" if f) is defined | 1 if f else 2 if n else 3 | (1, 2), (1,), (), [], {}, [1, [2, "it's", 'q"', none]], {"a": [1.0, true], 'b': "x"}
s[0], s[-1], s[99], u[3], u[-1], l[0], l[-1], o["a"], o.a, o["zz"], nested.k.z[1].y, nested["k"]["z"][0], l.0
s[1:3], s[:-1], s[::2], s[::-1], u[2:], u[-2:], l[1:], l[::-1], l[5:], s[3:1], s[-3:-1:2], l[:2][0], s[100:], s[-100:2]
s | upper, u | upper, u | lower, s | lower | length, "hELLO wORLD" | capitalize, "éCOLE" | capitalize | "hello big-world (x) it's o'neil" | title, "hello it's ßx".title(), "x1y a-b".title()
ws | trim, ws.strip(), ws.lstrip(), ws.rstrip(), "xxaxx" | trim("x"), "xyaxy".strip("yx"), "--a--".lstrip("-"), "--a--".rstrip("-")
"a,b,,c".split(","), "a b  c ".split(), "a,b,c".split(",", 1), " a  b c ".split(none, 1), "a,b,c".rsplit(",", 1), "a  b c".rsplit(none, 1), "".split(), "".split(","), "abc".split("x") | "a\\nb\\r\\nc\\n".splitlines(), "a\\nb".splitlines(true)
s.startswith("He"), s.endswith("ld"), s.startswith(("x", "Hell")), s.replace("l", "L"), s.replace("l", "L", 1), "aaa".replace("", "-"), s | replace("o", "0"), "aXbX" | replace("X", "y", 1), s.find("o"), s.rfind("o"), s.find("zz"), u.find("ß"), s.count("l")
"abc".removeprefix("a"), "abc".removesuffix("bc"), "abc".removeprefix("x"), "12".isdigit(), "a1".isalnum(), "ab".isalpha(), " ".isspace(), "".isdigit(), "Ab".islower(), "AB1".isupper(), ",".join(["a", "b"])
s | length, u | length, l | length, o | length, e | count, missing | length | l | first, l | last, s | first, s | last, [] | first is defined, o | first
l | join, l | join(", "), ls | join("-"), objs | join("+", attribute="n"), u | list, o | list | missing | default("d"), e | default("d"), e | default("d", true), n | d("x"), missing | default, none | default("x", boolean=true), t | default(false)
o | tojson, o | tojson(indent=2), l | tojson, nested | tojson(indent=4), [] | tojson(indent=2), {} | tojson, u | tojson, html | tojson, ctl | tojson, [1.0, 1e20, true, none, "é"] | tojson, u | tojson(true), o | tojson(separators=(",", ":")), {"b": 1, "a": {"d": 1, "c": 2}} | tojson(sort_keys=true)
ctl, [ctl], ["it's"], ['say "hi"'], ["both ' and \\""], {"k": ctl}, html | o.items() | list, o | items | list, o.keys() | list, o.values() | list, o.get("a"), o.get("zz"), o.get("zz", 5)
o | dictsort, o | dictsort(true), o | dictsort(false, "key", true), {"x": 3, "y": 1} | dictsort(by="value") | l | sort, l | sort(reverse=true), ls | sort, ls | sort(case_sensitive=true), objs | sort(attribute="v") | map(attribute="n") | list
objs | map(attribute="n") | list, objs | map(attribute="on", default="?") | list, ls | map("upper") | join, ["a b", "c"] | map("replace", " ", "_") | list, objs | map(attribute="missing") | list | length
objs | selectattr("on") | map(attribute="n") | list, objs | selectattr("on", "defined") | list | length, objs | rejectattr("on") | list | length, objs | selectattr("v", ">", 1) | map(attribute="n") | join, objs | selectattr("n", "equalto", "x") | first, objs | rejectattr("n", "in", ["x", "y"]) | list
l | select("odd") | list, l | reject("odd") | list, [0, 1, "", "a", none] | select | list, [1, "a", 2.0, true] | select("number") | list, [1, "a"] | select("string") | list, l | select("gt", 1) | list, l | select("divisibleby", 2) | list
l | sum, objs | sum(attribute="v"), l | min, l | max, ls | unique | list, ["a", "A", "b", "a"] | unique | list, l | reverse | list, s | reverse, -5 | abs, -2.5 | abs, 2.567 | round(2), 2.5 | round, 3.5 | round, 2.1 | round(0, "ceil"), 2.9 | round(method="floor")
"42" | int, " 7 " | int, "x" | int, "x" | int(5), 3.9 | int, "3.9" | int, true | int, "2.5" | float, "x" | float, 3 | float, none | int(1), -3.9 | int | 3 | string ~ "x", none | string, l | string, 2.0 | string
"a\\nb\\n\\nc" | indent, "a\\nb" | indent(2, true), "a\\n\\nb" | indent(2, blank=true), "a\\nb" | indent("> ")
s is defined, missing is defined, missing is undefined, missing is not defined, n is none, n is not none, s is string, i is string, o is mapping, l is mapping, l is iterable, s is iterable, i is iterable, o is iterable, l is sequence, i is number, d is number, t is number, t is boolean, i is boolean, t is true, f is false, i is true, 1 is true
i is integer, t is integer, d is integer, d is float, i is odd, i is even, i is divisibleby 7, i is divisibleby(2), i is eq 7, i is ne(8), i is gt 3, i is lt 3, 7 is in [7, 8], "abc" is lower, "ABC" is upper, "aB" is lower, i is sameas 7, range is callable, s is callable
range(3) | list, range(1, 4) | list, range(5, 0, -2) | list, range(0) | list, dict(a=1, b="x"), namespace(x=3).x, dict(a=1).b is defined
-i, +i, - 2.5, -1 | abs, (-1) | abs, - l[0], 2 - -2, not not t, 1 if not f and t else 0, [1,2,][1], {"a":1,}["a"], {1: "one"}[1], {"x": {"y": 1}}.x.y, "{{" ~ "}}"
strftime_now("%Y-%m-%d %H:%M:%S"), strftime_now("%d %b %Y"), strftime_now("%A, %B")
"a" is string and "b" is string or false, i is divisibleby 7 and true, (s | upper) is upper, s|lower is lower, i in l or s in [s], [i, d] | first + 1
"""

STATEMENTS = [
    "{{ html | e }}",
    "a{% if t %}b{% endif %}c\n{% if t %}\nd\n{% endif %}\ne",
    "  {% if t %}x{% endif %}  y\n\t{% if f %}\nno\n\t{% else %}\n  yes\n\t{% endif %}\n z",
    "  {%+ if t %}x{%+ endif +%}\n y {{- s -}}  z {%- if t -%}  q  {%- endif %}\n{{ s }}\n\n",
    "a {#- comment -#} b\n  {# line #}\nc {# x #} d\n{#\nmulti\n#}e",
    "{% raw %}{{ not }} {% tags %}{% endraw %}|{%- raw -%}  x  {%- endraw -%}  |{% raw %}\n  a\n  {% endraw %}\nb",
    "line\r\nreturn\rend\n",
    "{{ s }}\n",
    "{{ s }}\n\n",
    "{ { } } {{ '}}' }} {{ {'a': {'b': 1}}['a']['b'] }} {% if '%}' %}x{% endif %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}:{{ x }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.cycle('a', 'b') }},{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}{% for x in missing %}x{% else %}undefined{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }} {% else %}none{% endfor %}{% for x in l if x > 9 %}x{% else %}none{% endfor %}",
    "{% for k, v in o.items() %}{{ k }}={{ v }};{% endfor %}{% for k in o %}{{ k }}{% endfor %}{% for c in 'añ🙂' %}[{{ c }}]{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a + b }},{% endfor %}{% for (a, b) in [[1, 2]] %}{{ a }}{% endfor %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }}{{ loop.index }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = i + 10 %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(found=false, list=[]) %}{% for i in l %}{% if i == 1 %}{% set ns.found = true %}{% endif %}{% set ns.list = ns.list + [i] %}{% endfor %}{{ ns.found }}{{ ns.list }}",
    "{% if t %}{% set x = 'in' %}{% endif %}{{ x }}{% if f %}{% set y = 1 %}{% endif %}{{ y is defined }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set q = (a, b) %}{{ q }}",
    "{% set block %}\n  text {{ s }}\n{% endset %}[{{ block }}]{% set up | upper %}{{ s }}{% endset %}{{ up }}{% set ns = namespace() %}{% set ns.x %}v{% endset %}{{ ns.x }}",
    "{% macro m(a, b='d', c=none) %}({{ a }}|{{ b }}|{{ c }}){% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}{{ m(1, c=s) }}{{ m() }}",
    "{% macro m() %}{{ later }}{{ s }}{% endmacro %}{% set later = 'late' %}{{ m() }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %},{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro m(x) %}{% set y = x * 2 %}{{ y }}{% endmacro %}{{ m(2) | int + 1 }}{{ y is defined }}",
    "{% filter upper %}a {{ s }}{% endfilter %}{% filter trim | replace('b', 'c') %}  ab {% endfilter %}",
    "{% generation %}{{ s }}{% set inner = 1 %}{% endgeneration %}{{ s }}",
    "{% set l2 = [] %}{% for i in l %}{{ l2.append(i * 2) or '' }}{% endfor %}{{ l2 }}{{ l2.pop() }}{{ l2.index(6) }}{{ l2 }}",
    "{% if i > 5 and i < 10 %}a{% elif i > 3 %}b{% else %}c{% endif %}{% if n %}a{% elif n is none %}b{% endif %}{% if missing %}a{% else %}b{% endif %}",
    "{{ 'a' if missing else 'b' }}{{ missing }}{{ o.missing }}{{ missing | upper }}|{{ (missing or o).a }}",
    "{{ [1, 2, 3] | map('string') | join('+') }}={{ [1, 2, 3] | sum }}{{ '%' }}{{ '{%' }}",
    "{%if t%}tight{%endif%}{{s}}{{-s}}{%-if t-%} x {%-endif-%} y",
    "\n\n  {%- if t %}\n\n  a\n\n  {%- endif %}\n\n  b",
    "{% for m in [{'role': 'user', 'content': 'x'}] %}{{ m['role'] }}{{ m.content }}{{ m['tool_calls'] is defined }}{{ 'name' in m }}{% endfor %}",
]

ERRORS = [
    "{{ missing.attribute }}", "{{ missing + 'x' }}", "{{ 'x' + 1 }}", "{{ 1 < 'x' }}", "{{ missing() }}", "{{ s() }}", "{{ 1 / 0 }}",
    "{{ raise_exception('no ' ~ s) }}", "{{ none[0].x }}", "{% for x in 5 %}{% endfor %}", "{% set o.x = 1 %}", "{{ 5 | length }}",
    "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{{ 'a'.join([1]) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "{{ l | map('nofilter') | list }}", "{{ s | nofilter }}", "{{ s is notest }}", "{% if t %}", "{% endif %}", "{{ s", "{{ (1 }}",
    "{% for x in l %}{% endif %}", "{{ 1 + }}", "{{ 'open }}", "{# open", "{% unknown %}", "{{ s | }}", "{{ a b }}", "{% set = 1 %}",
    "{{ [1, 2 }}", "{% raw %}x", "{% break %}", "{{ 'abc'.split('') }}", "{{ }}", "{{ s[1:2:0] }}", "{{ $ }}", "{% else %}",
    "{{ {[1]: 2} }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% for x in %}{% endfor %}", "{{ x.1a }}",
]


def references():
    env = environment()
    cases = []

    def add(source, variables):
        case = {"source": source, "variables": variables}
        try:
            case["output"] = env.from_string(source).render(**variables)
        except Exception as error:
            case["error"] = str(error)
        cases.append(case)
        return case

    for name, source in TEMPLATES.items():
        for conversation, content in CONVERSATIONS.items():
            for extra in ({"add_generation_prompt": True}, {"add_generation_prompt": False, "enable_thinking": False}):
                case = add(source, {"tools": None, "bos_token": "<s>", "eos_token": "</s>", **content, **extra})
                case["name"] = f"{name}/{conversation}"
    def compiles(text):
        try:
            env.from_string("{{ " + text + " }}")
            return True
        except jinja2.TemplateError:
            return False

    def expressions(text):
        """" | " separates expressions where what follows is no filter."""
        if compiles(text) or " | " not in text:
            return [text]
        parts = text.split(" | ")
        for i in range(len(parts) - 1, 0, -1):
            if compiles(" | ".join(parts[:i])):
                return [" | ".join(parts[:i])] + expressions(" | ".join(parts[i:]))
        return [text]

    for line in EXPRESSIONS.strip().splitlines():
        for text in split_commas(line):
            for expression in expressions(text):
                add("{{ " + expression + " }}", V)
                add("{{ [" + expression + "] }}", V)
    refused = [source for source in STATEMENTS if "error" in add(source, V)]
    assert not refused, refused
    accepted = [source for source in ERRORS if "error" not in add(source, V)]
    assert not accepted, accepted
    # Cases share their variables.
    tables = []
    for case in cases:
        text = json.dumps(case["variables"])
        if text not in tables:
            tables.append(text)
        case["variables"] = tables.index(text)
    return {"variables": [json.loads(table) for table in tables], "cases": cases}


def split_commas(text):
    parts, depth, quote, start = [], 0, None, 0
    i = 0
    while i < len(text):
        c = text[i]
        if quote:
            if c == "\\":
                i += 1
            elif c == quote:
                quote = None
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
        i += 1
    return parts + [text[start:].strip()]
