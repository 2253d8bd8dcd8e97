// Says so when any of its code runs.
#include "mili/Compiler/Plugin.h"

#include <cstdio>

#ifdef OTHER_LLVM
#undef LLVM_VERSION_STRING
#define LLVM_VERSION_STRING "21.1.0"
#endif

static const int kInitialized = std::fprintf(stderr, "static initializers of the plugin ran\n");

MILI_PLUGIN("version-test", registration) {
  std::fprintf(stderr, "the plugin registers\n");
#ifdef WRONG_NAMES
  registration.addToPipeline("after-pack", {});
#endif
}
