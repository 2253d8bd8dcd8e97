#include "machine.h"

#include <algorithm>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

namespace mili::emulator {
namespace {

constexpr size_t kStackBytes = 64 * 1024;
constexpr size_t kStackShift = 320;
constexpr size_t kPage = 4096;
// Before and behind a block's shared memory.
constexpr size_t kGuardBytes = 1024;
// Every bit set is NaN as f32 and as bf16, and no index.
constexpr unsigned char kPoison = 0xff, kGuard = 0xa5;

// A thread that waits in a warp's meeting is a lane of Warp::waiting.
enum class State : uint8_t { kInside, kAtBarrier, kAtPhase, kExited };

struct Warp;
// What the lanes of a mask do once all of them are there.
using Meeting = void (*)(Warp &warp, unsigned mask);

struct Copy {
  unsigned char *to;
  const void *from;
  bool valid;
  unsigned group;
};

// A box of a tensor map under way.
struct Box {
  unsigned to, barrier;
  MiliTensorMap map;
  int column, row;
};

// A warp's part of a wgmma that was asked for.
struct Product {
  float *d[kWarp];
  int columns;
  uint64_t a, b;
  bool accumulate;
  unsigned group;
  // Where a was in registers, and b may be transposed.
  bool registers = false, transposed = false;
  uint32_t fragment[kWarp][4] = {};
};

// The word of an mbarrier: arrivals of a phase and those still missing, bytes still missing, the phase's parity.
struct Phase {
  uint16_t arrivals, missing;
  int32_t bytes : 31;
  uint32_t parity : 1;
};
static_assert(sizeof(Phase) == 8);

struct Fiber {
  void *stack_pointer = nullptr;
  unsigned index = 0;
  State state = State::kExited;
  // The mbarrier that it waits for.
  unsigned barrier = 0;
  // cp.async under way.
  unsigned group = 0;
  std::vector<Copy> copies;
};

struct Warp {
  unsigned runnable = 0, waiting = 0;  // lanes; the latter in a meeting
  unsigned number = 0;
  bool mixed = false;  // lanes came for different things
  // What a lane waits for, and what it brings and takes.
  Meeting meeting[kWarp] = {};
  const char *what[kWarp] = {};
  unsigned mask[kWarp] = {};
  uint64_t value[kWarp] = {}, result[kWarp] = {};
  int argument[kWarp] = {};
  const void *in[kWarp] = {};
  void *out[kWarp] = {};
  // wgmma.
  std::vector<Product> products;
  unsigned group = 0;
};

struct Machine {
  const MiliKernel *kernel = nullptr;
  LaunchShape shape;
  void **parameters = nullptr;
  bool reverse = false;
  MiliDim3 block{};
  Fiber fibers[kMaxThreads];
  unsigned char *stacks = nullptr;
  unsigned char *shared = nullptr;  // of kMaxShared, with a guard on both sides
  unsigned threads = 0, warps = 0, alive = 0, at_barrier = 0;
  Warp warp[kMaxThreads / kWarp];
  std::vector<Box> boxes;
  Fiber *current = nullptr;
  void *main_stack_pointer = nullptr;
  std::string fault;
};

Machine machine;

}  // namespace

extern "C" void mili_switch_stack(void **save, void *load);
asm(R"(
.text
.type mili_switch_stack,@function
.hidden mili_switch_stack
.globl mili_switch_stack
mili_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size mili_switch_stack,.-mili_switch_stack
)");

namespace {

std::string describe_thread(unsigned thread) {
  return "kernel " + std::string(machine.kernel->name) + ", block " + std::to_string(machine.block.x) + " of " +
         std::to_string(machine.shape.grid.x) + ", thread " + std::to_string(thread) + " of " +
         std::to_string(machine.threads);
}

// Ends the launch. The other fibers are left where they are: kernels own nothing that has to be released.
[[noreturn]] void fail(const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  machine.fault = describe_thread(machine.current->index) + ": " + text;
  void *nowhere;
  mili_switch_stack(&nowhere, machine.main_stack_pointer);
  std::abort();
}

void go_to(Fiber *next) {
  Fiber *before = machine.current;
  if (next == before)
    return;
  machine.current = next;
  machine.kernel->thread->x = next->index;
  mili_switch_stack(&before->stack_pointer, next->stack_pointer);
}

bool deliver_boxes(const unsigned *barrier);

// The next thread that can run: of this warp if there is one, so that warps run apart as far as they can.
void give_way() {
  unsigned warp = machine.current->index / kWarp;
  for (unsigned i = 0; i < machine.warps; ++i) {
    if (const unsigned lanes = machine.warp[warp].runnable)
      return go_to(
          &machine.fibers[warp * kWarp + (machine.reverse ? 31 - __builtin_clz(lanes) : __builtin_ctz(lanes))]);
    if (machine.reverse)
      warp = warp == 0 ? machine.warps - 1 : warp - 1;
    else
      warp = warp + 1 == machine.warps ? 0 : warp + 1;
  }
  if (machine.alive == 0) {
    void *nowhere;
    mili_switch_stack(&nowhere, machine.main_stack_pointer);
  }
  if (deliver_boxes(nullptr))
    return give_way();
  std::string where;
  const char *before = nullptr;
  for (unsigned i = 0; i < machine.threads; ++i) {
    const Fiber &fiber = machine.fibers[i];
    const Warp &own = machine.warp[i / kWarp];
    const char *what = fiber.state == State::kExited      ? "its end"
                       : fiber.state == State::kAtBarrier ? "__syncthreads"
                       : fiber.state == State::kAtPhase   ? "an mbarrier"
                                                          : own.what[i % kWarp];
    if (what != before)
      where.append(" ").append(std::to_string(i)).append(": ").append(what).append(";");
    before = what;
  }
  fail("threads wait for each other forever: from thread on, at%s", where.substr(0, 400).c_str());
}

void set_runnable(Fiber &fiber, bool is) {
  const unsigned bit = 1u << (fiber.index % kWarp);
  unsigned &lanes = machine.warp[fiber.index / kWarp].runnable;
  lanes = is ? lanes | bit : lanes & ~bit;
}

void release_barrier_if_full() {
  if (machine.at_barrier == 0 || machine.at_barrier != machine.alive)
    return;
  machine.at_barrier = 0;
  for (unsigned i = 0; i < machine.threads; ++i)
    if (machine.fibers[i].state == State::kAtBarrier) {
      machine.fibers[i].state = State::kInside;
      set_runnable(machine.fibers[i], true);
    }
}

void wait_at_barrier() {
  Fiber &own = *machine.current;
  own.state = State::kAtBarrier;
  set_runnable(own, false);
  ++machine.at_barrier;
  release_barrier_if_full();
  give_way();
}

template <class F>
void for_lanes(unsigned mask, F &&f) {
  for (; mask; mask &= mask - 1)
    f(static_cast<unsigned>(__builtin_ctz(mask)));
}

// The current thread's warp and lane.
struct Place {
  Warp &warp = machine.warp[machine.current->index / kWarp];
  const unsigned lane = machine.current->index % kWarp;
};

// Waits for the lanes of `mask`; the last one does what they came for.
inline void meet(const Place &at, unsigned mask, Meeting meeting, const char *what) {
  Warp &warp = at.warp;
  const unsigned bit = 1u << at.lane;
  if (!(mask & bit))
    fail("%s with the mask %08x, which is without the lane itself", what, mask);
  if (warp.waiting == 0) {
    warp.mixed = false;
  } else {
    const unsigned other = static_cast<unsigned>(__builtin_ctz(warp.waiting));
    warp.mixed |= warp.meeting[other] != meeting || warp.mask[other] != mask;
  }
  warp.meeting[at.lane] = meeting;
  warp.what[at.lane] = what;
  warp.mask[at.lane] = mask;
  warp.waiting |= bit;
  warp.runnable &= ~bit;
  if ((warp.waiting & mask) != mask)
    return give_way();
  if (warp.mixed)
    for_lanes(mask, [&](unsigned lane) {
      if (warp.meeting[lane] != meeting || warp.mask[lane] != mask)
        fail("%s with the mask %08x, while lane %u is at %s with %08x", what, mask, lane, warp.what[lane],
             warp.mask[lane]);
    });
  meeting(warp, mask);
  warp.waiting &= ~mask;
  warp.runnable |= mask;
  give_way();
}

//===--- what kernels ask for ---===//

void sync_warp(unsigned mask) {
  meet(Place(), mask, [](Warp &, unsigned) {}, "__syncwarp");
}

template <MiliShuffle kKind>
void exchange(Warp &warp, unsigned mask) {
  for_lanes(mask, [&](unsigned lane) {
    const int argument = warp.argument[lane];
    int from = static_cast<int>(lane);
    switch (kKind) {
    case kMiliShuffleIndex: from = argument % static_cast<int>(kWarp); break;
    case kMiliShuffleXor: from ^= argument; break;
    case kMiliShuffleUp: from = from < argument ? from : from - argument; break;
    case kMiliShuffleDown: from = from + argument < static_cast<int>(kWarp) ? from + argument : from; break;
    }
    if (from < 0 || from >= static_cast<int>(kWarp) || !(mask >> from & 1))
      fail("a shuffle with the mask %08x in which lane %u asks for lane %d", mask, lane, from);
    warp.result[lane] = warp.value[from];
  });
}

unsigned long shuffle(unsigned mask, MiliShuffle kind, unsigned long value, int argument) {
  static constexpr Meeting kMeetings[] = {exchange<kMiliShuffleIndex>, exchange<kMiliShuffleXor>,
                                          exchange<kMiliShuffleUp>, exchange<kMiliShuffleDown>};
  const Place at;
  at.warp.value[at.lane] = value;
  at.warp.argument[at.lane] = argument;
  meet(at, mask, kMeetings[kind], "a shuffle");
  return at.warp.result[at.lane];
}

unsigned ballot(unsigned mask, bool vote) {
  const Place at;
  at.warp.value[at.lane] = vote;
  meet(
      at, mask,
      [](Warp &warp, unsigned mask) {
        unsigned votes = 0;
        for_lanes(mask, [&](unsigned lane) { votes |= static_cast<unsigned>(warp.value[lane]) << lane; });
        for_lanes(mask, [&](unsigned lane) { warp.result[lane] = votes; });
      },
      "a vote");
  return static_cast<unsigned>(at.warp.result[at.lane]);
}

unsigned shared_address(const void *pointer) {
  const auto *at = static_cast<const unsigned char *>(pointer);
  if (at < machine.shared || at > machine.shared + machine.shape.shared_bytes)
    fail("an address that is not in the %u bytes of dynamic shared memory", machine.shape.shared_bytes);
  return kSharedBase + static_cast<unsigned>(at - machine.shared);
}

void *shared_pointer(unsigned address, unsigned bytes) {
  if (address < kSharedBase || address - kSharedBase + uint64_t{bytes} > machine.shape.shared_bytes)
    fail("%u bytes at %u of dynamic shared memory, of which the block has %u", bytes, address - kSharedBase,
         machine.shape.shared_bytes);
  if (address % std::min(bytes, 16u) != 0)
    fail("%u bytes at %u of dynamic shared memory, which is not aligned", bytes, address - kSharedBase);
  return machine.shared + (address - kSharedBase);
}

void load_matrix(unsigned *registers, int count, bool transposed, unsigned address) {
  const Place at;
  at.warp.out[at.lane] = registers;
  at.warp.argument[at.lane] = count * 2 + transposed;
  at.warp.value[at.lane] = address;
  meet(
      at, ~0u,
      [](Warp &warp, unsigned) {
        const int count = warp.argument[0] / 2;
        const bool transposed = warp.argument[0] % 2;
        for (int matrix = 0; matrix < count; ++matrix) {
          uint16_t rows[8][8];
          for (int row = 0; row < 8; ++row)
            std::memcpy(rows[row], shared_pointer(static_cast<unsigned>(warp.value[matrix * 8 + row]), 16), 16);
          for (int lane = 0; lane < 32; ++lane) {
            const int row = lane / 4, column = lane % 4 * 2;
            const uint32_t low = transposed ? rows[column][row] : rows[row][column];
            const uint32_t high = transposed ? rows[column + 1][row] : rows[row][column + 1];
            static_cast<unsigned *>(warp.out[lane])[matrix] = low | high << 16;
          }
        }
      },
      "ldmatrix");
}

float bf16_value(uint32_t bits) {
  bits <<= 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

void mma(float *d, const unsigned *a, unsigned b0, unsigned b1) {
  const Place at;
  at.warp.out[at.lane] = d;
  at.warp.in[at.lane] = a;
  at.warp.value[at.lane] = b0 | uint64_t{b1} << 32;
  meet(
      at, ~0u,
      [](Warp &warp, unsigned) {
        float a[16][16], b[16][8], d[16][8];
        for (int lane = 0; lane < 32; ++lane) {
          const int row = lane / 4, column = lane % 4 * 2;
          const auto *from = static_cast<const unsigned *>(warp.in[lane]);
          const auto *sum = static_cast<const float *>(warp.out[lane]);
          for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 2; ++j)
              a[row + i % 2 * 8][column + i / 2 * 8 + j] = bf16_value(from[i] >> (16 * j) & 0xffff);
          for (int i = 0; i < 4; ++i) {
            b[column + i / 2 * 8 + i % 2][row] = bf16_value(warp.value[lane] >> (16 * i) & 0xffff);
            d[row + i / 2 * 8][column + i % 2] = sum[i];
          }
        }
        for (int row = 0; row < 16; ++row)
          for (int k = 0; k < 16; ++k)
            for (int column = 0; column < 8; ++column)
              d[row][column] += a[row][k] * b[k][column];
        for (int lane = 0; lane < 32; ++lane)
          for (int i = 0; i < 4; ++i)
            static_cast<float *>(warp.out[lane])[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
      },
      "mma");
}

void copy_async(unsigned to, const void *from, bool valid) {
  auto *target = static_cast<unsigned char *>(shared_pointer(to, 16));
  if (valid && reinterpret_cast<uintptr_t>(from) % 16 != 0)
    fail("an asynchronous copy from %p, which is not aligned to 16 bytes", from);
  // What lies there is not to be read until the copy has arrived.
  std::memset(target, kPoison, 16);
  Fiber &own = *machine.current;
  own.copies.push_back({target, from, valid, own.group});
}

void commit() {
  ++machine.current->group;
}

void wait(int pending) {
  Fiber &own = *machine.current;
  size_t arrived = 0;
  for (; arrived < own.copies.size(); ++arrived) {
    const Copy &copy = own.copies[arrived];
    if (copy.group + static_cast<unsigned>(pending) >= own.group)
      break;
    if (copy.valid)
      std::memcpy(copy.to, copy.from, 16);
    else
      std::memset(copy.to, 0, 16);
  }
  own.copies.erase(own.copies.begin(), own.copies.begin() + static_cast<ptrdiff_t>(arrived));
}

// The 128-byte swizzle: which 16 bytes of a row of 128 an address means depends on the row.
unsigned swizzled(unsigned address) {
  return address ^ (address >> 7 & 7) << 4;
}

Phase &phase_at(unsigned barrier) {
  return *static_cast<Phase *>(shared_pointer(barrier, sizeof(Phase)));
}

void end_phase_if_complete(unsigned barrier) {
  Phase &phase = phase_at(barrier);
  if (phase.missing != 0 || phase.bytes != 0)
    return;
  phase.parity ^= 1;
  phase.missing = phase.arrivals;
  for (unsigned i = 0; i < machine.threads; ++i) {
    Fiber &fiber = machine.fibers[i];
    if (fiber.state != State::kAtPhase || fiber.barrier != barrier)
      continue;
    fiber.state = State::kInside;
    set_runnable(fiber, true);
  }
}

void barrier_init(unsigned barrier, unsigned arrivals) {
  phase_at(barrier) = {static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals), 0, 0};
}

void barrier_arrive(unsigned barrier, unsigned bytes) {
  Phase &phase = phase_at(barrier);
  if (phase.missing == 0 || phase.missing > phase.arrivals)
    fail("an arrival at an mbarrier that expects no more, or was not initialized");
  --phase.missing;
  phase.bytes += static_cast<int>(bytes);
  end_phase_if_complete(barrier);
}

void copies_arrive(unsigned barrier) {
  commit();
  wait(0);
  barrier_arrive(barrier, 0);
}

// The boxes of a barrier, or of all; false if there is none.
bool deliver_boxes(const unsigned *barrier) {
  std::vector<Box> due;
  std::erase_if(machine.boxes, [&](const Box &box) {
    if (barrier && box.barrier != *barrier)
      return false;
    due.push_back(box);
    return true;
  });
  for (const Box &box : due) {
    const MiliTensorMap &map = box.map;
    for (unsigned r = 0; r < map.box_rows; ++r)
      for (unsigned c = 0; c < map.box_columns; c += 8) {
        uint16_t values[8] = {};
        const long row = box.row + static_cast<long>(r), column = box.column + static_cast<long>(c);
        if (row >= 0 && row < static_cast<long>(map.rows) && column >= 0)
          for (long i = 0; i < 8 && column + i < static_cast<long>(map.columns); ++i)
            values[i] = reinterpret_cast<const uint16_t *>(static_cast<const unsigned char *>(map.address) +
                                                           row * static_cast<long>(map.row_bytes))[column + i];
        std::memcpy(shared_pointer(swizzled(box.to + r * map.box_columns * 2 + c * 2), 16), values, 16);
      }
    phase_at(box.barrier).bytes -= static_cast<int>(map.box_rows * map.box_columns * 2);
    end_phase_if_complete(box.barrier);
  }
  return !due.empty();
}

void barrier_wait(unsigned barrier, unsigned parity) {
  deliver_boxes(&barrier);
  Fiber &own = *machine.current;
  while (phase_at(barrier).parity == parity) {
    own.barrier = barrier;
    own.state = State::kAtPhase;
    set_runnable(own, false);
    give_way();
  }
}

void copy_box(unsigned to, const MiliTensorMap *map, int column, int row, unsigned barrier) {
  if (map->box_columns != 64 || to % 1024 != 0)
    fail("a box of %u columns to %u of shared memory: not a multiple of the swizzle's 1024 bytes", map->box_columns,
         to);
  const unsigned bytes = map->box_rows * map->box_columns * 2;
  std::memset(shared_pointer(to, bytes), kPoison, bytes);
  phase_at(barrier);
  machine.boxes.push_back({to, barrier, *map, column, row});
}

void wgmma(float *d, int columns, unsigned long a, unsigned long b, bool accumulate) {
  const Place at;
  at.warp.out[at.lane] = d;
  at.warp.argument[at.lane] = columns * 2 + accumulate;
  at.warp.value[at.lane] = a;
  at.warp.result[at.lane] = b;
  meet(
      at, ~0u,
      [](Warp &warp, unsigned) {
        Product product{{}, warp.argument[0] / 2, warp.value[0], warp.result[0], warp.argument[0] % 2 != 0, warp.group};
        for (unsigned lane = 0; lane < kWarp; ++lane) {
          if (warp.value[lane] != product.a || warp.result[lane] != product.b ||
              warp.argument[lane] != warp.argument[0])
            fail("wgmma with operands that differ between lanes");
          product.d[lane] = static_cast<float *>(warp.out[lane]);
        }
        warp.products.push_back(product);
      },
      "wgmma");
}

void wgmma_registers(float *d, int columns, const unsigned *a, unsigned long b, bool transposed, bool accumulate) {
  const Place at;
  at.warp.out[at.lane] = d;
  at.warp.argument[at.lane] = columns * 4 + transposed * 2 + accumulate;
  at.warp.value[at.lane] = b;
  at.warp.in[at.lane] = a;
  meet(
      at, ~0u,
      [](Warp &warp, unsigned) {
        Product product{{}, warp.argument[0] / 4, 0, warp.value[0], warp.argument[0] % 2 != 0, warp.group};
        product.registers = true;
        product.transposed = warp.argument[0] / 2 % 2 != 0;
        for (unsigned lane = 0; lane < kWarp; ++lane) {
          if (warp.value[lane] != product.b || warp.argument[lane] != warp.argument[0])
            fail("wgmma with operands that differ between lanes");
          product.d[lane] = static_cast<float *>(warp.out[lane]);
          std::memcpy(product.fragment[lane], warp.in[lane], sizeof(product.fragment[lane]));
        }
        warp.products.push_back(product);
      },
      "wgmma");
}

void wgmma_commit() {
  meet(Place(), ~0u, [](Warp &warp, unsigned) { ++warp.group; }, "wgmma.commit_group");
}

// A row of 16 elements of an operand that a descriptor names: K-major, rows of 128 bytes, 128-byte swizzle.
void read_operand_row(uint64_t descriptor, unsigned row, float (&to)[16]) {
  const unsigned address = static_cast<unsigned>(descriptor & 0x3fff) << 4;
  const unsigned group_bytes = static_cast<unsigned>(descriptor >> 32 & 0x3fff) << 4;
  if (descriptor >> 62 != 1)
    fail("wgmma on an operand without the 128-byte swizzle: descriptor %016llx",
         static_cast<unsigned long long>(descriptor));
  for (unsigned chunk = 0; chunk < 2; ++chunk) {
    uint16_t values[8];
    std::memcpy(values, shared_pointer(swizzled(address + row / 8 * group_bytes + row % 8 * 128 + chunk * 16), 16), 16);
    for (unsigned i = 0; i < 8; ++i)
      to[chunk * 8 + i] = bf16_value(values[i]);
  }
}

// A column of an operand whose columns are contiguous: a row of 128 bytes for each step of the depth, 64 columns in
// each.
void read_operand_column(uint64_t descriptor, unsigned column, float (&to)[16]) {
  const unsigned address = static_cast<unsigned>(descriptor & 0x3fff) << 4;
  const unsigned column_bytes = static_cast<unsigned>(descriptor >> 16 & 0x3fff) << 4;
  const unsigned group_bytes = static_cast<unsigned>(descriptor >> 32 & 0x3fff) << 4;
  if (descriptor >> 62 != 1)
    fail("wgmma on an operand without the 128-byte swizzle: descriptor %016llx",
         static_cast<unsigned long long>(descriptor));
  for (unsigned k = 0; k < 16; ++k) {
    uint16_t value;
    const unsigned at = address + column / 64 * column_bytes + k / 8 * group_bytes + k % 8 * 128 + column % 64 * 2;
    std::memcpy(&value, shared_pointer(swizzled(at), 2), 2);
    to[k] = bf16_value(value);
  }
}

// 16 of the warpgroup's 64 rows.
void multiply(const Product &product, unsigned warp) {
  float a[16][16];
  for (unsigned row = 0; row < 16; ++row) {
    if (!product.registers) {
      read_operand_row(product.a, warp % 4 * 16 + row, a[row]);
      continue;
    }
    for (unsigned k = 0; k < 16; ++k) {
      const uint32_t word = product.fragment[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
      a[row][k] = bf16_value(static_cast<uint16_t>(k % 2 ? word >> 16 : word));
    }
  }
  for (int column = 0; column < product.columns; ++column) {
    float b[16];
    if (product.transposed)
      read_operand_column(product.b, static_cast<unsigned>(column), b);
    else
      read_operand_row(product.b, static_cast<unsigned>(column), b);
    for (int row = 0; row < 16; ++row) {
      float &d = product.d[row % 8 * 4 + column % 8 / 2][column / 8 * 4 + row / 8 * 2 + column % 2];
      float sum = product.accumulate ? d : 0.0f;
      for (int k = 0; k < 16; ++k)
        sum += a[row][k] * b[k];
      d = sum;
    }
  }
}

void wgmma_wait(int pending) {
  const Place at;
  at.warp.argument[at.lane] = pending;
  meet(
      at, ~0u,
      [](Warp &warp, unsigned) {
        std::erase_if(warp.products, [&](const Product &product) {
          const bool due = product.group + static_cast<unsigned>(warp.argument[0]) < warp.group;
          if (due)
            multiply(product, warp.number);
          return due;
        });
      },
      "wgmma.wait_group");
}

const MiliEmulator kFunctions = {wait_at_barrier, sync_warp,      shuffle,      ballot,   load_matrix, mma,
                                 shared_address,  shared_pointer, copy_async,   commit,   wait,        barrier_init,
                                 barrier_arrive,  copies_arrive,  barrier_wait, copy_box, wgmma,       wgmma_registers,
                                 wgmma_commit,    wgmma_wait};

//===--- blocks ---===//

void run_thread() {
  machine.kernel->call(machine.parameters);
  Fiber &own = *machine.current;
  own.state = State::kExited;
  set_runnable(own, false);
  --machine.alive;
  release_barrier_if_full();
  give_way();
  std::abort();
}

void start(Fiber &fiber, unsigned index) {
  fiber.index = index;
  fiber.state = State::kInside;
  fiber.copies.clear();
  fiber.group = 0;
  // As mili_switch_stack leaves a stack: six registers, where to go, and no caller.
  // Tops that differ modulo the page, or the stacks of a warp would share a few sets of the cache.
  auto **top = reinterpret_cast<void **>(machine.stacks + (index + 1) * kStackBytes - index % kWarp * kStackShift);
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void *>(&run_thread);
  std::fill(top - 8, top - 2, nullptr);
  fiber.stack_pointer = top - 8;
}

void allocate() {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  machine.stacks =
      static_cast<unsigned char *>(mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE, flags, -1, 0));
  auto *shared =
      static_cast<unsigned char *>(mmap(nullptr, kMaxShared + 2 * kGuardBytes, PROT_READ | PROT_WRITE, flags, -1, 0));
  if (machine.stacks == MAP_FAILED || shared == MAP_FAILED) {
    std::perror("emulator: no memory for the threads of a block");
    std::abort();
  }
  for (unsigned i = 0; i < kMaxThreads; ++i)
    mprotect(machine.stacks + i * kStackBytes, kPage, PROT_NONE);
  machine.shared = shared + kGuardBytes;
}

bool guard_is_whole(const unsigned char *guard) {
  return std::all_of(guard, guard + kGuardBytes, [](unsigned char byte) { return byte == kGuard; });
}

// Empty, or the fault.
std::string run_block() {
  const MiliKernel &kernel = *machine.kernel;
  unsigned char *const behind = machine.shared + machine.shape.shared_bytes;
  std::memset(machine.shared - kGuardBytes, kGuard, kGuardBytes);
  std::memset(machine.shared, kPoison, machine.shape.shared_bytes);
  std::memset(behind, kGuard, kGuardBytes);
  if (kernel.static_shared_begin)
    std::memset(kernel.static_shared_begin, kPoison,
                static_cast<size_t>(kernel.static_shared_end - kernel.static_shared_begin));
  *kernel.block = machine.block;
  machine.alive = machine.threads;
  machine.at_barrier = 0;
  for (unsigned i = 0; i < machine.threads; ++i)
    start(machine.fibers[i], i);
  for (unsigned w = 0; w < machine.warps; ++w) {
    Warp &warp = machine.warp[w];
    warp.number = w;
    warp.runnable = machine.threads - w * kWarp >= kWarp ? ~0u : (1u << machine.threads % kWarp) - 1;
    warp.waiting = 0;
    warp.products.clear();
    warp.group = 0;
  }
  machine.boxes.clear();
  machine.current = &machine.fibers[machine.reverse ? machine.threads - 1 : 0];
  kernel.thread->x = machine.current->index;
  mili_switch_stack(&machine.main_stack_pointer, machine.current->stack_pointer);
  if (machine.fault.empty() && !(guard_is_whole(machine.shared - kGuardBytes) && guard_is_whole(behind)))
    machine.fault = describe_thread(machine.current->index) + " or one before it: a write past the " +
                    std::to_string(machine.shape.shared_bytes) + " bytes of dynamic shared memory";
  return machine.fault;
}

// An access to memory that is not there. On a stack of its own; leaves it for the launch's.
void on_bad_access(int, siginfo_t *info, void *) {
  const auto *at = static_cast<const unsigned char *>(info->si_addr);
  if (at >= machine.stacks && at < machine.stacks + kMaxThreads * kStackBytes)
    fail("more than %zu bytes of stack", kStackBytes - kPage);
  fail("an access to address %p, which is in no allocation", info->si_addr);
}

}  // namespace

std::string run_kernel(const MiliKernel &kernel, const LaunchShape &shape, void **parameters, bool reverse) {
  if (!machine.stacks)
    allocate();
  machine.kernel = &kernel;
  machine.shape = shape;
  machine.parameters = parameters;
  machine.reverse = reverse;
  machine.threads = shape.block.x * shape.block.y * shape.block.z;
  machine.warps = (machine.threads + kWarp - 1) / kWarp;
  machine.fault.clear();
  *kernel.emulator = &kFunctions;
  *kernel.block_size = shape.block;
  *kernel.grid = shape.grid;
  *kernel.thread = {0, 0, 0};
  *kernel.dynamic_shared = machine.shared;

  static unsigned char signal_stack[64 * 1024];
  stack_t own{signal_stack, 0, sizeof(signal_stack)}, stack_before{};
  struct sigaction action{}, segv_before{}, bus_before{};
  action.sa_sigaction = on_bad_access;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaltstack(&own, &stack_before);
  sigaction(SIGSEGV, &action, &segv_before);
  sigaction(SIGBUS, &action, &bus_before);
  for (unsigned i = 0; i < shape.grid.x && machine.fault.empty(); ++i) {
    machine.block = {reverse ? shape.grid.x - 1 - i : i, 0, 0};
    run_block();
  }
  sigaction(SIGSEGV, &segv_before, nullptr);
  sigaction(SIGBUS, &bus_before, nullptr);
  sigaltstack(&stack_before, nullptr);
  return machine.fault;
}

}  // namespace mili::emulator
