#include "golden.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

namespace mili::testing {
namespace {

[[noreturn]] void die(const std::string &message) {
  std::fprintf(stderr, "golden data: %s\n", message.c_str());
  std::abort();
}

template <typename T>
std::vector<T> read(const nlohmann::json &header, const std::vector<char> &file, size_t base, const char *name,
                    const char *dtype, std::vector<int64_t> *shape) {
  if (!header.contains(name) || header[name]["dtype"] != dtype)
    die(std::string(name) + " is missing or not " + dtype);
  *shape = header[name]["shape"].get<std::vector<int64_t>>();
  size_t begin = header[name]["data_offsets"][0], end = header[name]["data_offsets"][1];
  if (end > file.size() - base || begin > end)
    die(std::string(name) + " lies beyond the file");
  std::vector<T> out((end - begin) / sizeof(T));
  std::memcpy(out.data(), file.data() + base + begin, end - begin);
  return out;
}

}  // namespace

Golden load_golden(const std::string &folder) {
  std::ifstream in(folder + "/golden.safetensors", std::ios::binary);
  std::vector<char> file{std::istreambuf_iterator<char>(in), {}};
  uint64_t size = 0;
  if (file.size() < 8)
    die(folder + ": no golden.safetensors");
  std::memcpy(&size, file.data(), 8);
  nlohmann::json header = nlohmann::json::parse(file.data() + 8, file.data() + 8 + size);
  Golden golden;
  golden.folder = folder;
  std::vector<int64_t> ids, logits, greedy, margin;
  golden.input_ids = read<int32_t>(header, file, 8 + size, "input_ids", "I32", &ids);
  golden.logits = read<float>(header, file, 8 + size, "logits", "F32", &logits);
  golden.greedy = read<int32_t>(header, file, 8 + size, "greedy", "I32", &greedy);
  golden.greedy_margin = read<float>(header, file, 8 + size, "greedy_margin", "F32", &margin);
  golden.sequences = ids.at(0);
  golden.prompt_tokens = ids.at(1);
  golden.vocab = logits.at(2);
  golden.greedy_tokens = greedy.at(1);
  std::ifstream(folder + "/bf16_error.txt") >> golden.bf16_error >> golden.bf16_worst_row;
  return golden;
}

std::vector<int32_t> Golden::prompt(int64_t s) const {
  return {input_ids.begin() + s * prompt_tokens, input_ids.begin() + (s + 1) * prompt_tokens};
}
std::vector<int32_t> Golden::continuation(int64_t s) const {
  return {greedy.begin() + s * greedy_tokens, greedy.begin() + (s + 1) * greedy_tokens};
}
const float *Golden::row(int64_t s, int64_t t) const {
  return logits.data() + (s * prompt_tokens + t) * vocab;
}

int32_t arg_max(const float *row, int64_t count) {
  return static_cast<int32_t>(std::max_element(row, row + count) - row);
}

double relative_error(const float *a, const float *b, int64_t count) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < count; ++i) {
    difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    norm += double(b[i]) * b[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace mili::testing
