# The engine: plan, device, engine, sessions, sampling. mili_core is the C++ library that tools and tests link
# statically; libmili.so carries the C API alone (include/mili/mili.h).
add_library(mili_core STATIC
  src/cpu_device.cc
  src/cpu_features.cc
  src/device.cc
  src/engine.cc
  src/generator.cc
  src/plan.cc
  src/plan_verify.cc
  src/sampling.cc
  src/session.cc
  src/thread_pool.cc)
target_include_directories(mili_core PUBLIC include PRIVATE src)
target_link_libraries(mili_core PUBLIC mili_base mili_schema Threads::Threads ${CMAKE_DL_LIBS} PRIVATE mili_options)
