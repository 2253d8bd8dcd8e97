/* MILI's C API: run compiled plans from C, or from any language that can call C. libmili.so; link with -lmili.
 *
 *   mili_engine *engine;
 *   if (mili_engine_load("model.mili", NULL, &engine) != MILI_OK) { puts(mili_last_error()); return 1; }
 *   mili_session *session;  mili_session_create(engine, &session);
 *   mili_sampler *sampler;  mili_sampler_create(engine, NULL, &sampler);
 *   mili_generate_params params = MILI_GENERATE_PARAMS_INIT;
 *   params.max_tokens = 128;  params.on_token = print_token;
 *   mili_generate(session, sampler, prompt, prompt_count, &params, NULL);
 *
 * Conventions. Every call that can fail returns a status; mili_last_error() has the message of this thread's last
 * failure. Handles come from *_create or *_load and go with *_destroy, which accept NULL. Parameter structs begin with
 * their size: set it to sizeof, or begin with the *_INIT macro, which also sets the defaults; a struct from an older
 * header gets defaults for what it lacks, one from a newer header is refused if it sets what this library does not
 * know. NULL instead of a parameter struct means the defaults. Nothing is printed and no exception leaves the library.
 *
 * An engine and everything made from it are used by one thread at a time. Sessions and samplers keep their engine
 * alive: handles can be destroyed in any order.
 */
#ifndef MILI_MILI_H
#define MILI_MILI_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MILI_API __attribute__((visibility("default")))
#else
#define MILI_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mili_status {
  MILI_OK = 0,
  MILI_INVALID_ARGUMENT = 1,    /* what was passed can never work */
  MILI_NOT_FOUND = 2,           /* a file or function that is not there */
  MILI_DATA_LOSS = 3,           /* a plan that is truncated, damaged or contradicts itself */
  MILI_UNIMPLEMENTED = 4,       /* a plan that needs a newer runtime */
  MILI_RESOURCE_EXHAUSTED = 5,  /* memory, pages, sessions; the message says how much and which flag */
  MILI_UNAVAILABLE = 6,         /* a device that is not on this machine */
  MILI_FAILED_PRECONDITION = 7, /* called in the wrong order */
  MILI_CANCELLED = 8,           /* a callback asked to stop */
  MILI_INTERNAL = 9             /* a fault of MILI itself */
} mili_status;

typedef struct mili_engine mili_engine;
typedef struct mili_session mili_session;
typedef struct mili_sampler mili_sampler;

/* "0.1.0". */
MILI_API const char *mili_version(void);
/* "data loss". */
MILI_API const char *mili_status_name(mili_status status);
/* The message of this thread's last call that failed; "" before any. Valid until the thread's next call. */
MILI_API const char *mili_last_error(void);

typedef enum mili_log_level { MILI_LOG_INFO = 1, MILI_LOG_WARNING = 2 } mili_log_level;
typedef void (*mili_log_callback)(mili_log_level level, const char *message, void *user);
/* For the whole process; NULL (the default) is silence. Set it before other threads use the library. */
MILI_API void mili_set_log_callback(mili_log_callback callback, void *user);

/* ---- engine: a plan, loaded ------------------------------------------------------------------------------------ */

typedef struct mili_engine_params {
  size_t size;
  uint32_t threads;         /* 0: physical cores that the process may use */
  int32_t pin_threads;      /* not 0: bind each worker to a core */
  int32_t skip_weight_hash; /* not 0: do not read all weights once to compare their hash */
  /* Called now and then while loading, with a fraction in [0, 1] and what is going on; 0 cancels. */
  int32_t (*progress)(double fraction, const char *what, void *user);
  void *user;
  /* Of plans for NVIDIA GPUs: which GPU, counted after CUDA_VISIBLE_DEVICES; and the folder where kernels are kept that
   * had to be compiled here. NULL: a folder of the user's cache; "off": nowhere. */
  uint32_t cuda_device;
  const char *kernel_cache;
} mili_engine_params;
#define MILI_ENGINE_PARAMS_INIT {sizeof(mili_engine_params), 0, 0, 0, NULL, NULL, 0, NULL}

typedef struct mili_engine_info {
  size_t size;              /* set by the caller */
  int64_t vocab;            /* token ids are 0..vocab-1 */
  int64_t context;          /* tokens that a session can have */
  int64_t requests;         /* sessions that can be live at once */
  uint64_t weight_bytes;    /* mapped from the plan */
  uint64_t allocated_bytes; /* arena, state pools, tables, scratch: all of it at load */
  int32_t bos;              /* first token of a text, -1 if none */
} mili_engine_info;

MILI_API mili_status mili_engine_load(const char *plan_path, const mili_engine_params *params, mili_engine **engine);
MILI_API void mili_engine_destroy(mili_engine *engine);
MILI_API mili_status mili_engine_get_info(const mili_engine *engine, mili_engine_info *info);
/* Token ids that end a text, by the model's own configuration. Valid as long as the engine. */
MILI_API const int32_t *mili_engine_stop_tokens(const mili_engine *engine, size_t *count);
/* The plan's tokenizer section for mili_tokenizer_create of mili_text.h; NULL where the plan has none. Valid as long as
 * the engine. */
MILI_API const void *mili_engine_tokenizer(const mili_engine *engine, size_t *bytes);

/* ---- sampling --------------------------------------------------------------------------------------------------- */

typedef struct mili_sampling_params {
  size_t size;
  float temperature;        /* 0: greedy */
  int32_t top_k;            /* 0: off */
  float top_p;              /* (0, 1]; 1: off */
  float min_p;              /* [0, 1]; 0: off */
  float repetition_penalty; /* > 0; 1: off */
  float presence_penalty;   /* 0: off */
  float frequency_penalty;  /* 0: off */
  uint64_t seed;
  const int32_t *bias_tokens; /* bias_count of each: bias_values[i] is added to the logit of bias_tokens[i] */
  const float *bias_values;
  size_t bias_count;
  int32_t top_logprobs; /* 0..20 */
} mili_sampling_params;
#define MILI_SAMPLING_PARAMS_INIT {sizeof(mili_sampling_params), 0, 0, 1, 0, 1, 0, 0, 0, NULL, NULL, 0, 0}

/* Fills *params with the defaults that the model's authors give; its size is set by the caller. */
MILI_API mili_status mili_engine_default_sampling(const mili_engine *engine, mili_sampling_params *params);
/* The parameters are copied. The same seed, logits and position give the same token. */
MILI_API mili_status mili_sampler_create(mili_engine *engine, const mili_sampling_params *params,
                                         mili_sampler **sampler);
MILI_API void mili_sampler_destroy(mili_sampler *sampler);

typedef struct mili_token_logprob {
  int32_t token;
  float logprob;
} mili_token_logprob;

typedef struct mili_token {
  size_t size; /* set by the caller where the library fills the struct, by the library in callbacks */
  int32_t token;
  float logprob; /* natural logarithm of the model's own probability; where top_logprobs > 0 */
  int32_t top_count;
  mili_token_logprob top[20]; /* the most probable tokens, descending */
} mili_token;

/* ---- sessions: a sequence of tokens with its state -------------------------------------------------------------- */

MILI_API mili_status mili_session_create(mili_engine *engine, mili_session **session);
MILI_API void mili_session_destroy(mili_session *session);
/* Evaluates `count` more tokens; afterwards the next one can be sampled. Nothing has changed where it fails. */
MILI_API mili_status mili_session_append(mili_session *session, const int32_t *tokens, size_t count);
/* Chooses the next token; does not append it. */
MILI_API mili_status mili_session_sample(mili_session *session, mili_sampler *sampler, mili_token *token);
/* f32 [vocab] after the last token, NULL where there are none. Valid until anything of the same engine is evaluated. */
MILI_API const float *mili_session_logits(const mili_session *session);
/* The tokens so far. Valid until the session changes. */
MILI_API const int32_t *mili_session_tokens(const mili_session *session, size_t *count);
/* Forgets all tokens from `length` on. */
MILI_API mili_status mili_session_truncate(mili_session *session, int64_t length);
/* Another session with the same tokens; the state is shared until one of the two writes to it. */
MILI_API mili_status mili_session_fork(mili_session *session, mili_session **fork);

/* One contribution to a step over several sessions. */
typedef struct mili_step_item {
  mili_session *session;
  const int32_t *tokens;
  size_t count;
  int32_t want_logits; /* not 0: the session can be sampled afterwards */
} mili_step_item;
/* Evaluates tokens of several sessions of one engine together. */
MILI_API mili_status mili_step(const mili_step_item *items, size_t count);

/* ---- generation -------------------------------------------------------------------------------------------------- */

typedef struct mili_generate_params {
  size_t size;
  int64_t max_tokens;
  const int32_t *stop_tokens; /* NULL: mili_engine_stop_tokens */
  size_t stop_count;
  /* Called with each token as it is chosen; 0 ends the text after it. */
  int32_t (*on_token)(const mili_token *token, void *user);
  void *user;
} mili_generate_params;
#define MILI_GENERATE_PARAMS_INIT {sizeof(mili_generate_params), 256, NULL, 0, NULL, NULL}

typedef enum mili_finish {
  MILI_FINISH_STOP = 0,     /* a stop token, which is not handed out */
  MILI_FINISH_LENGTH = 1,   /* max_tokens */
  MILI_FINISH_CONTEXT = 2,  /* the session is full */
  MILI_FINISH_CANCELLED = 3 /* on_token returned 0 */
} mili_finish;

typedef struct mili_generate_result {
  size_t size; /* set by the caller */
  mili_finish finish;
  int64_t prompt_tokens;
  int64_t generated_tokens;
  double prefill_seconds;
  double decode_seconds;
} mili_generate_result;

/* Appends the prompt and chooses tokens until something ends the text. The last token chosen is not in the session yet:
 * append it before another turn. `result` may be NULL. */
MILI_API mili_status mili_generate(mili_session *session, mili_sampler *sampler, const int32_t *prompt, size_t count,
                                   const mili_generate_params *params, mili_generate_result *result);

#ifdef __cplusplus
}
#endif

#endif
