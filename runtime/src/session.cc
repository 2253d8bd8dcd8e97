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
  explicit Impl(Engine &e) : engine(e), pages(e.kv_pages()) {}

  Engine &engine;
  PageAllocator pages;
  std::vector<Session *> sessions;
  std::vector<StepSequence> step;  // work space, as long as the largest step
};

struct Session::Impl {
  explicit Impl(SessionPool &p) : pool(p) {}

  SessionPool &pool;
  std::vector<int32_t> tokens;
  std::vector<int32_t> pages;
  std::vector<float> kept_logits;  // a copy, once another step overwrites the engine's
  const float *logits = nullptr;   // the engine's or kept_logits'
  size_t prompt_tokens = 0;

  // Gives back pages that `length` tokens do not need.
  void drop_pages(size_t length) {
    const size_t needed = pages_for(length);
    while (pages.size() > needed) {
      pool.impl_->pages.release(pages.back());
      pages.pop_back();
    }
  }

  // Pages for `count` more tokens, of which the first to be written is this session's alone. `together`: one step
  // writes them all, so that only a page that it leaves partly unwritten needs to be cleared of what it held before.
  Status reserve(size_t count, bool together = true) {
    SessionPool::Impl &shared = *pool.impl_;
    const size_t before = pages.size();
    auto exhausted = [&] {
      drop_pages(before * kPageTokens);
      return resource_exhausted("no free page for " + num(static_cast<int64_t>(count)) +
                                " more tokens of a session of " + num(static_cast<int64_t>(tokens.size())) + ": all " +
                                num(shared.engine.kv_pages() - 1) +
                                " pages of 64 tokens are in use; compile with more --requests or --context");
    };
    const size_t partial = tokens.size() / kPageTokens;
    if (tokens.size() % kPageTokens != 0 && shared.pages.users(pages[partial]) > 1) {
      bool recycled = false;
      const int32_t copy = shared.pages.allocate(&recycled);
      if (copy < 0)
        return exhausted();
      MILI_RETURN_IF_ERROR(shared.engine.copy_page(copy, pages[partial]));
      shared.pages.release(pages[partial]);
      pages[partial] = copy;
    }
    for (const size_t needed = pages_for(tokens.size() + count); pages.size() < needed;) {
      bool recycled = false;
      const int32_t page = shared.pages.allocate(&recycled);
      if (page < 0)
        return exhausted();
      pages.push_back(page);
      if (recycled && (!together || pages.size() * kPageTokens > tokens.size() + count))
        MILI_RETURN_IF_ERROR(shared.engine.clear_page(page));
    }
    return ok_status();
  }

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
  return impl_->pages.free_pages();
}

StatusOr<std::unique_ptr<Session>> SessionPool::create_session() {
  if (live_sessions() >= impl_->engine.requests())
    return resource_exhausted("the plan serves " + num(impl_->engine.requests()) +
                              " requests at once and all are in use; compile with more --requests");
  auto session = std::make_unique<Session::Impl>(*this);
  session->tokens.reserve(static_cast<size_t>(impl_->engine.context()));
  session->pages.reserve(pages_for(static_cast<uint64_t>(impl_->engine.context())));
  session->kept_logits.resize(static_cast<size_t>(impl_->engine.vocab()));
  std::unique_ptr<Session> result(new Session(std::move(session)));
  impl_->sessions.push_back(result.get());
  return result;
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
  Status status = engine.decode(impl_->step, steps, [&](int64_t step, std::span<const int32_t> sampled) {
    for (size_t i = 0; i < sessions.size(); ++i) {
      // A session that has ended stands still.
      if (sampled[i] < 0)
        continue;
      sessions[i]->impl_->tokens.push_back(pending[i]);
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
  impl_->tokens.resize(static_cast<size_t>(length));
  impl_->drop_pages(static_cast<size_t>(length));
  impl_->logits = nullptr;
  return ok_status();
}

StatusOr<std::unique_ptr<Session>> Session::fork() {
  MILI_ASSIGN_OR_RETURN(auto copy, impl_->pool.create_session());
  Impl &other = *copy->impl_;
  other.tokens.assign(impl_->tokens.begin(), impl_->tokens.end());
  other.pages.assign(impl_->pages.begin(), impl_->pages.end());
  for (int32_t page : other.pages)
    impl_->pool.impl_->pages.share(page);
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
