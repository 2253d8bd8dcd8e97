// The C API over the C++ classes. Handles share ownership, so that they can be destroyed in any order.
#include "mili/mili.h"

#include "mili/runtime/generator.h"
#include "mili/schema/plan_generated.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>

namespace {

struct Loaded {
  std::unique_ptr<mili::Engine> engine;
  std::unique_ptr<mili::SessionPool> pool;
  std::vector<int32_t> stop_tokens;
};

thread_local std::string last_error;
mili_log_callback log_callback = nullptr;
void *log_user = nullptr;

mili_status fail(const mili::Status &status) {
  last_error = status.message();
  return static_cast<mili_status>(status.code());
}

mili_status fail(const char *message) {
  return fail(mili::invalid_argument(message));
}

// Runs a call; what the standard library throws becomes a status.
template <typename F>
mili_status guarded(F &&call) {
  try {
    mili::Status status = call();
    return status.ok() ? MILI_OK : fail(status);
  } catch (const std::bad_alloc &) {
    return fail(mili::resource_exhausted("the host has no memory left"));
  } catch (const std::exception &error) {
    return fail(mili::internal_error(error.what()));
  }
}

// Copies a caller's struct over `to`, which holds the defaults; the struct's first field is its size.
template <typename T>
mili::Status read_struct(const T *from, T &to, const char *name) {
  if (!from)
    return mili::ok_status();
  const size_t size = from->size;
  if (size < sizeof(size_t) || size > 4096)
    return mili::invalid_argument(std::string(name) + ".size is " + std::to_string(size) + ", expected sizeof(" + name +
                                  "), " + std::to_string(sizeof(T)));
  const auto *bytes = reinterpret_cast<const unsigned char *>(from);
  for (size_t i = sizeof(T); i < size; ++i)
    if (bytes[i] != 0)
      return mili::unimplemented(std::string(name) + " sets a field that this libmili (" MILI_VERSION
                                                     ") does not know; use a newer one");
  std::memcpy(static_cast<void *>(&to), from, std::min(size, sizeof(T)));
  to.size = sizeof(T);
  return mili::ok_status();
}

// Fills as much of the caller's struct as it has room for.
template <typename T>
mili::Status write_struct(const T &from, T *to, const char *name) {
  const size_t size = to->size;
  if (size < sizeof(size_t) || size > 4096)
    return mili::invalid_argument(std::string(name) + ".size is " + std::to_string(size) + ", expected sizeof(" + name +
                                  "), " + std::to_string(sizeof(T)));
  std::memcpy(static_cast<void *>(to), &from, std::min(size, sizeof(T)));
  to->size = size;
  return mili::ok_status();
}

mili_token to_c(const mili::SampledToken &token) {
  mili_token result{};
  result.size = sizeof(result);
  result.token = token.token;
  result.logprob = token.logprob;
  result.top_count = token.top_count;
  for (int32_t i = 0; i < token.top_count; ++i)
    result.top[i] = {token.top[static_cast<size_t>(i)].token, token.top[static_cast<size_t>(i)].logprob};
  return result;
}

}  // namespace

struct mili_engine {
  std::shared_ptr<Loaded> loaded;
};
struct mili_sampler {
  mili::Sampler sampler;
};
struct mili_session {
  std::shared_ptr<Loaded> loaded;
  std::unique_ptr<mili::Session> session;
};

const char *mili_version(void) {
  return MILI_VERSION;
}
const char *mili_status_name(mili_status status) {
  return mili::status_code_name(static_cast<mili::StatusCode>(status));
}
const char *mili_last_error(void) {
  return last_error.c_str();
}

void mili_set_log_callback(mili_log_callback callback, void *user) {
  log_callback = callback;
  log_user = user;
}

mili_status mili_engine_load(const char *plan_path, const mili_engine_params *params, mili_engine **engine) {
  if (!plan_path || !engine)
    return fail("mili_engine_load: plan_path and engine must not be NULL");
  *engine = nullptr;
  return guarded([&]() -> mili::Status {
    mili_engine_params given = MILI_ENGINE_PARAMS_INIT;
    MILI_RETURN_IF_ERROR(read_struct(params, given, "mili_engine_params"));
    mili::PlanOptions plan_options;
    mili::EngineOptions options;
    plan_options.verify_weights = given.skip_weight_hash == 0;
    options.cpu.threads = given.threads;
    options.cpu.pin = given.pin_threads != 0;
    options.cuda.device = given.cuda_device;
    if (given.kernel_cache)
      options.cuda.cache_dir = given.kernel_cache;
    if (given.progress)
      plan_options.progress = options.progress = [&given](double fraction, std::string_view what) {
        return given.progress(fraction, std::string(what).c_str(), given.user) != 0;
      };
    MILI_ASSIGN_OR_RETURN(mili::Plan plan, mili::Plan::open(plan_path, plan_options));
    auto loaded = std::make_shared<Loaded>();
    MILI_ASSIGN_OR_RETURN(loaded->engine, mili::Engine::load(std::move(plan), options));
    MILI_ASSIGN_OR_RETURN(loaded->pool, mili::SessionPool::create(*loaded->engine));
    const auto *generation = loaded->engine->plan().meta().generation();
    if (generation && generation->eos())
      loaded->stop_tokens.assign(generation->eos()->begin(), generation->eos()->end());
    if (log_callback) {
      const std::string message =
          std::string(plan_path) + ": " + loaded->engine->device().description() + ", code for " +
          std::string(loaded->engine->module().variant()) + ", " +
          mili::format_bytes(loaded->engine->plan().memory().total(loaded->engine->device().workers()));
      log_callback(MILI_LOG_INFO, message.c_str(), log_user);
    }
    *engine = new mili_engine{std::move(loaded)};
    return mili::ok_status();
  });
}

void mili_engine_destroy(mili_engine *engine) {
  delete engine;
}

mili_status mili_engine_get_info(const mili_engine *engine, mili_engine_info *info) {
  if (!engine || !info)
    return fail("mili_engine_get_info: engine and info must not be NULL");
  return guarded([&]() -> mili::Status {
    mili::Engine &loaded = *engine->loaded->engine;
    const mili::MemoryFigures &memory = loaded.plan().memory();
    mili_engine_info filled{};
    filled.vocab = loaded.vocab();
    filled.context = loaded.context();
    filled.requests = loaded.requests();
    filled.weight_bytes = memory.weights;
    filled.allocated_bytes = memory.total(loaded.device().workers()) - memory.weights;
    const auto *generation = loaded.plan().meta().generation();
    filled.bos = generation ? generation->bos() : -1;
    return write_struct(filled, info, "mili_engine_info");
  });
}

const int32_t *mili_engine_stop_tokens(const mili_engine *engine, size_t *count) {
  *count = engine->loaded->stop_tokens.size();
  return engine->loaded->stop_tokens.data();
}

const void *mili_engine_tokenizer(const mili_engine *engine, size_t *bytes) {
  auto section = engine->loaded->engine->plan().tokenizer();
  *bytes = section.size();
  return section.empty() ? nullptr : section.data();
}

mili_status mili_engine_default_sampling(const mili_engine *engine, mili_sampling_params *params) {
  if (!engine || !params)
    return fail("mili_engine_default_sampling: engine and params must not be NULL");
  return guarded([&]() -> mili::Status {
    mili_sampling_params filled = MILI_SAMPLING_PARAMS_INIT;
    if (const auto *generation = engine->loaded->engine->plan().meta().generation()) {
      filled.temperature = generation->temperature();
      filled.top_k = generation->top_k();
      filled.top_p = generation->top_p();
      filled.min_p = generation->min_p();
      filled.repetition_penalty = generation->repetition_penalty();
    }
    return write_struct(filled, params, "mili_sampling_params");
  });
}

mili_status mili_sampler_create(mili_engine *engine, const mili_sampling_params *params, mili_sampler **sampler) {
  if (!engine || !sampler)
    return fail("mili_sampler_create: engine and sampler must not be NULL");
  *sampler = nullptr;
  return guarded([&]() -> mili::Status {
    mili_sampling_params given = MILI_SAMPLING_PARAMS_INIT;
    MILI_RETURN_IF_ERROR(read_struct(params, given, "mili_sampling_params"));
    if (given.bias_count > 0 && (!given.bias_tokens || !given.bias_values))
      return mili::invalid_argument("mili_sampling_params: bias_count is " + std::to_string(given.bias_count) +
                                    ", bias_tokens or bias_values is NULL");
    mili::SamplingParams converted;
    converted.temperature = given.temperature;
    converted.top_k = given.top_k;
    converted.top_p = given.top_p;
    converted.min_p = given.min_p;
    converted.repetition_penalty = given.repetition_penalty;
    converted.presence_penalty = given.presence_penalty;
    converted.frequency_penalty = given.frequency_penalty;
    converted.seed = given.seed;
    converted.top_logprobs = given.top_logprobs;
    for (size_t i = 0; i < given.bias_count; ++i)
      converted.logit_bias.emplace_back(given.bias_tokens[i], given.bias_values[i]);
    MILI_ASSIGN_OR_RETURN(mili::Sampler made,
                          mili::Sampler::create(engine->loaded->engine->vocab(), std::move(converted)));
    *sampler = new mili_sampler{std::move(made)};
    return mili::ok_status();
  });
}

void mili_sampler_destroy(mili_sampler *sampler) {
  delete sampler;
}

mili_status mili_session_create(mili_engine *engine, mili_session **session) {
  if (!engine || !session)
    return fail("mili_session_create: engine and session must not be NULL");
  *session = nullptr;
  return guarded([&]() -> mili::Status {
    MILI_ASSIGN_OR_RETURN(auto made, engine->loaded->pool->create_session());
    *session = new mili_session{engine->loaded, std::move(made)};
    return mili::ok_status();
  });
}

void mili_session_destroy(mili_session *session) {
  delete session;
}

mili_status mili_session_append(mili_session *session, const int32_t *tokens, size_t count) {
  if (!session || (!tokens && count > 0))
    return fail("mili_session_append: session and tokens must not be NULL");
  return guarded([&] { return session->session->append({tokens, count}); });
}

mili_status mili_session_sample(mili_session *session, mili_sampler *sampler, mili_token *token) {
  if (!session || !sampler || !token)
    return fail("mili_session_sample: session, sampler and token must not be NULL");
  return guarded([&]() -> mili::Status {
    MILI_ASSIGN_OR_RETURN(mili::SampledToken sampled, session->session->sample(sampler->sampler));
    return write_struct(to_c(sampled), token, "mili_token");
  });
}

const float *mili_session_logits(const mili_session *session) {
  return session->session->logits().data();
}

const int32_t *mili_session_tokens(const mili_session *session, size_t *count) {
  *count = session->session->tokens().size();
  return session->session->tokens().data();
}

mili_status mili_session_truncate(mili_session *session, int64_t length) {
  if (!session)
    return fail("mili_session_truncate: session must not be NULL");
  return guarded([&] { return session->session->truncate(length); });
}

mili_status mili_session_fork(mili_session *session, mili_session **fork) {
  if (!session || !fork)
    return fail("mili_session_fork: session and fork must not be NULL");
  *fork = nullptr;
  return guarded([&]() -> mili::Status {
    MILI_ASSIGN_OR_RETURN(auto made, session->session->fork());
    *fork = new mili_session{session->loaded, std::move(made)};
    return mili::ok_status();
  });
}

mili_status mili_step(const mili_step_item *items, size_t count) {
  if (!items || count == 0 || !items[0].session)
    return fail("mili_step: at least one item with a session");
  return guarded([&]() -> mili::Status {
    std::vector<mili::SessionStep> steps;
    for (size_t i = 0; i < count; ++i) {
      if (!items[i].session || (!items[i].tokens && items[i].count > 0))
        return mili::invalid_argument("mili_step: item " + std::to_string(i) + " lacks its session or tokens");
      steps.push_back({items[i].session->session.get(),
                       {items[i].tokens, items[i].count},
                       items[i].want_logits ? mili::LogitRows::kLast : mili::LogitRows::kNone});
    }
    return items[0].session->loaded->pool->step(steps).status();
  });
}

mili_status mili_generate(mili_session *session, mili_sampler *sampler, const int32_t *prompt, size_t count,
                          const mili_generate_params *params, mili_generate_result *result) {
  if (!session || !sampler || (!prompt && count > 0))
    return fail("mili_generate: session, sampler and prompt must not be NULL");
  return guarded([&]() -> mili::Status {
    mili_generate_params given = MILI_GENERATE_PARAMS_INIT;
    MILI_RETURN_IF_ERROR(read_struct(params, given, "mili_generate_params"));
    mili::GenerateOptions options;
    options.max_tokens = given.max_tokens;
    options.stop_tokens = session->loaded->stop_tokens;
    if (given.stop_tokens)
      options.stop_tokens = {given.stop_tokens, given.stop_count};
    if (given.on_token)
      options.on_token = [&given](const mili::SampledToken &token) {
        const mili_token converted = to_c(token);
        return given.on_token(&converted, given.user) != 0;
      };
    MILI_ASSIGN_OR_RETURN(mili::GenerateResult generated,
                          mili::generate(*session->session, sampler->sampler, {prompt, count}, options));
    if (!result)
      return mili::ok_status();
    mili_generate_result filled{};
    filled.finish = static_cast<mili_finish>(generated.finish);
    filled.prompt_tokens = generated.timings.prompt_tokens;
    filled.generated_tokens = generated.timings.generated_tokens;
    filled.prefill_seconds = generated.timings.prefill_seconds;
    filled.decode_seconds = generated.timings.decode_seconds;
    return write_struct(filled, result, "mili_generate_result");
  });
}
