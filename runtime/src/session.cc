#include "mili/runtime/session.h"

#include <algorithm>
#include <cstring>

namespace mili {
namespace {

std::string num(int64_t value) {
  return std::to_string(value);
}

}  // namespace

PageAllocator::PageAllocator(int64_t pages) : pages_(pages), users_(static_cast<size_t>(pages)) {
  free_.reserve(static_cast<size_t>(pages));
}

int32_t PageAllocator::allocate(bool *recycled) {
  int32_t page = -1;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
    *recycled = true;
  } else if (next_unused_ < pages_) {
    page = static_cast<int32_t>(next_unused_++);
    *recycled = false;
  } else {
    return -1;
  }
  users_[static_cast<size_t>(page)] = 1;
  return page;
}

void PageAllocator::release(int32_t page) {
  if (--users_[static_cast<size_t>(page)] == 0)
    free_.push_back(page);
}

struct SessionPool::Impl {
  explicit Impl(Engine &e) : engine(e) {
    for (const PageTable &table : e.page_tables())
      pages.emplace_back(static_cast<int64_t>(table.pages));
  }

  Engine &engine;
  std::vector<PageAllocator> pages;  // of each page table
  std::vector<Session *> sessions;
  std::vector<StepSequence> step;  // work space, as long as the largest step
};

struct Session::Impl {
  explicit Impl(SessionPool &p) : pool(p), pages(p.impl_->pages.size()) {}

  SessionPool &pool;
  std::vector<int32_t> tokens;
  std::vector<PageList> pages;     // of each page table
  size_t written = 0;              // positions that steps may have written since the session was empty
  std::vector<float> kept_logits;  // a copy, once another step overwrites the engine's
  const float *logits = nullptr;   // the engine's or kept_logits'
  size_t prompt_tokens = 0;

  // Gives back pages that `length` tokens do not need.
  void drop_pages(size_t length) {
    const std::span<const PageTable> tables = pool.impl_->engine.page_tables();
    for (size_t t = 0; t < tables.size(); ++t) {
      const size_t needed = std::min<size_t>(tables[t].ring, pages_for(length));
      while (pages[t].size() > needed) {
        pool.impl_->pages[t].release(pages[t].back());
        pages[t].pop_back();
      }
    }
  }

  // Pages for `count` more tokens, of which all that will be written are this session's alone. `together`: one step
  // writes them all, so that only a page that it leaves partly unwritten needs to be cleared of what it held before.
  Status reserve(size_t count, bool together = true) {
    SessionPool::Impl &shared = *pool.impl_;
    const std::span<const PageTable> tables = shared.engine.page_tables();
    const size_t end = tokens.size() + count;
    for (size_t t = 0; t < tables.size(); ++t) {
      PageAllocator &allocator = shared.pages[t];
      auto exhausted = [&] {
        drop_pages(tokens.size());
        return resource_exhausted("no free page for " + num(static_cast<int64_t>(count)) +
                                  " more tokens of a session of " + num(static_cast<int64_t>(tokens.size())) +
                                  ": all " + std::to_string(tables[t].pages - 1) +
                                  " pages of 64 tokens are in use; compile with more --requests or --context");
      };
      const size_t first = tokens.size() / kPageTokens, ring = tables[t].ring;
      for (size_t block = first; block * kPageTokens < end && block < first + ring; ++block) {
        bool recycled = false;
        if (const size_t slot = block % ring; slot < pages[t].size()) {
          // Begun already, or of a block whose rows the window still shows to the first of the tokens.
          const int32_t page = pages[t][slot];
          if (allocator.users(page) == 1)
            continue;
          const int32_t copy = allocator.allocate(&recycled);
          if (copy < 0)
            return exhausted();
          pages[t][slot] = copy;
          allocator.release(page);
          MILI_RETURN_IF_ERROR(shared.engine.copy_page(t, copy, page));
        } else {
          const int32_t page = allocator.allocate(&recycled);
          if (page < 0)
            return exhausted();
          pages[t].push_back(page);
          if (recycled && (!together || (block + 1) * kPageTokens > end))
            MILI_RETURN_IF_ERROR(shared.engine.clear_page(t, page));
        }
      }
    }
    return ok_status();
  }

  // Whether the rows that a query at `length` sees are all there, though later ones may have been written.
  Status keeps_window(size_t length) const {
    const std::span<const PageTable> tables = pool.impl_->engine.page_tables();
    for (const PageTable &table : tables) {
      const size_t last = written == 0 ? 0 : (written - 1) / kPageTokens;
      if (table.window == 0 || length == 0 || last < table.ring)
        continue;
      const size_t oldest = last - table.ring + 1;  // block that no later one has replaced
      if (length < oldest * kPageTokens + table.window - 1)
        return failed_precondition("cannot truncate a session of " + num(static_cast<int64_t>(tokens.size())) +
                                   " tokens to " + num(static_cast<int64_t>(length)) + ": layers with a window of " +
                                   std::to_string(table.window) + " tokens keep no earlier ones; " +
                                   std::to_string(oldest * kPageTokens + table.window - 1) +
                                   " tokens or more, or none, can stay");
    }
    return ok_status();
  }

  void wrote(size_t positions) { written = std::max(written, positions); }

  void keep_logits(size_t vocab) {
    if (logits && logits != kept_logits.data()) {
      std::memcpy(kept_logits.data(), logits, vocab * sizeof(float));
      logits = kept_logits.data();
    }
  }
};

SessionPool::SessionPool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SessionPool::~SessionPool() = default;

StatusOr<std::unique_ptr<SessionPool>> SessionPool::create(Engine &engine) {
  auto impl = std::make_unique<Impl>(engine);
  impl->sessions.reserve(static_cast<size_t>(engine.requests()));
  impl->step.reserve(static_cast<size_t>(engine.largest().sequences));
  return std::unique_ptr<SessionPool>(new SessionPool(std::move(impl)));
}

Engine &SessionPool::engine() {
  return impl_->engine;
}
int64_t SessionPool::live_sessions() const {
  return static_cast<int64_t>(impl_->sessions.size());
}
int64_t SessionPool::free_pages() const {
  int64_t free = 0;
  for (const PageAllocator &pages : impl_->pages)
    free += pages.free_pages();
  return free;
}

StatusOr<std::unique_ptr<Session>> SessionPool::create_session() {
  if (live_sessions() >= impl_->engine.requests())
    return resource_exhausted("the plan serves " + num(impl_->engine.requests()) +
                              " requests at once and all are in use; compile with more --requests");
  auto session = std::make_unique<Session::Impl>(*this);
  session->tokens.reserve(static_cast<size_t>(impl_->engine.context()));
  for (size_t t = 0; t < session->pages.size(); ++t)
    session->pages[t].reserve(impl_->engine.page_tables()[t].ring);
  session->kept_logits.resize(static_cast<size_t>(impl_->engine.vocab()));
  std::unique_ptr<Session> result(new Session(std::move(session)));
  impl_->sessions.push_back(result.get());
  return result;
}

StatusOr<std::vector<SessionStep>> SessionPool::take_step(std::span<const SessionStep> pending, int64_t budget) const {
  if (budget < 1)
    return invalid_argument("a step of at most " + num(budget) + " tokens; the budget is at least 1");
  std::vector<SessionStep> items;
  int64_t tokens = 0, rows = 0;
  // The most tokens of one more sequence that some bucket takes beside what the step has.
  auto room = [&](LogitRows logits) {
    int64_t most = 0;
    for (const BucketBounds &bounds : impl_->engine.buckets()) {
      const int64_t rows_left = bounds.logit_rows - rows;
      if (static_cast<int64_t>(items.size()) < bounds.sequences && rows_left >= (logits == LogitRows::kLast))
        most = std::max(most, logits == LogitRows::kAll ? std::min(bounds.tokens - tokens, rows_left)
                                                        : bounds.tokens - tokens);
    }
    return std::min(most, budget - tokens);
  };
  for (const bool generating : {true, false})
    for (const SessionStep &want : pending) {
      auto count = static_cast<int64_t>(want.tokens.size());
      if (count == 0 || (count == 1) != generating)
        continue;
      LogitRows logits = want.logits;
      if (logits == LogitRows::kAll) {
        count = std::min(count, room(logits));
      } else if (count > room(logits)) {
        // The last token waits for a step in which there is room for its row.
        count = std::min(count - (logits == LogitRows::kLast), room(LogitRows::kNone));
        logits = LogitRows::kNone;
      }
      if (count < 1)
        continue;
      items.push_back({want.session, want.tokens.first(static_cast<size_t>(count)), logits});
      tokens += count;
      rows += logits == LogitRows::kAll ? count : logits == LogitRows::kLast;
    }
  return items;
}

StatusOr<StepOutput> SessionPool::step(std::span<const SessionStep> items) {
  Engine &engine = impl_->engine;
  int64_t tokens = 0, rows = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const SessionStep &item = items[i];
    if (!item.session || &item.session->impl_->pool != this)
      return invalid_argument("item " + std::to_string(i) + " of the step has no session of this pool");
    for (size_t j = 0; j < i; ++j)
      if (items[j].session == item.session)
        return invalid_argument("items " + std::to_string(j) + " and " + std::to_string(i) +
                                " of the step are the same session");
    const auto count = static_cast<int64_t>(item.tokens.size());
    if (count == 0)
      return invalid_argument("item " + std::to_string(i) + " of the step has no tokens");
    if (count > engine.context() - item.session->length())
      return resource_exhausted("a session of " + num(item.session->length()) + " tokens cannot take " + num(count) +
                                " more: the plan has a context of " + num(engine.context()) +
                                "; compile with a larger --context");
    for (int32_t token : item.tokens)
      if (token < 0 || token >= engine.vocab())
        return invalid_argument("token " + num(token) + " is not in the vocabulary of " + num(engine.vocab()));
    tokens += count;
    rows += item.logits == LogitRows::kAll ? count : item.logits == LogitRows::kLast;
  }
  MILI_RETURN_IF_ERROR(engine.pick_bucket(tokens, static_cast<int64_t>(items.size()), rows).status());

  impl_->step.clear();
  auto undo = [&](Status status) {
    for (const SessionStep &item : items)
      item.session->impl_->drop_pages(item.session->impl_->tokens.size());
    return status;
  };
  for (const SessionStep &item : items) {
    Session::Impl &session = *item.session->impl_;
    if (Status status = session.reserve(item.tokens.size()); !status.ok())
      return undo(status);
    impl_->step.push_back({item.tokens, static_cast<int64_t>(session.tokens.size()), session.pages, item.logits});
  }
  // The step overwrites the engine's logits, which other sessions may still want.
  for (Session *session : impl_->sessions)
    session->impl_->keep_logits(static_cast<size_t>(engine.vocab()));
  for (const SessionStep &item : items)
    item.session->impl_->wrote(item.session->impl_->tokens.size() + item.tokens.size());
  auto output = engine.step(impl_->step);
  if (!output.ok())
    return undo(output.status());

  int64_t row = 0;
  for (const SessionStep &item : items) {
    Session::Impl &session = *item.session->impl_;
    session.tokens.insert(session.tokens.end(), item.tokens.begin(), item.tokens.end());
    row += item.logits == LogitRows::kAll    ? static_cast<int64_t>(item.tokens.size())
           : item.logits == LogitRows::kLast ? 1
                                             : 0;
    session.logits = item.logits == LogitRows::kNone ? nullptr : output->logits + (row - 1) * output->vocab;
  }
  return output;
}

Status SessionPool::decode(std::span<Session *const> sessions, std::span<const int32_t> tokens, int64_t steps,
                           std::span<const DecodeParams> sampling, const TokenSink &sink) {
  Engine &engine = impl_->engine;
  if (sessions.empty() || tokens.size() != sessions.size() || steps < 1)
    return invalid_argument("decoding takes one token of each of at least one session, found " +
                            std::to_string(tokens.size()) + " tokens of " + std::to_string(sessions.size()) +
                            " sessions");
  impl_->step.clear();
  auto undo = [&](Status status) {
    for (Session *session : sessions)
      session->impl_->drop_pages(session->impl_->tokens.size());
    return status;
  };
  for (size_t i = 0; i < sessions.size(); ++i) {
    Session::Impl &session = *sessions[i]->impl_;
    if (steps > engine.context() - sessions[i]->length())
      return undo(resource_exhausted("a session of " + num(sessions[i]->length()) + " tokens cannot take " +
                                     num(steps) + " more: the plan has a context of " + num(engine.context()) +
                                     "; compile with a larger --context"));
    if (Status status = session.reserve(static_cast<size_t>(steps), /*together=*/false); !status.ok())
      return undo(status);
    impl_->step.push_back({tokens.subspan(i, 1), static_cast<int64_t>(session.tokens.size()), session.pages,
                           LogitRows::kLast, sampling.empty() ? DecodeParams() : sampling[i]});
  }
  for (Session *session : impl_->sessions)
    session->impl_->keep_logits(static_cast<size_t>(engine.vocab()));
  // The token that a step feeds is appended when the step's own token is seen.
  std::vector<int32_t> pending(tokens.begin(), tokens.end());
  for (size_t i = 0; i < sessions.size(); ++i)
    sessions[i]->impl_->wrote(sessions[i]->impl_->tokens.size() +
                              static_cast<size_t>(std::min(steps, Engine::kDecodeLag)));
  Status status = engine.decode(impl_->step, steps, [&](int64_t step, std::span<const int32_t> sampled) {
    // The device is that far ahead of what is seen.
    const auto ahead = static_cast<size_t>(std::min(steps - step - 1, Engine::kDecodeLag));
    for (size_t i = 0; i < sessions.size(); ++i) {
      // A session that has ended stands still.
      if (sampled[i] < 0)
        continue;
      sessions[i]->impl_->tokens.push_back(pending[i]);
      sessions[i]->impl_->wrote(sessions[i]->impl_->tokens.size() + ahead);
      sessions[i]->impl_->logits = nullptr;
      pending[i] = sampled[i];
    }
    return sink(step, sampled);
  });
  return undo(status);
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Session::~Session() {
  impl_->drop_pages(0);
  std::erase(impl_->pool.impl_->sessions, this);
}

Status Session::append(std::span<const int32_t> tokens, const LogitSink &sink) {
  Engine &engine = impl_->pool.engine();
  if (tokens.empty())
    return ok_status();
  if (static_cast<int64_t>(tokens.size()) > engine.context() - length())
    return resource_exhausted("a session of " + num(length()) + " tokens cannot take " +
                              num(static_cast<int64_t>(tokens.size())) + " more: the plan has a context of " +
                              num(engine.context()) + "; compile with a larger --context");
  for (int32_t token : tokens)
    if (token < 0 || token >= engine.vocab())
      return invalid_argument("token " + num(token) + " is not in the vocabulary of " + num(engine.vocab()));
  // A step for every row is bounded by the rows of the buckets as well.
  int64_t chunk = 0;
  for (const BucketBounds &bounds : engine.buckets())
    chunk = std::max(chunk, sink ? std::min(bounds.tokens, bounds.logit_rows) : bounds.tokens);
  if (chunk == 0)
    return failed_precondition("no bucket of the plan computes logits");
  while (!tokens.empty()) {
    std::span<const int32_t> part = tokens.first(std::min<size_t>(tokens.size(), static_cast<size_t>(chunk)));
    tokens = tokens.subspan(part.size());
    const SessionStep item{this, part, sink ? LogitRows::kAll : tokens.empty() ? LogitRows::kLast : LogitRows::kNone};
    const int64_t first = length();
    auto output = impl_->pool.step({&item, 1});
    if (!output.ok())
      return output.status();
    if (sink)
      MILI_RETURN_IF_ERROR(sink(first, output->rows, output->logits));
  }
  return ok_status();
}

StatusOr<SampledToken> Session::sample(Sampler &sampler) {
  if (!impl_->logits)
    return failed_precondition("the session has no logits to sample from; append a token first");
  return sampler.sample(logits(), impl_->tokens, impl_->prompt_tokens);
}

Status Session::decode(int32_t token, int64_t steps, const DecodeParams &sampling, const TokenSink &sink) {
  Session *self = this;
  return impl_->pool.decode({&self, 1}, {&token, 1}, steps, {&sampling, 1}, sink);
}

SessionPool &Session::pool() {
  return impl_->pool;
}

std::span<const float> Session::logits() const {
  return impl_->logits ? std::span<const float>(impl_->logits, static_cast<size_t>(impl_->pool.engine().vocab()))
                       : std::span<const float>();
}

Status Session::truncate(int64_t length) {
  if (length < 0 || length > this->length())
    return invalid_argument("cannot truncate a session of " + num(this->length()) + " tokens to " + num(length));
  if (length == this->length())
    return ok_status();
  MILI_RETURN_IF_ERROR(impl_->keeps_window(static_cast<size_t>(length)));
  impl_->tokens.resize(static_cast<size_t>(length));
  impl_->drop_pages(static_cast<size_t>(length));
  if (length == 0)
    impl_->written = 0;
  impl_->logits = nullptr;
  return ok_status();
}

StatusOr<std::unique_ptr<Session>> Session::fork() {
  MILI_ASSIGN_OR_RETURN(auto copy, impl_->pool.create_session());
  Impl &other = *copy->impl_;
  other.tokens.assign(impl_->tokens.begin(), impl_->tokens.end());
  for (size_t t = 0; t < impl_->pages.size(); ++t) {
    other.pages[t].assign(impl_->pages[t].begin(), impl_->pages[t].end());
    for (int32_t page : other.pages[t])
      impl_->pool.impl_->pages[t].share(page);
  }
  other.written = impl_->written;
  other.prompt_tokens = impl_->prompt_tokens;
  if (impl_->logits) {
    std::memcpy(other.kept_logits.data(), impl_->logits, other.kept_logits.size() * sizeof(float));
    other.logits = other.kept_logits.data();
  }
  return copy;
}

std::span<const int32_t> Session::tokens() const {
  return impl_->tokens;
}
int64_t Session::length() const {
  return static_cast<int64_t>(impl_->tokens.size());
}
int64_t Session::context() const {
  return impl_->pool.engine().context();
}
void Session::set_prompt_tokens(size_t count) {
  impl_->prompt_tokens = count;
}
size_t Session::prompt_tokens() const {
  return impl_->prompt_tokens;
}

}  // namespace mili
