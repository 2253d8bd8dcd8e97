// Runs a plan on token ids, from C++: embed-runtime-cpp PLAN MAX_TOKENS ID...
#include "mili/mili.hpp"

#include <cstdio>
#include <cstdlib>
#include <vector>

static int failed(const char *what) {
  std::fprintf(stderr, "%s: %s\n", what, mili_last_error());
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: embed-runtime-cpp PLAN MAX_TOKENS ID...\n");
    return 2;
  }
  std::vector<int32_t> prompt;
  for (int i = 3; i < argc; ++i)
    prompt.push_back(static_cast<int32_t>(std::strtol(argv[i], nullptr, 10)));

  // Handles destroy themselves, in the right order.
  mili::api::Engine engine;
  if (engine.load(argv[1]) != MILI_OK)
    return failed("load");
  mili::api::Session session;
  if (session.create(engine) != MILI_OK)
    return failed("session");
  mili::api::Sampler sampler;
  if (sampler.create(engine) != MILI_OK)
    return failed("sampler");

  mili_generate_params params = MILI_GENERATE_PARAMS_INIT;
  params.max_tokens = std::strtol(argv[2], nullptr, 10);
  params.on_token = [](const mili_token *token, void *) -> int32_t {
    std::printf("%d ", token->token);
    std::fflush(stdout);
    return 1;
  };
  mili_generate_result result{};
  result.size = sizeof result;
  if (session.generate(sampler, prompt, &params, &result) != MILI_OK)
    return failed("generate");
  std::printf("\n%lld tokens after %lld\n", static_cast<long long>(result.generated_tokens),
              static_cast<long long>(result.prompt_tokens));
  return 0;
}
