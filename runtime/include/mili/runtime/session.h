// Sessions: sequences of tokens with their state. Append, sample, truncate, fork; many at once in one step.
//
//   MILI_ASSIGN_OR_RETURN(auto pool, SessionPool::create(*engine));
//   MILI_ASSIGN_OR_RETURN(auto session, pool->create_session());
//   MILI_RETURN_IF_ERROR(session->append(prompt));                      // in chunks of the largest bucket
//   MILI_ASSIGN_OR_RETURN(SampledToken next, session->sample(sampler)); // does not append
//
// Pages of 64 positions are counted: a fork shares them, and whoever writes into a shared page first gets a copy of it.
// A page that is used again is zeroed first, so nothing of one request reaches another. Pool, sessions and engine are
// used by one thread at a time; the engine outlives the pool, the pool outlives its sessions.
#pragma once

#include "mili/runtime/engine.h"
#include "mili/runtime/sampling.h"
#include "mili/runtime/status.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace mili {

// Counts who uses each page. Page 0 is never given out.
class PageAllocator {
public:
  explicit PageAllocator(int64_t pages);
  // A page with one user; -1 where none is free. `recycled` says whether it was used before and needs clearing.
  int32_t allocate(bool *recycled);
  void share(int32_t page) { ++users_[static_cast<size_t>(page)]; }
  void release(int32_t page);
  int64_t users(int32_t page) const { return users_[static_cast<size_t>(page)]; }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()) + (pages_ - next_unused_); }

private:
  int64_t pages_;
  int64_t next_unused_ = 1;
  std::vector<int32_t> users_;
  std::vector<int32_t> free_;
};

class Session;

// Receives logits while tokens are appended: f32 [rows][vocab] of the session's tokens first, first + 1, ...
// A status other than ok ends the append with it; the tokens of that step stay appended.
using LogitSink = std::function<Status(int64_t first, int64_t rows, const float *logits)>;

// What one session contributes to SessionPool::step.
struct SessionStep {
  Session *session = nullptr;
  std::span<const int32_t> tokens;
  LogitRows logits = LogitRows::kLast;
};

class SessionPool {
public:
  static StatusOr<std::unique_ptr<SessionPool>> create(Engine &engine);
  ~SessionPool();
  SessionPool(const SessionPool &) = delete;
  SessionPool &operator=(const SessionPool &) = delete;

  Engine &engine();
  // ResourceExhausted where the plan's requests are all in use.
  StatusOr<std::unique_ptr<Session>> create_session();
  int64_t live_sessions() const;
  int64_t free_pages() const;  // of all page tables

  // The part of `pending` that one step of at most `budget` tokens runs; for prompts in chunks beside sessions that
  // generate. `pending` has the tokens that each session is still to be given, `logits` for the last of them (kAll: for
  // each). Sessions with one token come first, then the others, as much of each as there is room for, in the order of
  // `pending`; a session whose tokens are not all taken gets no logits for these. What is returned fits a bucket, and
  // its spans are the beginnings of those in `pending`: pass it to step(), then drop what was taken. Empty only where
  // nothing is pending or no bucket can run any of it. InvalidArgument for a budget below 1.
  StatusOr<std::vector<SessionStep>> take_step(std::span<const SessionStep> pending, int64_t budget) const;

  // One flattened step over distinct sessions. It must fit a bucket; nothing has changed where it fails before it runs.
  // Rows of the output: each item's rows in order. A session that asked for logits can be sampled afterwards.
  StatusOr<StepOutput> step(std::span<const SessionStep> items);

  // Feeds `tokens` (one for each session) and then what the device samples, `steps` times in all: Engine::decode on
  // sessions. Afterwards each session holds the tokens that were fed in the steps that the sink saw; the last token
  // that the sink was given of a session is not appended. `sampling` goes by session and may be empty (greedy, no stop
  // token).
  Status decode(std::span<Session *const> sessions, std::span<const int32_t> tokens, int64_t steps,
                std::span<const DecodeParams> sampling, const TokenSink &sink);

private:
  friend class Session;
  struct Impl;
  explicit SessionPool(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class Session {
public:
  ~Session();
  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;

  // Appends tokens in as few steps as the buckets allow, so that afterwards the row after the last token can be
  // sampled. With `sink`, every row is computed and handed over. ResourceExhausted beyond the context; InvalidArgument
  // for a token outside the vocabulary: nothing has changed then.
  Status append(std::span<const int32_t> tokens, const LogitSink &sink = {});

  // The next token for the row after the last one; does not append it. FailedPrecondition where no logits are there.
  StatusOr<SampledToken> sample(Sampler &sampler);
  // SessionPool::decode of this session alone.
  Status decode(int32_t token, int64_t steps, const DecodeParams &sampling, const TokenSink &sink);
  SessionPool &pool();
  // f32 [vocab] of the last token, empty where none were computed. Valid until the next step of the pool.
  std::span<const float> logits() const;

  // Forgets all tokens from `length` on. The logits are gone unless nothing was forgotten. Layers with a window keep
  // only what it shows, and what the largest step may write beyond it: FailedPrecondition, and nothing has changed,
  // where a window at `length` reaches back further. What can always be forgotten: as many tokens as the largest step
  // has, of the most that the session had since it was empty; and all.
  Status truncate(int64_t length);
  // A second session with the same tokens, state and logits. ResourceExhausted as create_session().
  StatusOr<std::unique_ptr<Session>> fork();

  std::span<const int32_t> tokens() const;
  int64_t length() const;
  int64_t context() const;  // the most that length() can become
  // How many of the first tokens were given rather than generated: what penalties for generated tokens leave out.
  // Set by whoever knows; 0 at first.
  void set_prompt_tokens(size_t count);
  size_t prompt_tokens() const;

private:
  friend class SessionPool;
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mili
