// A thin C++ layer over mili.h: handles that destroy themselves, and statuses that cannot be dropped by accident. No
// exceptions; header only.
//
//   mili::api::Engine engine;
//   if (mili_status s = engine.load("model.mili"); s != MILI_OK) ...mili_last_error()...
#pragma once

#include "mili/mili.h"

#include <memory>
#include <span>

namespace mili::api {

template <typename T, void (*Destroy)(T *)>
class Handle {
public:
  T *get() const { return handle_.get(); }
  explicit operator bool() const { return handle_ != nullptr; }

protected:
  // For functions that hand out a handle through a pointer.
  template <typename F>
  mili_status fill(F &&create) {
    T *made = nullptr;
    const mili_status status = create(&made);
    if (status == MILI_OK)
      handle_.reset(made);
    return status;
  }

private:
  struct Deleter {
    void operator()(T *handle) const { Destroy(handle); }
  };
  std::unique_ptr<T, Deleter> handle_;
};

class Engine : public Handle<mili_engine, mili_engine_destroy> {
public:
  [[nodiscard]] mili_status load(const char *path, const mili_engine_params *params = nullptr) {
    return fill([&](mili_engine **out) { return mili_engine_load(path, params, out); });
  }
  mili_engine_info info() const {
    mili_engine_info info{};
    info.size = sizeof(info);
    (void)mili_engine_get_info(get(), &info);
    return info;
  }
  std::span<const int32_t> stop_tokens() const {
    size_t count = 0;
    const int32_t *tokens = mili_engine_stop_tokens(get(), &count);
    return {tokens, count};
  }
};

class Sampler : public Handle<mili_sampler, mili_sampler_destroy> {
public:
  [[nodiscard]] mili_status create(const Engine &engine, const mili_sampling_params *params = nullptr) {
    return fill([&](mili_sampler **out) { return mili_sampler_create(engine.get(), params, out); });
  }
};

class Session : public Handle<mili_session, mili_session_destroy> {
public:
  [[nodiscard]] mili_status create(const Engine &engine) {
    return fill([&](mili_session **out) { return mili_session_create(engine.get(), out); });
  }
  [[nodiscard]] mili_status append(std::span<const int32_t> tokens) {
    return mili_session_append(get(), tokens.data(), tokens.size());
  }
  [[nodiscard]] mili_status sample(Sampler &sampler, mili_token &token) {
    token.size = sizeof(token);
    return mili_session_sample(get(), sampler.get(), &token);
  }
  [[nodiscard]] mili_status truncate(int64_t length) { return mili_session_truncate(get(), length); }
  [[nodiscard]] mili_status fork(Session &other) const {
    return other.fill([&](mili_session **out) { return mili_session_fork(get(), out); });
  }
  [[nodiscard]] mili_status generate(Sampler &sampler, std::span<const int32_t> prompt,
                                     const mili_generate_params *params = nullptr,
                                     mili_generate_result *result = nullptr) {
    return mili_generate(get(), sampler.get(), prompt.data(), prompt.size(), params, result);
  }
  std::span<const int32_t> tokens() const {
    size_t count = 0;
    const int32_t *tokens = mili_session_tokens(get(), &count);
    return {tokens, count};
  }
};

}  // namespace mili::api
