#include "mili/runtime/engine.h"

#include "mili/schema/plan_generated.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <tuple>
#include <utility>

namespace mili {
namespace {

std::string num(int64_t value) {
  return std::to_string(value);
}

// Where the pages of one state lie.
struct Pool {
  DeviceAddress base = nullptr;
  uint64_t page_bytes = 0;
};

// Seconds since the last call, or since it was made.
class Stopwatch {
public:
  double lap() {
    const auto before = std::exchange(last_, std::chrono::steady_clock::now());
    return std::chrono::duration<double>(last_ - before).count();
  }

private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

struct EngineBucket {
  BucketBounds bounds;
  uint64_t logits_offset = 0;
  std::unique_ptr<LaunchList> list;
  const plan::Bucket *record = nullptr;
  std::vector<double> seconds;     // per launch
  std::vector<ExpectedWork> work;  // per launch
  uint64_t steps = 0;              // while profiling
};

}  // namespace

struct Engine::Impl {
  // In the order in which they may go: buffers before the device, code before the map.
  Plan plan;
  std::unique_ptr<Device> device;
  std::unique_ptr<Module> module;
  DeviceBuffer arena;
  DeviceBuffer tables;
  DeviceBuffer counters;
  DeviceBuffer kv;                                 // all pools, one after the other, those of a page table together
  std::vector<Pool> pools;                         // by state
  std::vector<std::vector<uint32_t>> table_pools;  // of each page table, its states, ascending by address
  std::vector<EngineBucket> buckets;
  std::vector<BucketBounds> bounds;
  std::vector<uint32_t> order;  // buckets from the smallest
  BucketBounds largest;
  BatchLayout layout;
  // Where the device's memory is not the host's.
  // Of the tables, two in turn: while one is on its way to the device the next step is written into the other.
  std::unique_ptr<HostBuffer> mirrors[2];
  std::unique_ptr<Event> mirror_sent[2];
  bool mirror_used[2] = {};
  HostBuffer *mirror = nullptr;  // the one that fill() writes
  int turn = 0;
  std::unique_ptr<HostBuffer> host_logits;
  std::unique_ptr<HostBuffer> sampled;             // [kDecodeLag][largest.logit_rows], where buckets sample
  std::vector<std::unique_ptr<Event>> sampled_at;  // [kDecodeLag]
  int64_t vocab = 0;
  bool profiling = false;
  std::vector<SequenceExtent> extents;  // work space of count_work
  uint64_t allocations_at_load = 0;
  LoadTimes times;

  explicit Impl(Plan moved) : plan(std::move(moved)) {}

  template <typename T = int32_t>
  T *host_table(uint64_t offset) {
    return reinterpret_cast<T *>((mirror ? mirror->data() : tables.address()) + offset);
  }
  const int32_t *device_table(uint64_t offset) const {
    return reinterpret_cast<const int32_t *>(tables.address() + offset);
  }

  Status allocate();
  Status prepare(const plan::Function &function, const Progress &progress);
  // Makes the next mirror the current one, once the device has it; nothing where the host shares the tables.
  Status next_mirror();
  // Sends the current mirror.
  Status send_tables();
  Status check(std::span<const StepSequence> sequences, int64_t &tokens, int64_t &rows) const;
  // Blocks of 64 positions that the sequence's pages can hold; a whole ring holds the whole context.
  int64_t room(const StepSequence &sequence) const;
  Batch fill(std::span<const StepSequence> sequences, int64_t tokens, int64_t rows, bool feedback = false);
  // While profiling: one more step in `bucket`, of these sequences `ahead` positions further on.
  void count_work(EngineBucket &bucket, std::span<const StepSequence> sequences, int64_t rows, int64_t ahead);
};

Status Engine::Impl::allocate() {
  const plan::Plan &meta = plan.meta();
  const MemoryFigures &memory = plan.memory();
  MILI_ASSIGN_OR_RETURN(arena, device->allocate(memory.arena, "the arena"));
  MILI_ASSIGN_OR_RETURN(tables, device->allocate(memory.tables, "the batch's tables"));
  MILI_ASSIGN_OR_RETURN(counters, device->allocate(memory.counters, "the counters"));
  for (const plan::State *state : *meta.states())
    if (state->kind() != plan::StateKind::PagedKv)
      return unimplemented(plan.path() + ": state \"" + state->name()->str() +
                           "\" is recurrent; this runtime runs plans with paged states only");
  MILI_ASSIGN_OR_RETURN(kv, device->allocate(memory.kv, "the KV cache"));
  DeviceAddress at = kv.address();
  pools.resize(meta.states()->size());
  for (const PageTable &table : memory.page_tables) {
    table_pools.emplace_back();
    for (uint32_t i = 0; i < meta.states()->size(); ++i) {
      const plan::State *state = meta.states()->Get(i);
      if (state->window() != table.window)
        continue;
      pools[i] = {at, state->page_bytes()};
      at += state->page_bytes() * table.pages;
      table_pools.back().push_back(i);
    }
  }
  MILI_ASSIGN_OR_RETURN(MemoryInputs inputs, memory_inputs(meta, memory.weights));
  MILI_ASSIGN_OR_RETURN(layout, batch_layout(inputs.buckets, memory.pages_per_sequence,
                                             std::max<uint64_t>(memory.page_tables.size(), 1)));
  return ok_status();
}

Status Engine::Impl::prepare(const plan::Function &function, const Progress &progress) {
  Stopwatch watch;
  MILI_ASSIGN_OR_RETURN(DeviceAddress weights, device->load_weights(plan, progress));
  times.weights = watch.lap();
  const plan::Plan &meta = plan.meta();
  for (const plan::Bucket *record : *function.buckets()) {
    std::vector<Launch> launches;
    launches.reserve(record->launches()->size());
    for (const plan::Launch *planned : *record->launches()) {
      Launch launch{planned->kernel(),
                    {},
                    planned->tiles_fixed(),
                    static_cast<RowCount>(planned->tiles_per()),
                    std::max<uint32_t>(planned->rows_per_tile(), 1),
                    {}};
      if (planned->tensor_maps())
        for (const plan::TensorMap *map : *planned->tensor_maps())
          launch.tensor_maps.push_back({map->arg(), map->box_rows(), map->box_columns(), map->rows(), map->columns()});
      for (const plan::Arg *arg : *planned->args()) {
        DeviceAddress base = arena.address();
        if (arg->kind() == plan::ArgKind::Weight)
          base = weights + meta.weights()->Get(arg->index())->offset();
        else if (arg->kind() == plan::ArgKind::State)
          base = pools[arg->index()].base;
        else if (arg->kind() == plan::ArgKind::Counters)
          base = counters.address();
        launch.args.push_back(base + arg->offset());
      }
      launches.push_back(std::move(launch));
    }
    EngineBucket bucket;
    bucket.bounds = {record->name()->str(), record->tokens(), record->sequences(), record->logit_rows()};
    bucket.logits_offset = record->logits_offset();
    bucket.record = record;
    bucket.seconds.resize(launches.size());
    bucket.work.resize(launches.size());
    MILI_ASSIGN_OR_RETURN(bucket.list,
                          device->prepare(*module, launches,
                                          {bucket.bounds.tokens, bucket.bounds.sequences, bucket.bounds.logit_rows,
                                           device->host_visible() ? nullptr : tables.address()}));
    largest.tokens = std::max(largest.tokens, bucket.bounds.tokens);
    largest.sequences = std::max(largest.sequences, bucket.bounds.sequences);
    largest.logit_rows = std::max(largest.logit_rows, bucket.bounds.logit_rows);
    bounds.push_back(bucket.bounds);
    buckets.push_back(std::move(bucket));
    if (progress &&
        !progress(static_cast<double>(buckets.size()) / static_cast<double>(function.buckets()->size()), "preparing"))
      return cancelled(plan.path() + ": loading was cancelled");
  }
  order.resize(buckets.size());
  std::iota(order.begin(), order.end(), 0u);
  auto size = [&](uint32_t i) { return std::tuple(bounds[i].tokens, bounds[i].sequences, bounds[i].logit_rows); };
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return size(a) < size(b); });
  if (!device->host_visible()) {
    for (int i = 0; i < 2; ++i) {
      MILI_ASSIGN_OR_RETURN(mirrors[i], device->allocate_host(layout.total));
      MILI_ASSIGN_OR_RETURN(mirror_sent[i], device->create_event());
    }
    mirror = mirrors[0].get();
    MILI_ASSIGN_OR_RETURN(host_logits,
                          device->allocate_host(static_cast<uint64_t>(largest.logit_rows * vocab) * sizeof(float)));
    MILI_ASSIGN_OR_RETURN(
        sampled, device->allocate_host(static_cast<uint64_t>(kDecodeLag * largest.logit_rows) * sizeof(int32_t)));
    for (int64_t i = 0; i < kDecodeLag; ++i) {
      MILI_ASSIGN_OR_RETURN(auto event, device->create_event());
      sampled_at.push_back(std::move(event));
    }
  }
  times.buckets = watch.lap();
  return ok_status();
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Engine::~Engine() {
  // Launch lists and buffers refer to device and module.
  impl_->buckets.clear();
  impl_->kv = DeviceBuffer();
  impl_->tables = DeviceBuffer();
  impl_->counters = DeviceBuffer();
  for (int i = 0; i < 2; ++i) {
    impl_->mirrors[i].reset();
    impl_->mirror_sent[i].reset();
  }
  impl_->host_logits.reset();
  impl_->sampled.reset();
  impl_->sampled_at.clear();
  impl_->arena = DeviceBuffer();
  impl_->module.reset();
}

StatusOr<std::unique_ptr<Engine>> Engine::load(Plan plan, const EngineOptions &options) {
  const std::string target = plan.meta().target()->name()->str();
  if (target != "cpu" && target != "cuda")
    return unavailable(plan.path() + ": compiled for target \"" + target +
                       "\", this runtime has the devices \"cpu\" and \"cuda\"; compile with --target cpu or cuda");
  Stopwatch watch;
  MILI_ASSIGN_OR_RETURN(auto device,
                        target == "cuda" ? create_cuda_device(options.cuda) : create_cpu_device(options.cpu));
  const double seconds = watch.lap();
  MILI_ASSIGN_OR_RETURN(auto engine, load(std::move(plan), std::move(device), options));
  engine->impl_->times.device = seconds;
  return engine;
}

StatusOr<std::unique_ptr<Engine>> Engine::load(Plan plan, std::unique_ptr<Device> device,
                                               const EngineOptions &options) {
  MILI_RETURN_IF_ERROR(plan.check_unchanged());
  const plan::Function *function = nullptr;
  std::string names;
  for (const plan::Function *candidate : *plan.meta().ranks()->Get(0)->functions()) {
    names += (names.empty() ? "" : ", ") + candidate->name()->str();
    if (candidate->name()->str() == options.function)
      function = candidate;
  }
  if (!function)
    return not_found(plan.path() + ": no function \"" + options.function + "\"; the plan has " + names);

  auto impl = std::make_unique<Impl>(std::move(plan));
  impl->device = std::move(device);
  impl->vocab = impl->plan.meta().model()->vocab();
  std::unique_ptr<Engine> engine(new Engine(std::move(impl)));
  Impl &self = *engine->impl_;
  Stopwatch watch;
  MILI_ASSIGN_OR_RETURN(self.module, self.device->load_module(self.plan));
  self.times.kernels = watch.lap();
  MILI_RETURN_IF_ERROR(self.allocate());
  self.times.memory = watch.lap();
  MILI_RETURN_IF_ERROR(self.prepare(*function, options.progress));
  self.allocations_at_load = self.device->allocation_count();
  return engine;
}

const Plan &Engine::plan() const {
  return impl_->plan;
}
Device &Engine::device() {
  return *impl_->device;
}
const Module &Engine::module() const {
  return *impl_->module;
}
const LoadTimes &Engine::load_times() const {
  return impl_->times;
}
int64_t Engine::vocab() const {
  return impl_->vocab;
}
int64_t Engine::context() const {
  return impl_->plan.meta().context();
}
int64_t Engine::requests() const {
  return impl_->plan.meta().requests();
}
std::span<const PageTable> Engine::page_tables() const {
  return impl_->plan.memory().page_tables;
}
std::span<const BucketBounds> Engine::buckets() const {
  return impl_->bounds;
}
const BucketBounds &Engine::largest() const {
  return impl_->largest;
}

StatusOr<uint32_t> Engine::pick_bucket(int64_t tokens, int64_t sequences, int64_t logit_rows) const {
  for (uint32_t index : impl_->order) {
    const BucketBounds &bounds = impl_->bounds[index];
    if (tokens <= bounds.tokens && sequences <= bounds.sequences && logit_rows <= bounds.logit_rows)
      return index;
  }
  return invalid_argument("no bucket of the plan runs a step of " + num(tokens) + " tokens, " + num(sequences) +
                          " sequences and " + num(logit_rows) + " logit rows; the largest of each are " +
                          num(impl_->largest.tokens) + ", " + num(impl_->largest.sequences) + " and " +
                          num(impl_->largest.logit_rows));
}

Status Engine::Impl::check(std::span<const StepSequence> sequences, int64_t &tokens, int64_t &rows) const {
  if (sequences.empty())
    return invalid_argument("a step needs at least one sequence");
  const int64_t context = plan.meta().context();
  tokens = rows = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const StepSequence &sequence = sequences[s];
    const auto count = static_cast<int64_t>(sequence.tokens.size());
    auto label = [&] { return "sequence " + std::to_string(s) + " of the step: "; };
    if (count == 0)
      return invalid_argument(label() + "no tokens");
    if (sequence.position < 0 || sequence.position > context || count > context - sequence.position)
      return invalid_argument(label() + num(count) + " tokens from position " + num(sequence.position) +
                              ", the plan has a context of " + num(context) + "; compile it with a larger --context");
    for (int32_t token : sequence.tokens)
      if (token < 0 || token >= vocab)
        return invalid_argument(label() + "token " + num(token) + " is not in the vocabulary of " + num(vocab));
    const std::vector<PageTable> &tables = plan.memory().page_tables;
    if (sequence.pages.size() != tables.size())
      return invalid_argument(label() + "pages of " + std::to_string(sequence.pages.size()) +
                              " page tables, the plan has " + std::to_string(tables.size()));
    for (size_t t = 0; t < tables.size(); ++t) {
      const uint64_t needed = std::min(tables[t].ring, pages_for(static_cast<uint64_t>(sequence.position + count)));
      if (sequence.pages[t].size() < needed || sequence.pages[t].size() > tables[t].ring)
        return invalid_argument(label() + std::to_string(sequence.pages[t].size()) + " pages, its positions need " +
                                std::to_string(needed) + " to " + std::to_string(tables[t].ring));
      for (int32_t page : sequence.pages[t])
        if (page < 1 || static_cast<uint64_t>(page) >= tables[t].pages)
          return invalid_argument(label() + "page " + num(page) + ", expected 1 to " +
                                  std::to_string(tables[t].pages - 1));
    }
    tokens += count;
    rows += sequence.logits == LogitRows::kAll ? count : sequence.logits == LogitRows::kLast;
  }
  return ok_status();
}

Status Engine::Impl::next_mirror() {
  if (!mirror)
    return ok_status();
  turn ^= 1;
  mirror = mirrors[turn].get();
  return mirror_used[turn] ? device->wait(*mirror_sent[turn]) : ok_status();
}

Status Engine::Impl::send_tables() {
  if (!mirror)
    return ok_status();
  mirror_used[turn] = true;
  MILI_RETURN_IF_ERROR(device->copy_to_device(tables.address(), mirror->data(), mirror->size()));
  return device->record(*mirror_sent[turn]);
}

int64_t Engine::Impl::room(const StepSequence &sequence) const {
  uint64_t blocks = plan.memory().pages_per_sequence;
  for (size_t t = 0; t < sequence.pages.size(); ++t)
    if (sequence.pages[t].size() < plan.memory().page_tables[t].ring)
      blocks = std::min<uint64_t>(blocks, sequence.pages[t].size());
  return static_cast<int64_t>(blocks);
}

Batch Engine::Impl::fill(std::span<const StepSequence> sequences, int64_t tokens, int64_t rows, bool feedback) {
  const auto columns = static_cast<int64_t>(plan.memory().pages_per_sequence);
  int32_t *ids = host_table(layout.token_ids), *positions = host_table(layout.positions);
  int32_t *segments = host_table(layout.segments), *q_start = host_table(layout.q_start);
  int32_t *kv_len = host_table(layout.kv_len), *table = host_table(layout.page_table);
  int32_t *logit_tokens = host_table(layout.logit_tokens);
  auto *sampling = host_table<SequenceSampling>(layout.sampling);
  int32_t at = 0, row = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const StepSequence &sequence = sequences[s];
    const auto count = static_cast<int32_t>(sequence.tokens.size());
    const auto position = static_cast<int32_t>(sequence.position);
    const auto segment = static_cast<int32_t>(s);
    std::memcpy(ids + at, sequence.tokens.data(), sequence.tokens.size_bytes());
    for (int32_t i = 0; i < count; ++i) {
      positions[at + i] = position + i;
      segments[at + i] = segment;
      if (sequence.logits == LogitRows::kAll || (sequence.logits == LogitRows::kLast && i == count - 1))
        logit_tokens[row++] = at + i;
    }
    q_start[s] = at;
    kv_len[s] = position + count;
    const DecodeParams &params = sequence.sampling;
    sampling[s] = {params.seed, params.temperature, params.top_k, params.top_p, params.min_p, INT32_MAX, 0, {}};
    std::fill(std::begin(sampling[s].stop), std::end(sampling[s].stop), -1);
    std::copy_n(params.stop_tokens.begin(), std::min(params.stop_tokens.size(), DecodeParams::kMaxStopTokens),
                sampling[s].stop);
    // With feedback the sequence grows into all the pages that it was given.
    if (feedback)
      sampling[s].end = static_cast<int32_t>(std::min<int64_t>(plan.meta().context(), room(sequence) * kPageTokens));
    const int64_t used =
        feedback ? room(sequence) : static_cast<int64_t>(pages_for(static_cast<uint64_t>(position + count)));
    for (size_t t = 0; t < sequence.pages.size(); ++t) {
      const PageList &pages = sequence.pages[t];
      int32_t *line = table + static_cast<int64_t>(t * sequences.size() + s) * columns;
      for (int64_t block = 0; block < used; ++block)
        line[block] = pages[static_cast<size_t>(block) % pages.size()];
      std::fill(line + used, line + columns, 0);
    }
    at += count;
  }
  q_start[sequences.size()] = at;

  Batch batch;
  batch.tokens = tokens;
  batch.sequences = static_cast<int64_t>(sequences.size());
  batch.logit_rows = rows;
  batch.pages_per_sequence = columns;
  batch.feedback = feedback;
  batch.token_ids = device_table(layout.token_ids);
  batch.positions = device_table(layout.positions);
  batch.segments = device_table(layout.segments);
  batch.q_start = device_table(layout.q_start);
  batch.kv_len = device_table(layout.kv_len);
  batch.page_table = device_table(layout.page_table);
  batch.logit_tokens = device_table(layout.logit_tokens);
  batch.sampling = reinterpret_cast<const SequenceSampling *>(tables.address() + layout.sampling);
  if (mirror)
    std::memcpy(mirror->data(), &batch, sizeof(batch));
  return batch;
}

void Engine::Impl::count_work(EngineBucket &bucket, std::span<const StepSequence> sequences, int64_t rows,
                              int64_t ahead) {
  if (!profiling)
    return;
  ++bucket.steps;
  extents.clear();
  for (const StepSequence &sequence : sequences)
    extents.push_back({sequence.position + ahead, static_cast<int64_t>(sequence.tokens.size())});
  for (uint32_t i = 0; i < bucket.work.size(); ++i)
    bucket.work[i] += mili::expected_work(*bucket.record->launches()->Get(i), {extents, rows});
}

StatusOr<ExpectedWork> Engine::expected_work(const StepExtent &step) const {
  MILI_ASSIGN_OR_RETURN(uint32_t index,
                        pick_bucket(step.tokens(), static_cast<int64_t>(step.sequences.size()), step.logit_rows));
  return mili::expected_work(*impl_->buckets[index].record, step);
}

StatusOr<StepOutput> Engine::step(std::span<const StepSequence> sequences) {
  Impl &self = *impl_;
  int64_t tokens = 0, rows = 0;
  MILI_RETURN_IF_ERROR(self.check(sequences, tokens, rows));
  MILI_ASSIGN_OR_RETURN(uint32_t index, pick_bucket(tokens, static_cast<int64_t>(sequences.size()), rows));
  // A truncated file would end the process at the first missing page of its weights.
  MILI_RETURN_IF_ERROR(self.plan.check_unchanged());
  EngineBucket &bucket = self.buckets[index];
  MILI_RETURN_IF_ERROR(self.next_mirror());
  const Batch batch = self.fill(sequences, tokens, rows);
  MILI_RETURN_IF_ERROR(self.send_tables());
  MILI_RETURN_IF_ERROR(self.device->execute(*bucket.list, batch,
                                            self.profiling ? std::span<double>(bucket.seconds) : std::span<double>()));
  self.count_work(bucket, sequences, rows, 0);

  StepOutput output;
  output.rows = rows;
  output.vocab = self.vocab;
  output.bucket = index;
  if (rows == 0)
    return output;
  DeviceAddress logits = self.arena.address() + bucket.logits_offset;
  if (self.device->host_visible()) {
    MILI_RETURN_IF_ERROR(self.device->synchronize());
    output.logits = reinterpret_cast<const float *>(logits);
  } else {
    MILI_RETURN_IF_ERROR(self.device->copy_to_host(self.host_logits->data(), logits,
                                                   static_cast<uint64_t>(rows * self.vocab) * sizeof(float)));
    output.logits = reinterpret_cast<const float *>(self.host_logits->data());
  }
  return output;
}

bool Engine::can_decode() const {
  return std::all_of(impl_->buckets.begin(), impl_->buckets.end(),
                     [](const EngineBucket &bucket) { return bucket.record->sampled_offset() >= 0; });
}

Status Engine::decode(std::span<const StepSequence> sequences, int64_t steps, const TokenSink &sink) {
  Impl &self = *impl_;
  if (!can_decode() || !self.sampled)
    return unimplemented(self.plan.path() + ": this plan's steps do not sample on the device; compile it with --target "
                                            "cuda");
  int64_t tokens = 0, rows = 0;
  MILI_RETURN_IF_ERROR(self.check(sequences, tokens, rows));
  const auto count = static_cast<int64_t>(sequences.size());
  for (const StepSequence &sequence : sequences) {
    const DecodeParams &params = sequence.sampling;
    if (params.stop_tokens.size() > DecodeParams::kMaxStopTokens)
      return invalid_argument("decoding on the device checks up to " + num(DecodeParams::kMaxStopTokens) +
                              " stop tokens, found " + num(static_cast<int64_t>(params.stop_tokens.size())));
    if (!(params.temperature >= 0) || params.top_k < 0 || !(params.top_p > 0 && params.top_p <= 1) ||
        !(params.min_p >= 0 && params.min_p <= 1))
      return invalid_argument("decoding on the device: temperature " + std::to_string(params.temperature) + ", top_k " +
                              num(params.top_k) + ", top_p " + std::to_string(params.top_p) + ", min_p " +
                              std::to_string(params.min_p) + "; expected at least 0, at least 0, in (0, 1], in [0, 1]");
    if (sequence.tokens.size() != 1 || sequence.logits != LogitRows::kLast)
      return invalid_argument("decoding takes one token of each sequence, found " +
                              std::to_string(sequence.tokens.size()));
    if (steps > context() - sequence.position ||
        static_cast<int64_t>(pages_for(static_cast<uint64_t>(sequence.position + steps))) > self.room(sequence))
      return invalid_argument("decoding " + num(steps) + " tokens from position " + num(sequence.position) +
                              " needs pages for them within the context of " + num(context()));
  }
  MILI_ASSIGN_OR_RETURN(uint32_t index, pick_bucket(count, count, count));
  MILI_RETURN_IF_ERROR(self.plan.check_unchanged());
  EngineBucket &bucket = self.buckets[index];
  MILI_RETURN_IF_ERROR(self.next_mirror());
  const Batch batch = self.fill(sequences, count, count, /*feedback=*/true);
  MILI_RETURN_IF_ERROR(self.send_tables());
  auto *ring = reinterpret_cast<int32_t *>(self.sampled->data());
  DeviceAddress sampled = self.arena.address() + bucket.record->sampled_offset();
  auto read = [&](int64_t step) -> StatusOr<bool> {
    MILI_RETURN_IF_ERROR(self.device->wait(*self.sampled_at[static_cast<size_t>(step % kDecodeLag)]));
    const std::span<const int32_t> tokens(ring + step % kDecodeLag * count, static_cast<size_t>(count));
    if (std::all_of(tokens.begin(), tokens.end(), [](int32_t token) { return token < 0; }))
      return false;  // all ended in the steps before
    return sink(step, tokens);
  };
  int64_t seen = 0;
  bool more = true;
  for (int64_t step = 0; step < steps && more; ++step) {
    if (step - seen == kDecodeLag) {
      MILI_ASSIGN_OR_RETURN(more, read(seen));
      ++seen;
      if (!more)
        break;
    }
    MILI_RETURN_IF_ERROR(self.device->execute(
        *bucket.list, batch, self.profiling ? std::span<double>(bucket.seconds) : std::span<double>()));
    self.count_work(bucket, sequences, count, step);
    const auto slot = static_cast<size_t>(step % kDecodeLag);
    MILI_RETURN_IF_ERROR(self.device->copy_to_host_async(ring + static_cast<int64_t>(slot) * count, sampled,
                                                         static_cast<uint64_t>(count) * sizeof(int32_t)));
    MILI_RETURN_IF_ERROR(self.device->record(*self.sampled_at[slot]));
  }
  for (; seen < steps && more; ++seen) {
    MILI_ASSIGN_OR_RETURN(more, read(seen));
  }
  return self.device->synchronize();
}

Status Engine::copy_page(size_t table, int32_t to, int32_t from) {
  for (uint32_t state : impl_->table_pools[table]) {
    const Pool &pool = impl_->pools[state];
    MILI_RETURN_IF_ERROR(impl_->device->copy(pool.base + static_cast<uint64_t>(to) * pool.page_bytes,
                                             pool.base + static_cast<uint64_t>(from) * pool.page_bytes,
                                             pool.page_bytes));
  }
  return ok_status();
}

Status Engine::clear_page(size_t table, int32_t page) {
  // The pools of a table follow each other; those of equal pages are cleared as one piece of work.
  const std::vector<uint32_t> &states = impl_->table_pools[table];
  const uint64_t pages = page_tables()[table].pages;
  for (size_t first = 0, next = 0; first < states.size(); first = next) {
    const Pool &pool = impl_->pools[states[first]];
    for (next = first; next < states.size() && impl_->pools[states[next]].page_bytes == pool.page_bytes;)
      ++next;
    MILI_RETURN_IF_ERROR(impl_->device->clear_rows(pool.base + static_cast<uint64_t>(page) * pool.page_bytes,
                                                   pool.page_bytes * pages, pool.page_bytes, next - first));
  }
  return ok_status();
}

void Engine::set_profiling(bool on) {
  impl_->profiling = on;
  for (EngineBucket &bucket : impl_->buckets) {
    std::fill(bucket.seconds.begin(), bucket.seconds.end(), 0.0);
    std::fill(bucket.work.begin(), bucket.work.end(), ExpectedWork());
    bucket.steps = 0;
  }
}

std::vector<LaunchProfile> Engine::profile() const {
  std::vector<LaunchProfile> rows;
  const auto *kernels = impl_->plan.meta().kernels();
  for (const EngineBucket &bucket : impl_->buckets) {
    if (bucket.steps == 0)
      continue;
    for (uint32_t i = 0; i < bucket.seconds.size(); ++i) {
      const plan::Launch *launch = bucket.record->launches()->Get(i);
      rows.push_back({launch->name()->str(), kernels->Get(launch->kernel())->symbol()->str(), bucket.bounds.name,
                      bucket.steps, bucket.seconds[i], bucket.work[i]});
    }
  }
  return rows;
}

uint64_t Engine::allocations_after_load() const {
  return impl_->device->allocation_count() - impl_->allocations_at_load;
}

}  // namespace mili
