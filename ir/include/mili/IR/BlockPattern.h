//===- BlockPattern.h - which blocks of keys a query sees ---------*- C++ -*-===//
//
// The one definition of `#mili.block_sparse`: the compiler counts with it and CUDA kernels walk by it (it travels in
// plans as a device header), so it includes nothing. Keys and queries come in blocks of 64 tokens of their sequence. A
// query of block i sees, of the blocks 0..i:
//
//   the last `local` of them, its own among them (there only keys up to itself);
//   the first `global`;
//   of those between, either every one whose distance from i is a multiple of `stride` (strided attention of Child et
//   al., arXiv 1904.10509), or `random` of them, one drawn from each of as many equal ranges (BigBird's random blocks,
//   Zaheer et al., arXiv 2007.14062, drawn in strata so that they differ and come in order).
//
// A query's blocks are numbered from 0 in ascending order; `nth` and `rank` are each other's inverse.
//
//===------------------------------------------------------------------------===//
#ifndef MILI_IR_BLOCKPATTERN_H
#define MILI_IR_BLOCKPATTERN_H

#ifndef MILI_CONSTEXPR
#define MILI_CONSTEXPR constexpr
#endif

namespace mili_attention {  // neither the compiler's mlir::mili nor the kernels' ::mili

/// Tokens of a block: those of a KV page.
constexpr int kPatternTokens = 64;

struct BlockPattern {
  int local;   // at least 1
  int global;  // at least 0
  int stride;  // 0: none
  int random;  // 0: none; not together with stride
  unsigned seed;

  /// The first of the blocks before a query's own that it sees as local ones.
  MILI_CONSTEXPR int first_local(int i) const { return i < local ? 0 : i - local + 1; }
  MILI_CONSTEXPR int globals(int i) const { return first_local(i) < global ? first_local(i) : global; }
  /// Blocks between the global and the local ones, seen or not.
  MILI_CONSTEXPR int between(int i) const { return first_local(i) - globals(i); }
  /// Those of them that are seen.
  MILI_CONSTEXPR int middles(int i) const {
    if (stride > 0) {
      // Multiples of the stride among the distances local .. i - global.
      const int farthest = between(i) > 0 ? (i - global) / stride : 0;
      const int nearer = (local - 1) / stride;
      return farthest > nearer ? farthest - nearer : 0;
    }
    return between(i) < random ? between(i) : random;
  }
  /// Blocks that a query of block i sees.
  MILI_CONSTEXPR int count(int i) const { return globals(i) + middles(i) + (i - first_local(i) + 1); }

  /// The block seen as number n, 0 <= n < count(i).
  MILI_CONSTEXPR int nth(int i, int n) const {
    const int globals = this->globals(i), middles = this->middles(i);
    if (n < globals)
      return n;
    if (n >= globals + middles)
      return first_local(i) + (n - globals - middles);
    return middle(i, n - globals, middles);
  }

  /// The number under which a query of block i sees block j, or -1.
  MILI_CONSTEXPR int rank(int i, int j) const {
    const int globals = this->globals(i), middles = this->middles(i);
    if (j < 0 || j > i)
      return -1;
    if (j >= first_local(i))
      return globals + middles + (j - first_local(i));
    if (j < globals)
      return j;
    if (middles == 0)
      return -1;
    int number = 0;
    if (stride > 0)
      number = (i - j) % stride != 0 ? -1 : middles - ((i - j) / stride - (local - 1) / stride);
    else if (between(i) <= random)
      number = j - globals;
    else
      number = ((j - globals + 1) * random - 1) / between(i);  // the range that j is in
    return number >= 0 && middle(i, number, middles) == j ? globals + number : -1;
  }

private:
  MILI_CONSTEXPR int middle(int i, int number, int middles) const {
    if (stride > 0)
      return i - (middles - number + (local - 1) / stride) * stride;
    const int globals = this->globals(i), between = this->between(i);
    if (between <= random)
      return globals + number;
    const int low = number * between / random, high = (number + 1) * between / random;
    return globals + low + static_cast<int>(hash(i, number) % static_cast<unsigned>(high - low));
  }
  /// The finalizer of MurmurHash3 (Appleby) over the seed, the query's block and the range.
  MILI_CONSTEXPR unsigned hash(int i, int number) const {
    unsigned h = seed + static_cast<unsigned>(i) * 0x9e3779b1u + static_cast<unsigned>(number) * 0x85ebca77u;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    return h ^ (h >> 16);
  }
};

}  // namespace mili_attention

#endif  // MILI_IR_BLOCKPATTERN_H
