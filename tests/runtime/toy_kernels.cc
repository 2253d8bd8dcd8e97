// The host object of the test plans: a toy transformer of one layer, as plain loops. Built without any library, like
// code that the compiler makes. Attention weighs by 1 + (q.k)^2 in place of a softmax, so that no exp is needed.
#include "mili/runtime/cpu_abi.h"
#include "toy_model.h"

using mili::Batch;
using namespace mili::toy;

#define KERNEL extern "C" __attribute__((visibility("default"))) void

// args: weight E [vocab][width], out x [T][width]. A tile is a token.
KERNEL toy_embed(void *const *args, const Batch *batch, uint64_t begin, uint64_t end, void *) {
  const float *table = static_cast<const float *>(args[0]);
  float *x = static_cast<float *>(args[1]);
  for (uint64_t t = begin; t < end; ++t)
    for (int i = 0; i < kWidth; ++i)
      x[t * kWidth + i] = table[batch->token_ids[t] * kWidth + i] + position_term(batch->positions[t], i);
}

// args: x, state of page table `page_table`. A tile is a token.
static void append(void *const *args, const Batch *batch, uint64_t begin, uint64_t end, int page_table) {
  const float *x = static_cast<const float *>(args[0]);
  float *pool = static_cast<float *>(args[1]);
  for (uint64_t t = begin; t < end; ++t) {
    const int64_t position = batch->positions[t];
    const int64_t line = page_table * batch->sequences + batch->segments[t];
    const int32_t page = batch->page_table[line * batch->pages_per_sequence + position / 64];
    for (int i = 0; i < kWidth; ++i) {
      const int head = i / kHeadWidth, column = i % kHeadWidth;
      float *k = pool + ((int64_t(page) * 2 * kHeads + head) * 64 + position % 64) * kHeadWidth;
      k[column] = x[t * kWidth + i];
      k[kHeads * 64 * kHeadWidth + column] = 2 * x[t * kWidth + i];
    }
  }
}
KERNEL toy_append(void *const *args, const Batch *batch, uint64_t begin, uint64_t end, void *) {
  append(args, batch, begin, end, 0);
}
KERNEL toy_append_window(void *const *args, const Batch *batch, uint64_t begin, uint64_t end, void *) {
  append(args, batch, begin, end, 1);
}

// args: x, state, out y [T][width]. A tile is a token. Scratch holds one row.
static void attend(void *const *args, const Batch *batch, uint64_t begin, uint64_t end, void *scratch, int page_table,
                   int window) {
  const float *x = static_cast<const float *>(args[0]);
  const float *pool = static_cast<const float *>(args[1]);
  float *y = static_cast<float *>(args[2]);
  float *row = static_cast<float *>(scratch);
  for (uint64_t t = begin; t < end; ++t) {
    const int64_t line = page_table * batch->sequences + batch->segments[t];
    const int64_t first = window && batch->positions[t] >= window ? batch->positions[t] - window + 1 : 0;
    for (int head = 0; head < kHeads; ++head) {
      float sum = 0;
      for (int i = 0; i < kHeadWidth; ++i)
        row[i] = 0;
      for (int64_t p = first; p <= batch->positions[t]; ++p) {
        const int32_t page = batch->page_table[line * batch->pages_per_sequence + p / 64];
        const float *k = pool + ((int64_t(page) * 2 * kHeads + head) * 64 + p % 64) * kHeadWidth;
        const float *v = k + kHeads * 64 * kHeadWidth;
        float dot = 0;
        for (int i = 0; i < kHeadWidth; ++i)
          dot += x[t * kWidth + head * kHeadWidth + i] * k[i];
        const float weight = 1 + dot * dot;
        sum += weight;
        for (int i = 0; i < kHeadWidth; ++i)
          row[i] += weight * v[i];
      }
      for (int i = 0; i < kHeadWidth; ++i)
        y[t * kWidth + head * kHeadWidth + i] = row[i] / sum;
    }
  }
}
KERNEL toy_attend(void *const *args, const Batch *batch, uint64_t begin, uint64_t end, void *scratch) {
  attend(args, batch, begin, end, scratch, 0, 0);
}
KERNEL toy_attend_window(void *const *args, const Batch *batch, uint64_t begin, uint64_t end, void *scratch) {
  attend(args, batch, begin, end, scratch, 1, kToyWindow);
}

// args: y, weight E, out logits [R][vocab]. A tile is a row.
KERNEL toy_logits(void *const *args, const Batch *batch, uint64_t begin, uint64_t end, void *) {
  const float *y = static_cast<const float *>(args[0]);
  const float *table = static_cast<const float *>(args[1]);
  float *logits = static_cast<float *>(args[2]);
  for (uint64_t r = begin; r < end; ++r)
    for (int v = 0; v < kVocab; ++v) {
      float dot = 0;
      for (int i = 0; i < kWidth; ++i)
        dot += y[batch->logit_tokens[r] * kWidth + i] * table[v * kWidth + i];
      logits[r * kVocab + v] = dot;
    }
}

// For the device suite. args: in/out counts u64[tiles]. Each tile adds one to its own entry.
KERNEL toy_count(void *const *args, const Batch *, uint64_t begin, uint64_t end, void *) {
  for (uint64_t t = begin; t < end; ++t)
    ++static_cast<uint64_t *>(args[0])[t];
}

// args: in u64[256], out u64[256]: out[i] = in[255 - i] + 1. Reads what other workers wrote in the launch before.
KERNEL toy_reverse(void *const *args, const Batch *, uint64_t begin, uint64_t end, void *) {
  for (uint64_t t = begin; t < end; ++t)
    static_cast<uint64_t *>(args[1])[t] = static_cast<const uint64_t *>(args[0])[255 - t] + 1;
}
