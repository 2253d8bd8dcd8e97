#include "op_cases.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace mili::testing {
namespace {

double to_bf16(double x) {
  const float f = static_cast<float>(x);
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  float rounded;
  std::memcpy(&rounded, &bits, 4);
  return rounded;
}

std::string number(int64_t x) {
  return std::to_string(x);
}

// Writes a module and its reference side by side.
class Builder {
public:
  Builder(const std::string &kind, uint64_t seed) : random(seed) {
    made.name = kind;
    made.seed = seed;
    made.vocab = 64 + pick(0, 100);
    made.disabled_fusions = chance(3) ? std::vector<std::string>{"all"} : std::vector<std::string>{};
    made.merge_projections = !chance(3);
  }

  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); }
  template <class T>
  T one_of(std::initializer_list<T> list) {
    return *(list.begin() + pick(0, static_cast<int>(list.size()) - 1));
  }
  bool chance(int in) { return pick(1, in) == 1; }

  std::string weight(const std::string &name, std::vector<int64_t> shape, double deviation, double mean = 0) {
    Weight weight{shape, {}};
    int64_t count = 1;
    for (int64_t extent : shape)
      count *= extent;
    std::normal_distribution<double> normal(mean, deviation);
    for (int64_t i = 0; i < count; ++i)
      weight.values.push_back(to_bf16(normal(random)));
    made.weights[name] = std::move(weight);
    made.body += "    %" + name + " = mili.weight \"" + name + "\" : " + weight_type(name) + "\n";
    return name;
  }

  std::string embedding(int width) {
    weight("table", {made.vocab, width}, 1);
    add("x", width, "mili.embedding %tokens, %table : tensor<?xi32>, " + weight_type("table") + " -> " + type(width),
        [this_width = width, table = made.weights["table"].values](Reference &r, const Rows &rows) {
          for (size_t t = 0; t < rows.token.size(); ++t)
            for (int i = 0; i < this_width; ++i)
              r.values["x"].push_back(table[static_cast<size_t>(rows.token[t]) * this_width + i]);
        });
    return "x";
  }

  std::string linear(const std::string &name, const std::string &x, int width, bool bias) {
    const int depth = widths[x];
    const std::string w = weight("w_" + name, {width, depth}, 1 / std::sqrt(depth));
    const std::string b = bias ? weight("b_" + name, {width}, 0.5) : "";
    add(name, width,
        "mili.linear %" + x + ", %" + w + (bias ? " bias %" + b : "") + " : " + type(depth) + ", " + weight_type(w) +
            (bias ? ", " + weight_type(b) : "") + " -> " + type(width),
        [=, matrix = made.weights[w].values,
         added = bias ? made.weights[b].values : std::vector<double>(width)](Reference &r, const Rows &) {
          const std::vector<double> &from = r.values[x];
          std::vector<double> &to = r.values[name];
          for (size_t row = 0; row < from.size() / depth; ++row)
            for (int f = 0; f < width; ++f) {
              double sum = added[f];
              for (int k = 0; k < depth; ++k)
                sum += from[row * depth + k] * matrix[static_cast<size_t>(f) * depth + k];
              to.push_back(sum);
            }
        });
    return name;
  }

  // Of whole rows, or of heads of `segment` features.
  std::string rms_norm(const std::string &name, const std::string &x, int segment) {
    const int width = widths[x];
    const std::string w = weight("g_" + name, {segment}, 0.2, 1);
    add(name, width, "mili.rms_norm %" + x + ", %" + w + " eps 1.0e-5 : " + type(width) + ", " + weight_type(w),
        [=, gain = made.weights[w].values](Reference &r, const Rows &) {
          const std::vector<double> &from = r.values[x];
          for (size_t at = 0; at < from.size(); at += segment) {
            double sum = 0;
            for (int i = 0; i < segment; ++i)
              sum += from[at + i] * from[at + i];
            const double scale = 1 / std::sqrt(sum / segment + 1e-5);
            for (int i = 0; i < segment; ++i)
              r.values[name].push_back(from[at + i] * scale * gain[i]);
          }
        });
    return name;
  }

  std::string binary(const std::string &name, const std::string &what, const std::string &a, const std::string &b) {
    const int width = widths[a];
    add(name, width, "mili." + what + " %" + a + ", %" + b + " : " + type(width), [=](Reference &r, const Rows &) {
      for (size_t i = 0; i < r.values[a].size(); ++i) {
        const double x = r.values[a][i], y = r.values[b][i];
        r.values[name].push_back(what == "add" ? x + y : x / (1 + std::exp(-x)) * y);
      }
    });
    return name;
  }

  // `pairs` of each head's `head` features are rotated.
  std::string rope(const std::string &name, const std::string &x, int heads, bool adjacent, int pairs) {
    const int width = widths[x], head = width / heads;
    std::vector<float> frequencies;
    for (int i = 0; i < pairs; ++i)
      frequencies.push_back(static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / pairs)));
    std::string list;
    char text[32];
    for (float f : frequencies) {
      std::snprintf(text, sizeof(text), "%s%.9e", list.empty() ? "" : ", ", static_cast<double>(f));
      list += text;
    }
    add(name, width,
        "mili.rope %" + x + ", %batch heads " + number(heads) +
            " <\"default\", pairing = " + (adjacent ? "adjacent" : "half") +
            ", amplitude = 1.0 : f32, frequencies = [" + list + "]> : " + type(width),
        [=](Reference &r, const Rows &rows) {
          std::vector<double> to = r.values[x];
          for (size_t t = 0; t < rows.token.size(); ++t)
            for (int h = 0; h < heads; ++h)
              for (int i = 0; i < pairs; ++i) {
                const size_t base = t * width + h * head;
                const size_t a = base + (adjacent ? 2 * i : i), b = base + (adjacent ? 2 * i + 1 : i + pairs);
                const double angle = rows.position[t] * static_cast<double>(frequencies[i]);
                const double p = to[a], q = to[b];
                to[a] = p * std::cos(angle) - q * std::sin(angle);
                to[b] = q * std::cos(angle) + p * std::sin(angle);
              }
          r.values[name] = std::move(to);
        });
    return name;
  }

  std::string attention(const std::string &name, const std::string &q, const std::string &k, const std::string &v,
                        int heads, int kv_heads, int head, int window) {
    const std::string state =
        "!mili.kv<heads = " + number(kv_heads) + ", k = " + number(head) + ", v = " + number(head) + ", ACT>";
    made.head += "  mili.state @kv : " + state + "\n";
    made.body += "    %kv = mili.state_get @kv : " + state + "\n    %append = mili.kv_append %kv, %" + k + ", %" + v +
                 ", %batch : " + state + ", " + type(kv_heads * head) + ", " + type(kv_heads * head) + "\n";
    const double scale = 1 / std::sqrt(head);
    char text[32];
    std::snprintf(text, sizeof(text), "%.9e", scale);
    add(name, heads * head,
        "mili.attention %" + q + ", %append, %batch mask(" +
            (window ? "#mili.window<" + number(window) + ">" : "#mili.causal") + ") heads " + number(heads) +
            " scale " + text + " : " + type(heads * head) + ", " + state + " -> " + type(heads * head),
        [=](Reference &r, const Rows &rows) {
          const size_t row = static_cast<size_t>(kv_heads) * head;
          for (size_t t = 0; t < rows.token.size(); ++t)
            for (size_t i = 0; i < row; ++i) {
              r.keys[rows.sequence[t]].push_back(r.round(r.values[k][t * row + i]));
              r.others[rows.sequence[t]].push_back(r.round(r.values[v][t * row + i]));
            }
          for (size_t t = 0; t < rows.token.size(); ++t) {
            const std::vector<double> &keys = r.keys[rows.sequence[t]], &values = r.others[rows.sequence[t]];
            const int last = rows.position[t], first = window ? std::max(0, last - window + 1) : 0;
            for (int h = 0; h < heads; ++h) {
              const size_t kv = static_cast<size_t>(h / (heads / kv_heads)) * head;
              std::vector<double> weights, out(head);
              double top = -1e300, sum = 0;
              for (int p = first; p <= last; ++p) {
                double dot = 0;
                for (int i = 0; i < head; ++i)
                  dot += r.round(r.values[q][(t * heads + h) * head + i]) * keys[p * row + kv + i];
                weights.push_back(dot * scale);
                top = std::max(top, weights.back());
              }
              for (double &w : weights)
                sum += w = std::exp(w - top);
              for (int p = first; p <= last; ++p)
                for (int i = 0; i < head; ++i)
                  out[i] += weights[p - first] / sum * values[p * row + kv + i];
              r.values[name].insert(r.values[name].end(), out.begin(), out.end());
            }
          }
        });
    made.body += "    mili.state_set @kv, %append : " + state + "\n";
    return name;
  }

  Case finish(const std::string &x) {
    const int width = widths[x];
    const std::string head = weight("head", {made.vocab, width}, 1 / std::sqrt(width));
    made.body += "    %logits = mili.logits %" + x + ", %head, %batch : " + type(width) + ", " + weight_type("head") +
                 " -> tensor<?x" + number(made.vocab) + "xf32> loc(\"logits\")\n    return %logits : tensor<?x" +
                 number(made.vocab) + "xf32>\n";
    made.nodes.push_back({"logits of all rows", made.vocab,
                          [=, vocab = made.vocab, matrix = made.weights[head].values](Reference &r, const Rows &) {
                            const std::vector<double> &from = r.values[x];
                            for (size_t row = 0; row < from.size() / width; ++row)
                              for (int f = 0; f < vocab; ++f) {
                                double sum = 0;
                                for (int k = 0; k < width; ++k)
                                  sum += from[row * width + k] * matrix[static_cast<size_t>(f) * width + k];
                                r.values["logits of all rows"].push_back(sum);
                              }
                          }});
    return std::move(made);
  }

  Case made;

private:
  std::string type(int width) const { return "tensor<?x" + number(width) + "xACT>"; }
  std::string weight_type(const std::string &name) {
    std::string text = "tensor<";
    for (int64_t extent : made.weights[name].shape)
      text += number(extent) + "x";
    return text + "bf16>";
  }
  void add(const std::string &name, int width, const std::string &op,
           std::function<void(Reference &, const Rows &)> compute) {
    widths[name] = width;
    made.body += "    %" + name + " = " + op + " loc(\"" + name + "\")\n";
    made.nodes.push_back({name, width, std::move(compute)});
  }

  std::mt19937_64 random;
  std::map<std::string, int> widths;
};

}  // namespace

double Reference::round(double x) const {
  return bf16 ? to_bf16(x) : static_cast<float>(x);
}

std::string Case::module(bool bf16) const {
  std::string text =
      "module @" + name +
      " attributes {mili.family = \"test\", mili.model = \"test\", mili.layers = 1 : i64, mili.vocab = " +
      number(vocab) + " : i64, mili.context = " + number(context) +
      " : i64, mili.trained_context = " + number(context) + " : i64, mili.requests = " + number(requests) +
      " : i64} {\n" + head + "  func.func @forward(%tokens: tensor<?xi32>, %batch: !mili.batch) -> tensor<?x" +
      number(vocab) + "xf32> {\n" + body + "  }\n}\n";
  for (size_t at; (at = text.find("ACT")) != std::string::npos;)
    text.replace(at, 3, bf16 ? "bf16" : "f32");
  return text;
}

const std::vector<std::string> &case_kinds() {
  static const std::vector<std::string> kinds = {"linear", "gated", "norm", "deep", "broad", "attention", "long"};
  return kinds;
}

Case make_case(const std::string &kind, uint64_t seed) {
  Builder b(kind, seed);
  // A context and a number of requests with which a block of a decode step walks over several pages.
  const bool far = kind == "long";
  b.made.requests = far ? 8 : 3;
  b.made.context = far ? 4096 : kind == "attention" ? 256 : 128;
  b.made.prefill_tokens = far ? 300 : kind == "attention" ? b.one_of({100, 300}) : b.one_of({40, 200});
  // Rows and a depth with which tiles of products are dealt out by steps: on a GPU of few multiprocessors, on any.
  const bool broad = kind == "broad", deep = kind == "deep" || broad;
  if (deep) {
    b.made.prefill_tokens = broad ? 2100 : b.one_of({200, 290});
    b.made.context = b.made.prefill_tokens + 128;
  }
  const int width = deep ? 8 * b.pick(150, 200) : 8 * b.pick(2, 24);
  std::string x = b.embedding(width), out;
  if (kind == "linear") {
    if (b.chance(2)) {
      out = b.linear("y", x, width, b.chance(2));
      out = b.binary("sum", "add", x, out);
    } else {
      out = b.linear("y", x, 8 * b.pick(2, 40), b.chance(2));
    }
  } else if (deep) {
    out = b.linear("y", x, width, false);
    out = b.binary("sum", "add", x, out);
    const int features = 8 * b.pick(broad ? 128 : 20, broad ? 170 : 110);
    out = b.chance(2) ? b.linear("z", out, features, b.chance(2))
                      : b.binary("gated", "gated <silu>", b.linear("gate", out, features / 2 / 8 * 8, false),
                                 b.linear("up", out, features / 2 / 8 * 8, false));
  } else if (kind == "gated") {
    const int inner = 8 * b.pick(2, 40);
    const std::string in = b.chance(2) ? b.rms_norm("n", x, width) : x;
    out = b.linear("gate", in, inner, false);
    out = b.binary("gated", "gated <silu>", out, b.linear("up", in, inner, false));
    out = b.linear("down", out, width, false);
    out = b.binary("sum", "add", x, out);
  } else if (kind == "norm") {
    // Used twice, so that it is a kernel of its own; and of a product's result, before a residual is added.
    const std::string n = b.rms_norm("n", x, width);
    out = b.linear("y", n, width, false);
    if (b.chance(2))
      out = b.rms_norm("post", out, width);
    out = b.binary("sum", "add", n, out);
    out = b.rms_norm("last", out, width);
  } else {
    const int head = far ? 16 : b.one_of({16, 32, 64, 80, 96, 128, 256});
    const int kv_heads = far ? 4 : b.pick(1, 2), heads = kv_heads * (far ? b.pick(1, 2) : b.one_of({1, 2, 3, 4, 6}));
    const int window = !far && b.chance(2) ? b.pick(1, 130) : 0;
    std::string q = b.linear("q", x, heads * head, false), k = b.linear("k", x, kv_heads * head, false),
                v = b.linear("v", x, kv_heads * head, false);
    if (b.chance(3)) {
      q = b.rms_norm("q_norm", q, head);
      k = b.rms_norm("k_norm", k, head);
    }
    const bool adjacent = b.chance(3);
    const int pairs = b.chance(3) ? head / 4 : head / 2;
    q = b.rope("q_rope", q, heads, adjacent, pairs);
    k = b.rope("k_rope", k, kv_heads, adjacent, pairs);
    out = b.attention("core", q, k, v, heads, kv_heads, head, window);
    out = b.linear("out", out, width, false);
  }
  // Lengths around the edges of pages, of tiles of the matrix instructions, and of buckets.
  std::vector<int> lengths(3);
  auto step = [&](std::vector<Piece> pieces) {
    int total = 0;
    std::vector<Piece> fitting;
    for (const Piece &piece : pieces)
      if (piece.tokens > 0 && total + piece.tokens <= b.made.prefill_tokens &&
          lengths[piece.sequence] + piece.tokens <= b.made.context) {
        total += piece.tokens;
        lengths[piece.sequence] += piece.tokens;
        fitting.push_back(piece);
      }
    if (!fitting.empty())
      b.made.steps.push_back(fitting);
  };
  auto first = [&] { return b.one_of({1, 7, 15, 16, 17, 31, 33, 61, 62, 63, 64, 65, 80}); };
  for (int chunks = far ? 2 : deep ? 1 : 0; chunks > 0; --chunks)
    step({{0, b.made.prefill_tokens}});
  if (broad)
    return b.finish(out);
  step({{0, first()}, {1, b.pick(1, 5)}, {2, b.pick(1, 70)}});
  step({{1, b.one_of({58, 59, 60, 61, 62, 63, 64})}});
  for (int i = 0; i < 3; ++i) {
    step({{0, 1}, {1, 1}, {2, 1}});
    step({{b.pick(0, 2), 1}});
    step({{0, 1}, {2, 1}});
  }
  step({{2, b.pick(2, 12)}, {0, 1}});
  step({{0, b.one_of({20, 34, 64, 130})}, {1, 1}, {2, b.pick(1, 30)}});
  step({{0, 1}, {1, 1}, {2, 1}});
  return b.finish(out);
}

}  // namespace mili::testing
