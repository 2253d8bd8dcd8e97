/* Runs a plan on token ids: embed-runtime PLAN MAX_TOKENS ID... */
#include "mili/mili.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int32_t print_token(const mili_token *token, void *user) {
  (void)user;
  printf("%" PRId32 " ", token->token);
  fflush(stdout);
  return 1;
}

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, mili_last_error());
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: embed-runtime PLAN MAX_TOKENS ID...\n");
    return 2;
  }
  const size_t count = (size_t)argc - 3;
  int32_t *prompt = malloc(count * sizeof *prompt);
  if (!prompt)
    return 1;
  for (size_t i = 0; i < count; ++i)
    prompt[i] = (int32_t)strtol(argv[i + 3], NULL, 10);

  mili_engine *engine = NULL;
  mili_session *session = NULL;
  mili_sampler *sampler = NULL;
  mili_generate_params params = MILI_GENERATE_PARAMS_INIT;
  mili_generate_result result = {.size = sizeof result};
  params.max_tokens = strtol(argv[2], NULL, 10);
  params.on_token = print_token;

  int rc = 0;
  if (mili_engine_load(argv[1], NULL, &engine) != MILI_OK)
    rc = failed("load");
  else if (mili_session_create(engine, &session) != MILI_OK)
    rc = failed("session");
  else if (mili_sampler_create(engine, NULL, &sampler) != MILI_OK)
    rc = failed("sampler");
  else if (mili_generate(session, sampler, prompt, count, &params, &result) != MILI_OK)
    rc = failed("generate");
  else
    printf("\n%" PRId64 " tokens after %" PRId64 ", %.1f a second\n", result.generated_tokens, result.prompt_tokens,
           result.decode_seconds > 0 ? (double)result.generated_tokens / result.decode_seconds : 0.0);

  mili_sampler_destroy(sampler);
  mili_session_destroy(session);
  mili_engine_destroy(engine);
  free(prompt);
  return rc;
}
