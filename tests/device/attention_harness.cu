// Checks the device attention kernels against a double precision reference, and times them.
//
//   nvcc -std=c++17 -O3 --split-compile=0 -gencode=arch=compute_90a,code=sm_90a -I codegen/device -I runtime/include -I ir/include
//        -o attention_harness tests/device/attention_harness.cu
//   attention_harness [check | bench | patterns]      (default: the first two); exits non-zero if a check fails
//
// Error bound: relative L2 error over all outputs at most 1e-2. Inputs are bf16 and exact for the reference; what
// differs is the weights' rounding to bf16 before the second product (relative 2^-9 each, partly averaged out in the
// sum) and the output's rounding to bf16 (2^-9 / sqrt(3) ~ 1.1e-3 RMS): 2e-3 to 3e-3 together. No row alone may pass
// 3e-2. Unwritten parts of the pages and the outputs start as NaN, so a read of what must not be read shows.

#include "mili/device/attention_decode.cuh"
#include "mili/device/attention_prefill.cuh"
#include "mili/device/attention_prefill_wgmma.cuh"

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

using mili::bf16;

#define CHECK(call)                                                                                                    \
  do {                                                                                                                 \
    const cudaError_t error = (call);                                                                                  \
    if (error != cudaSuccess) {                                                                                        \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(error));                   \
      std::exit(2);                                                                                                    \
    }                                                                                                                  \
  } while (0)

// --- what is instantiated
// ----------------------------------------------------------------------------------------------

/// SoftCap in whole units; Local and the rest in blocks, Local 0: no block-sparse mask. See attention_common.cuh and
/// DecodeTile for what they mean.
template <int Heads, int KvHeads, int Dim, int Window, int SoftCap, bool Sinks, int Splits, int Few, int Local = 0,
          int Global = 0, int Stride = 0, int Random = 0>
struct Config {
  static constexpr bool kSparse = Local > 0;
  static MILI_CONSTEXPR mili_attention::BlockPattern pattern() { return {Local, Global, Stride, Random, 7}; }
  static constexpr int kHeads = Heads, kKvHeads = KvHeads, kHeadDim = Dim, kWindow = Window, kPageTable = 0;
  static constexpr float kScale = Dim >= 256   ? 0.0625f
                                  : Dim >= 128 ? 0.08838834764f
                                  : Dim >= 64  ? 0.125f
                                  : Dim >= 32  ? 0.1767766953f
                                               : 0.25f;
  static constexpr float kSoftCap = SoftCap;
  static constexpr bool kSinks = Sinks;
  static constexpr int kSplits = Splits, kFewSplits = Few;
};

struct RawSource {
  static constexpr bool kAppends = false, kRaw = true;
  const bf16 *raw;
};

/// Queries (and new keys and values) that are "computed": converted from bf16 arrays of the step's tokens.
template <class Config, bool Appends>
struct ComputedSource {
  static constexpr bool kAppends = Appends;
  const bf16 *queries, *keys, *values;

  static __device__ void copy(float *row, const bf16 *from, int lane) {
    for (int i = lane; i < Config::kHeadDim; i += 32)
      row[i] = mili::to_float(from[i]);
  }
  __device__ void query(float *row, int token, int head, int lane) const {
    copy(row, queries + (static_cast<long>(token) * Config::kHeads + head) * Config::kHeadDim, lane);
  }
  __device__ void key(float *row, int token, int head, int lane) const {
    copy(row, keys + (static_cast<long>(token) * Config::kKvHeads + head) * Config::kHeadDim, lane);
  }
  __device__ void value(float *row, int token, int head, int lane) const {
    copy(row, values + (static_cast<long>(token) * Config::kKvHeads + head) * Config::kHeadDim, lane);
  }
};

template <class C, class Source>
__global__ void __launch_bounds__(mili::PrefillTile<C>::kThreads, mili::PrefillTile<C>::kMinBlocks)
    prefill_kernel(const mili::Batch *batch, Source source, const bf16 *pool, const float *sinks, bf16 *out) {
  mili::attention_prefill<C>(batch, source, pool, sinks, out, blockIdx.x);
}

/// Heads that the kernel on wgmma runs.
template <class C>
constexpr bool kHasWgmma = (C::kHeadDim == 64 || C::kHeadDim == 128) && C::kHeads / C::kKvHeads <= 128;

template <class C>
__global__ void __launch_bounds__(mili::WgmmaPrefillTile<C>::kThreads, 1)
    wgmma_prefill_kernel(const mili::Batch *batch, const bf16 *queries, const bf16 *pool, const float *sinks, bf16 *out,
                         int tiles) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  mili::attention_prefill_wgmma<C>(batch, queries, pool, sinks, out, tiles, blockIdx.x, gridDim.x);
#endif
}
/// Launches it on `tiles` tiles, with a block for each multiprocessor.
template <class C>
static void wgmma_prefill(cudaStream_t stream, const mili::Batch *batch, const bf16 *queries, const bf16 *pool,
                          const float *sinks, bf16 *out, long tiles) {
  using Tile = mili::WgmmaPrefillTile<C>;
  static const int multiprocessors = [] {
    int count;
    CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0));
    CHECK(cudaFuncSetAttribute(wgmma_prefill_kernel<C>, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kSharedBytes));
    return count;
  }();
  wgmma_prefill_kernel<C><<<std::min<long>(tiles, multiprocessors), Tile::kThreads, Tile::kSharedBytes, stream>>>(
      batch, queries, pool, sinks, out, static_cast<int>(tiles));
}
/// Whether this device has wgmma.
static bool has_wgmma() {
  int major;
  CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  return major == 9;
}

template <class C, class Source>
__global__ void __launch_bounds__(mili::DecodeTile<C>::kThreads, mili::DecodeTile<C>::kMinBlocks)
    decode_kernel(const mili::Batch *batch, Source source, bf16 *pool, const float *sinks, bf16 *out, float *partials,
                  unsigned *counters) {
  mili::attention_decode<C>(batch, source, pool, sinks, out, partials, counters, blockIdx.x);
}

#ifndef MILI_HARNESS_COMPILE_ONLY

// --- data
// --------------------------------------------------------------------------------------------------------------

template <class T>
struct DeviceArray {
  T *data = nullptr;
  size_t count = 0;
  explicit DeviceArray(size_t n) : count(n) { CHECK(cudaMalloc(&data, std::max<size_t>(n, 1) * sizeof(T))); }
  explicit DeviceArray(const std::vector<T> &from) : DeviceArray(from.size()) {
    CHECK(cudaMemcpy(data, from.data(), count * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceArray(const DeviceArray &) = delete;
  ~DeviceArray() { cudaFree(data); }
  std::vector<T> host() const {
    std::vector<T> to(count);
    CHECK(cudaMemcpy(to.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
    return to;
  }
};

static float widen(bf16 x) {
  const unsigned bits = static_cast<unsigned>(x.bits) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

static bf16 narrow(float f) {
  unsigned bits;
  std::memcpy(&bits, &f, 4);
  return {static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

static std::vector<bf16> random_values(size_t count, float scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<bf16> values(count);
  for (bf16 &v : values)
    v = narrow(normal(random));
  return values;
}

struct Sequence {
  int queries;  ///< tokens of this step
  int keys;     ///< tokens in the state with this step's
};

/// A step's tables on the device. Pages are dealt out in a shuffled order from `first_page` on.
struct Step {
  int tokens = 0, sequences = 0, columns = 0, pages = 1;
  std::vector<int> positions, q_start{0}, kv_len, page_table;
  DeviceArray<int> device_positions, device_q_start, device_kv_len, device_page_table;
  DeviceArray<mili::Batch> batch{1};

  Step(const std::vector<Sequence> &list, int first_page, unsigned seed)
      : device_positions(fill(list, first_page, seed)), device_q_start(q_start), device_kv_len(kv_len),
        device_page_table(page_table) {
    mili::Batch host = {};
    host.tokens = tokens;
    host.sequences = sequences;
    host.pages_per_sequence = columns;
    host.positions = device_positions.data;
    host.q_start = device_q_start.data;
    host.kv_len = device_kv_len.data;
    host.page_table = device_page_table.data;
    CHECK(cudaMemcpy(batch.data, &host, sizeof host, cudaMemcpyHostToDevice));
  }

  const std::vector<int> &fill(const std::vector<Sequence> &list, int first_page, unsigned seed) {
    sequences = static_cast<int>(list.size());
    for (const Sequence &s : list) {
      for (int i = 0; i < s.queries; ++i)
        positions.push_back(s.keys - s.queries + i);
      tokens += s.queries;
      q_start.push_back(tokens);
      kv_len.push_back(s.keys);
      columns = std::max(columns, (s.keys + 63) / 64);
    }
    int needed = 0;
    for (int keys : kv_len)
      needed += (keys + 63) / 64;
    std::vector<int> order(needed);
    for (int i = 0; i < needed; ++i)
      order[i] = first_page + i;
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    pages = first_page + needed;
    // Columns that a sequence does not use name a page far outside the pool: reading it faults.
    page_table.assign(static_cast<size_t>(sequences) * columns, 1 << 28);
    int next = 0;
    for (int s = 0; s < sequences; ++s)
      for (int i = 0; i < (kv_len[s] + 63) / 64; ++i)
        page_table[static_cast<size_t>(s) * columns + i] = order[next++];
    return positions;
  }
};

static void parallel_for(int count, const std::function<void(int)> &body) {
  const int threads = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t)
    pool.emplace_back([&, t] {
      for (int i = t; i < count; i += threads)
        body(i);
    });
  for (std::thread &t : pool)
    t.join();
}

// --- correctness
// -------------------------------------------------------------------------------------------------------

static int failures = 0, checks = 0;
static double worst = 0;

static void report(const std::string &name, const std::vector<bf16> &got, const std::vector<double> &want, size_t row) {
  double error = 0, norm = 0, worst_row = 0;
  bool finite = true;
  for (size_t i = 0; i < want.size(); i += row) {
    double row_error = 0, row_norm = 0;
    for (size_t j = i; j < i + row; ++j) {
      const double value = widen(got[j]);
      finite &= std::isfinite(value);
      row_error += (value - want[j]) * (value - want[j]);
      row_norm += want[j] * want[j];
    }
    error += row_error;
    norm += row_norm;
    worst_row = std::max(worst_row, std::sqrt(row_error / std::max(row_norm, 1e-30)));
  }
  const double relative = std::sqrt(error / norm);
  const bool good = finite && relative <= 1e-2 && worst_row <= 3e-2;
  ++checks;
  failures += !good;
  worst = std::max(worst, finite ? relative : 1e30);
  if (!good)
    std::printf("FAILED %-60s relative L2 %.2e, worst row %.2e%s\n", name.c_str(), relative, worst_row,
                finite ? "" : ", not finite");
}

static void expect(bool good, const std::string &name, const char *what) {
  ++checks;
  failures += !good;
  if (!good)
    std::printf("FAILED %-60s %s\n", name.c_str(), what);
}

static bool same(const std::vector<bf16> &a, const std::vector<bf16> &b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(bf16)) == 0;
}

static const std::vector<std::vector<Sequence>> &problems() {
  static const std::vector<std::vector<Sequence>> list = [] {
    std::vector<std::vector<Sequence>> p;
    // Prefill beside decode, page boundaries, a token alone.
    p.push_back({{1, 1}, {1, 64}, {1, 65}, {37, 37}, {3, 130}, {64, 128}, {131, 200}});
    p.push_back({{70, 70}, {1, 777}, {5, 300}});
    p.push_back({{150, 333}});
    p.push_back({{1, 2100}, {90, 1500}, {256, 1280}});
    std::vector<Sequence> decode, mixed;
    for (int i = 0; i < 150; ++i)
      decode.push_back({1, 1 + (i * 37) % 290});
    for (int i = 0; i < 300; ++i)
      mixed.push_back({1 + i % 3, 3 + (i * 53) % 140});
    p.push_back(decode);
    p.push_back(mixed);
    return p;
  }();
  return list;
}

/// Which kernels of a configuration are checked besides raw prefill and appending decode.
enum Extra { kNone, kExtra };

template <class C, Extra extra>
static void check() {
  constexpr int kDim = C::kHeadDim, kGroup = C::kHeads / C::kKvHeads;
  char config[160];
  int length = std::snprintf(config, sizeof config, "%d/%d heads x %d window %d cap %g sinks %d splits %d, few %d",
                             C::kHeads, C::kKvHeads, kDim, C::kWindow, C::kSoftCap, C::kSinks, C::kSplits, C::kFewSplits);
  if constexpr (C::kSparse)
    std::snprintf(config + length, sizeof config - length, " blocks: local %d global %d stride %d random %d",
                  C::pattern().local, C::pattern().global, C::pattern().stride, C::pattern().random);
  // Whether a query sees a key at or before its position.
  const auto sees = [](int position, int key) {
    if (C::kWindow > 0 && key <= position - C::kWindow)
      return false;
    return !C::kSparse || C::pattern().rank(position / 64, key / 64) >= 0;
  };
  double before = worst;
  worst = 0;
  for (size_t number = 0; number < problems().size(); ++number) {
    const std::vector<Sequence> &list = problems()[number];
    const std::string name = std::string(config) + ", problem " + std::to_string(number) + ", ";
    const Step step(list, 1, 7);
    const size_t page_size = mili::kv_page_elements<C>();
    const std::vector<bf16> queries = random_values(static_cast<size_t>(step.tokens) * C::kHeads * kDim, 1.5f, 1);
    size_t keys = 0;
    std::vector<size_t> key_start;
    for (const Sequence &s : list) {
      key_start.push_back(keys);
      keys += s.keys;
    }
    // [sequence's position][kv_head][dim], and the same scattered over pages: all of it, and without the step's own
    // tokens.
    const std::vector<bf16> key_data = random_values(keys * C::kKvHeads * kDim, 1.0f, 2);
    const std::vector<bf16> value_data = random_values(keys * C::kKvHeads * kDim, 1.0f, 3);
    std::vector<float> sinks(C::kHeads);
    for (int h = 0; h < C::kHeads; ++h)
      sinks[h] = 0.5f * static_cast<float>(h % 7) - 0.5f;
    std::vector<bf16> full(page_size * step.pages, bf16{0x7fff}), old = full;
    std::vector<bf16> new_keys(static_cast<size_t>(step.tokens) * C::kKvHeads * kDim), new_values = new_keys;
    for (size_t s = 0; s < list.size(); ++s)
      for (int p = 0; p < list[s].keys; ++p)
        for (int h = 0; h < C::kKvHeads; ++h) {
          const size_t from = ((key_start[s] + p) * C::kKvHeads + h) * kDim;
          const size_t to = step.page_table[s * step.columns + p / 64] * page_size + (h * 64 + p % 64) * kDim;
          const size_t value_to = to + static_cast<size_t>(C::kKvHeads) * 64 * kDim;
          const int fresh = p - (list[s].keys - list[s].queries);
          for (int d = 0; d < kDim; ++d) {
            full[to + d] = key_data[from + d];
            full[value_to + d] = value_data[from + d];
            if (fresh < 0) {
              old[to + d] = key_data[from + d];
              old[value_to + d] = value_data[from + d];
            } else {
              const size_t at = ((step.q_start[s] + fresh) * static_cast<size_t>(C::kKvHeads) + h) * kDim + d;
              new_keys[at] = key_data[from + d];
              new_values[at] = value_data[from + d];
            }
          }
        }

    std::vector<double> want(queries.size());
    parallel_for(step.tokens, [&](int t) {
      const int s =
          static_cast<int>(std::upper_bound(step.q_start.begin(), step.q_start.end(), t) - step.q_start.begin()) - 1;
      const int last = step.positions[t];
      std::vector<double> weights(last + 1);
      for (int h = 0; h < C::kHeads; ++h) {
        const bf16 *q = &queries[(static_cast<size_t>(t) * C::kHeads + h) * kDim];
        double *o = &want[(static_cast<size_t>(t) * C::kHeads + h) * kDim];
        double top = C::kSinks ? sinks[h] : -1e300;
        for (int p = 0; p <= last; ++p) {
          if (!sees(last, p))
            continue;
          const bf16 *k = &key_data[((key_start[s] + p) * C::kKvHeads + h / kGroup) * kDim];
          double dot = 0;
          for (int d = 0; d < kDim; ++d)
            dot += static_cast<double>(widen(q[d])) * widen(k[d]);
          dot *= C::kScale;
          if constexpr (C::kSoftCap > 0)
            dot = C::kSoftCap * std::tanh(dot / C::kSoftCap);
          weights[p] = dot;
          top = std::max(top, dot);
        }
        double sum = C::kSinks ? std::exp(sinks[h] - top) : 0;
        for (int p = 0; p <= last; ++p) {
          if (!sees(last, p))
            continue;
          const double w = std::exp(weights[p] - top);
          const bf16 *v = &value_data[((key_start[s] + p) * C::kKvHeads + h / kGroup) * kDim];
          sum += w;
          for (int d = 0; d < kDim; ++d)
            o[d] += w * widen(v[d]);
        }
        for (int d = 0; d < kDim; ++d)
          o[d] /= sum;
      }
    });

    const DeviceArray<bf16> device_queries(queries), device_full(full), device_old(old), device_keys(new_keys),
        device_values(new_values);
    const DeviceArray<float> device_sinks(sinks);
    DeviceArray<bf16> out(queries.size());
    const auto poison = [&] { CHECK(cudaMemset(out.data, 0xff, out.count * sizeof(bf16))); };
    const auto finish = [&](const char *what) {
      CHECK(cudaGetLastError());
      CHECK(cudaDeviceSynchronize());
      report(name + what, out.host(), want, kDim);
    };

    using Prefill = mili::PrefillTile<C>;
    const auto prefill = [&](auto source, const char *what) {
      const auto kernel = prefill_kernel<C, decltype(source)>;
      CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Prefill::kSharedBytes));
      poison();
      kernel<<<Prefill::query_tile_bound(step.tokens, step.sequences) * C::kKvHeads, Prefill::kThreads,
               Prefill::kSharedBytes>>>(step.batch.data, source, device_full.data, device_sinks.data, out.data);
      finish(what);
    };
    using Computed = ComputedSource<C, false>;
    using Appending = ComputedSource<C, true>;
    prefill(RawSource{device_queries.data}, "prefill");
    if constexpr (kHasWgmma<C>) {
      if (has_wgmma()) {
        using Wgmma = mili::WgmmaPrefillTile<C>;
        poison();
        wgmma_prefill<C>(nullptr, step.batch.data, device_queries.data, device_full.data, device_sinks.data, out.data,
                         Wgmma::query_tile_bound(step.tokens, step.sequences) * C::kKvHeads);
        finish("prefill on wgmma");
      }
    }
    if constexpr (extra == kExtra)
      prefill(Computed{device_queries.data, nullptr, nullptr}, "prefill, computed queries");

    using Decode = mili::DecodeTile<C>;
    const long tiles = Decode::query_tile_bound(step.tokens, step.sequences);
    const DeviceArray<float> partials(Decode::partial_floats(tiles));
    const DeviceArray<unsigned> counters(std::vector<unsigned>(Decode::counter_count(tiles)));
    CHECK(cudaMemset(partials.data, 0xff, partials.count * sizeof(float)));
    const auto decode = [&](auto source, const DeviceArray<bf16> &pool, const char *what) {
      const auto kernel = decode_kernel<C, decltype(source)>;
      CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Decode::kSharedBytes));
      std::vector<bf16> first;
      // The second launch meets the counters that the first left, and must agree to the bit.
      for (int round = 0; round < 2; ++round) {
        poison();
        kernel<<<Decode::tiles(tiles), Decode::kThreads, Decode::kSharedBytes>>>(
            step.batch.data, source, pool.data, device_sinks.data, out.data, partials.data, counters.data);
        if (round == 0) {
          finish(what);
          first = out.host();
        } else {
          CHECK(cudaDeviceSynchronize());
          expect(same(first, out.host()), name + what, "differs between two launches");
        }
      }
    };
    decode(Appending{device_queries.data, device_keys.data, device_values.data}, device_old, "decode, appending");
    expect(same(device_old.host(), full), name + "decode, appending", "pages are not as they should be");
    if constexpr (extra == kExtra) {
      decode(RawSource{device_queries.data}, device_full, "decode");
      decode(Computed{device_queries.data, nullptr, nullptr}, device_full, "decode, computed queries");
      expect(same(device_full.host(), full), name + "decode", "pages changed");
    }
  }
  std::printf("%-66s error %.2e\n", config, worst);
  worst = std::max(worst, before);
}

static void check_all() {
  //           heads kv dim window cap sinks splits few
  check<Config<4, 4, 16, 0, 0, false, 4, 4>, kExtra>();
  check<Config<9, 3, 32, 0, 0, false, 2, 1>, kNone>();
  check<Config<8, 2, 64, 0, 0, false, 16, 16>, kExtra>();
  check<Config<8, 1, 64, 100, 0, true, 8, 8>, kNone>();
  check<Config<20, 1, 64, 0, 0, false, 4, 4>, kExtra>();
  check<Config<12, 4, 80, 0, 0, false, 1, 1>, kNone>();
  check<Config<4, 4, 96, 0, 20, false, 4, 2>, kNone>();
  check<Config<8, 2, 112, 0, 0, false, 4, 3>, kNone>();
  check<Config<8, 8, 128, 0, 0, false, 16, 16>, kNone>();
  check<Config<8, 2, 128, 0, 0, false, 16, 16>, kExtra>();
  check<Config<24, 8, 128, 128, 0, true, 4, 2>, kNone>();
  check<Config<8, 1, 128, 33, 30, true, 8, 8>, kNone>();
  check<Config<4, 2, 192, 0, 0, false, 4, 4>, kNone>();
  check<Config<6, 2, 256, 0, 0, false, 4, 4>, kExtra>();
  check<Config<4, 4, 256, 70, 50, false, 8, 8>, kNone>();
  check<Config<8, 2, 128, 0, 0, false, 4, 4, 1>, kNone>();
  check<Config<32, 8, 128, 0, 0, false, 8, 8, 4, 0, 4>, kExtra>();
  check<Config<8, 2, 128, 0, 0, false, 4, 2, 2, 0, 0, 3>, kExtra>();
  check<Config<16, 2, 128, 0, 0, true, 16, 16, 3, 2, 0, 3>, kNone>();
  check<Config<6, 6, 64, 0, 0, false, 2, 2, 3, 2, 0, 3>, kExtra>();
  check<Config<4, 1, 256, 0, 0, false, 4, 4, 2, 1, 3, 0>, kNone>();
}

// --- speed
// -------------------------------------------------------------------------------------------------------------

/// Microseconds of one launch: `launch(i)` enqueues the one that works on buffer set i of `sets`; a graph goes over all
/// sets at least once, so that nothing is in L2 from the launch before.
template <class Launch>
static double time_launches(int sets, int launches, Launch launch) {
  cudaStream_t stream;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  for (int i = 0; i < launches; ++i)
    launch(i % sets, stream);
  CHECK(cudaStreamEndCapture(stream, &graph));
  CHECK(cudaGraphInstantiate(&executable, graph, 0));
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 8; ++i) {
    CHECK(cudaEventRecord(begin, stream));
    CHECK(cudaGraphLaunch(executable, stream));
    CHECK(cudaEventRecord(end, stream));
    CHECK(cudaEventSynchronize(end));
    float ms;
    CHECK(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 2)
      times.push_back(ms * 1000.0f / static_cast<float>(launches));
  }
  std::sort(times.begin(), times.end());
  CHECK(cudaGraphExecDestroy(executable));
  CHECK(cudaGraphDestroy(graph));
  CHECK(cudaEventDestroy(begin));
  CHECK(cudaEventDestroy(end));
  CHECK(cudaStreamDestroy(stream));
  return times[times.size() / 2];
}

/// Finite, varied bf16 without a host copy of gigabytes: signs and mantissas from a hash, exponents around 1.
__global__ void fill_random(bf16 *data, size_t count, unsigned seed) {
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<size_t>(gridDim.x) * blockDim.x) {
    unsigned x = static_cast<unsigned>(i) * 2654435761u + seed;
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    data[i].bits = static_cast<unsigned short>((x & 0x807fu) | (0x3e80u + ((x >> 8 & 3) << 7)));
  }
}

struct BenchData {
  std::vector<Step *> steps;
  size_t pool_elements, rows;
  DeviceArray<bf16> *pool, *queries, *out;

  /// Buffer sets of (keys and values, queries, outputs) that together are at least 256 MB.
  template <class C>
  static BenchData make(const std::vector<Sequence> &list) {
    BenchData data;
    size_t pages = 0, tokens = 0;
    for (const Sequence &s : list) {
      pages += (s.keys + 63) / 64;
      tokens += s.queries;
    }
    const size_t page_size = mili::kv_page_elements<C>();
    const size_t bytes = pages * page_size * 2;
    const int sets = static_cast<int>(std::min<size_t>(128, std::max<size_t>(2, (size_t{256} << 20) / bytes + 1)));
    int next = 1;
    for (int i = 0; i < sets; ++i) {
      data.steps.push_back(new Step(list, next, i));
      next = data.steps.back()->pages;
    }
    data.rows = tokens * C::kHeads * C::kHeadDim;
    data.pool = new DeviceArray<bf16>(next * page_size);
    data.queries = new DeviceArray<bf16>(data.rows * sets);
    data.out = new DeviceArray<bf16>(data.rows * sets);
    fill_random<<<1024, 256>>>(data.pool->data, data.pool->count, 1);
    fill_random<<<1024, 256>>>(data.queries->data, data.queries->count, 2);
    CHECK(cudaDeviceSynchronize());
    return data;
  }
  void free() {
    for (Step *s : steps)
      delete s;
    delete pool;
    delete queries;
    delete out;
  }
};

/// Share of the blocks of keys that a query of a whole context sees, over the queries of a prompt or of its last block.
template <class C>
static double visible_share(int tokens, bool last) {
  double seen = 0, all = 0;
  for (int i = last ? (tokens - 1) / 64 : 0; i <= (tokens - 1) / 64; ++i) {
    all += i + 1;
    seen += C::kSparse ? C::pattern().count(i) : C::kWindow ? std::min(i + 1, C::kWindow / 64 + 1) : i + 1;
  }
  return seen / all;
}

/// TFLOP/s count what is visible.
template <class C>
static void bench_prefill(int tokens, const char *name = "") {
  using Tile = mili::PrefillTile<C>;
  BenchData data = BenchData::make<C>({{tokens, tokens}});
  const auto kernel = prefill_kernel<C, RawSource>;
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kSharedBytes));
  const int sets = static_cast<int>(data.steps.size());
  const double share = visible_share<C>(tokens, false);
  const double flops = 2.0 * tokens * tokens * C::kHeads * C::kHeadDim * share;
  const auto report = [&](const char *what, double us) {
    std::printf("%-7s %2d/%d x %3d, %5d tokens, %5.1f%% seen %-16s %10.1f us  %6.1f TFLOP/s\n", what, C::kHeads,
                C::kKvHeads, C::kHeadDim, tokens, 100 * share, name, us, flops / us * 1e-6);
  };
  report("prefill", time_launches(sets, tokens > 10000 ? 2 : sets, [&](int i, cudaStream_t stream) {
           kernel<<<Tile::query_tile_bound(tokens, 1) * C::kKvHeads, Tile::kThreads, Tile::kSharedBytes, stream>>>(
               data.steps[i]->batch.data, RawSource{data.queries->data + i * data.rows}, data.pool->data, nullptr,
               data.out->data + i * data.rows);
         }));
  if constexpr (kHasWgmma<C>) {
    if (has_wgmma())
      report("wgmma", time_launches(sets, tokens > 10000 ? 2 : sets, [&](int i, cudaStream_t stream) {
               wgmma_prefill<C>(stream, data.steps[i]->batch.data, data.queries->data + i * data.rows, data.pool->data,
                                nullptr, data.out->data + i * data.rows,
                                mili::WgmmaPrefillTile<C>::query_tile_bound(tokens, 1) * C::kKvHeads);
             }));
  }
  data.free();
}

template <class C>
static void bench_decode(BenchData &data, int sequences, int keys, const char *name = "", bool crowded = false) {
  using Tile = mili::DecodeTile<C>;
  const auto kernel = decode_kernel<C, RawSource>;
  const long tiles = Tile::query_tile_bound(sequences, sequences);
  // As CudaAttentionTemplate launches it: blocks that could all run at once, two on each multiprocessor, are kept from
  // sharing one with more of them.
  const int shared = Tile::tiles(tiles) <= 2 * 132 && !crowded ? max(Tile::kSharedBytes, 80 * 1024) : Tile::kSharedBytes;
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
  const DeviceArray<float> partials(Tile::partial_floats(tiles));
  const DeviceArray<unsigned> counters(std::vector<unsigned>(Tile::counter_count(tiles)));
  const int sets = static_cast<int>(data.steps.size());
  const double us = time_launches(sets, std::max(sets, 8), [&](int i, cudaStream_t stream) {
    // As in a step: a kernel may begin while the one before it ends.
    cudaLaunchAttribute dependent = {};
    dependent.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    dependent.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(Tile::tiles(tiles)));
    config.blockDim = dim3(Tile::kThreads);
    config.dynamicSmemBytes = static_cast<size_t>(shared);
    config.stream = stream;
    config.attrs = &dependent;
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelEx(&config, kernel, data.steps[i]->batch.data, RawSource{data.queries->data + i * data.rows},
                             data.pool->data, static_cast<const float *>(nullptr), data.out->data + i * data.rows,
                             partials.data, counters.data));
  });
  const double share = visible_share<C>(keys, true), bytes = 4.0 * sequences * keys * C::kKvHeads * C::kHeadDim * share;
  std::printf("decode  %2d/%d x %3d, %2d x %5d, %3d splits, %5.1f%% seen %-16s %10.1f us  %6.2f TB/s\n", C::kHeads,
              C::kKvHeads, C::kHeadDim, sequences, keys, C::kSplits, 100 * share, name, us, bytes / us * 1e-6);
}

template <int Keys, int... Splits>
static void bench_decodes(int sequences) {
  BenchData data =
      BenchData::make<Config<32, 8, 128, 0, 0, false, 1, 1>>(std::vector<Sequence>(sequences, Sequence{1, Keys}));
  (bench_decode<Config<32, 8, 128, 0, 0, false, Splits, Splits>>(data, sequences, Keys), ...);
  (bench_decode<Config<32, 8, 128, 0, 0, false, Splits, Splits>>(data, sequences, Keys, "crowded", true), ...);
  data.free();
}

/// Masks at 32k tokens beside the dense one: prompts, and decoding with a batch of 32.
static void bench_patterns() {
  constexpr int kTokens = 32768;
  bench_prefill<Config<32, 8, 128, 0, 0, false, 1, 1>>(kTokens, "dense");
  bench_prefill<Config<32, 8, 128, 4096, 0, false, 1, 1>>(kTokens, "window 4096");
  bench_prefill<Config<32, 8, 128, 0, 0, false, 1, 1, 16, 0, 16>>(kTokens, "strided 1024");
  bench_prefill<Config<32, 8, 128, 0, 0, false, 1, 1, 8, 0, 0, 8>>(kTokens, "local + random");
  bench_prefill<Config<32, 8, 128, 0, 0, false, 1, 1, 3, 2, 0, 3>>(kTokens, "BigBird");
  using Dense = Config<32, 8, 128, 0, 0, false, 1, 1>;
  BenchData data = BenchData::make<Dense>(std::vector<Sequence>(32, Sequence{1, kTokens}));
  bench_decode<Dense>(data, 32, kTokens, "dense");
  bench_decode<Dense>(data, 32, kTokens, "dense, crowded", true);
  bench_decode<Config<32, 8, 128, 0, 0, false, 4, 4>>(data, 32, kTokens, "dense");
  bench_decode<Config<32, 8, 128, 4096, 0, false, 1, 1>>(data, 32, kTokens, "window 4096");
  bench_decode<Config<32, 8, 128, 4096, 0, false, 3, 3>>(data, 32, kTokens, "window 4096");
  bench_decode<Config<32, 8, 128, 0, 0, false, 1, 1, 16, 0, 16>>(data, 32, kTokens, "strided 1024");
  bench_decode<Config<32, 8, 128, 0, 0, false, 1, 1, 8, 0, 0, 8>>(data, 32, kTokens, "local + random");
  bench_decode<Config<32, 8, 128, 0, 0, false, 2, 2, 8, 0, 0, 8>>(data, 32, kTokens, "local + random");
  bench_decode<Config<32, 8, 128, 0, 0, false, 1, 1, 3, 2, 0, 3>>(data, 32, kTokens, "BigBird");
  bench_decode<Config<32, 8, 128, 0, 0, false, 2, 2, 3, 2, 0, 3>>(data, 32, kTokens, "BigBird");
  data.free();
}

static void bench_all() {
  for (int tokens : {2048, 8192, 32768})
    bench_prefill<Config<32, 8, 128, 0, 0, false, 1, 1>>(tokens);
  bench_prefill<Config<32, 8, 64, 0, 0, false, 1, 1>>(8192);
  bench_decodes<8192, 1, 4>(64);
  bench_decodes<1024, 1, 2>(64);
  bench_decodes<32768, 32, 33, 64>(1);
  bench_decodes<4096, 16, 32>(1);
  bench_decodes<512, 4, 8>(1);
}

int main(int argc, char **argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode != "bench" && mode != "patterns") {
    check_all();
    std::printf("%d checks, %d failed, largest relative L2 error %.2e (bound 1e-2)\n", checks, failures, worst);
  }
  if (mode != "check" && mode != "patterns" && failures == 0)
    bench_all();
  if (mode == "patterns")
    bench_patterns();
  return failures == 0 ? 0 : 1;
}

#endif  // MILI_HARNESS_COMPILE_ONLY
