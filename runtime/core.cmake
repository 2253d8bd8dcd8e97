# mili_nvrtc: CUDA source to images, shared with the compiler.
#
# The engine: plan, device, engine, sessions, sampling. mili_core is the C++ library that tools and tests link
# statically; libmili.so carries the C API alone (include/mili/mili.h).
add_library(mili_nvrtc STATIC src/cuda/cuda_api.cc src/cuda/kernel_compiler.cc)
target_include_directories(mili_nvrtc PUBLIC ${MILI_PUBLIC_INCLUDE} $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/src>)
target_link_libraries(mili_nvrtc PUBLIC mili_base Threads::Threads ${CMAKE_DL_LIBS} PRIVATE $<BUILD_INTERFACE:mili_options>)

add_library(mili_core STATIC
  src/cpu_device.cc
  src/cpu_features.cc
  src/cuda/cuda_device.cc
  src/cuda/kernel_loader.cc
  src/cuda/matrix_product.cc
  src/device.cc
  src/engine.cc
  src/generator.cc
  src/plan.cc
  src/plan_verify.cc
  src/sampling.cc
  src/session.cc
  src/thread_pool.cc
  src/work.cc)
target_include_directories(mili_core PUBLIC ${MILI_PUBLIC_INCLUDE} PRIVATE src)
target_link_libraries(mili_core PUBLIC mili_base mili_nvrtc $<BUILD_INTERFACE:mili_schema> Threads::Threads ${CMAKE_DL_LIBS}
  PRIVATE $<BUILD_INTERFACE:mili_options>)

# libmili.so: the C API, nothing else is exported. Code behind it is whatever of mili_core it reaches.
add_library(mili SHARED src/c_api.cc)
target_compile_definitions(mili PRIVATE MILI_VERSION="${PROJECT_VERSION}")
target_include_directories(mili PUBLIC ${MILI_PUBLIC_INCLUDE})
target_link_libraries(mili PRIVATE mili_core mili_options)
target_link_options(mili PRIVATE LINKER:--exclude-libs,ALL LINKER:--gc-sections LINKER:--no-undefined)
set_target_properties(mili PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0)

# libmili-text.so: tokenizer and chat template behind mili_text.h, for programs that do not bring token ids.
add_library(mili_text_shared SHARED src/text_c_api.cc)
target_include_directories(mili_text_shared PUBLIC ${MILI_PUBLIC_INCLUDE})
target_link_libraries(mili_text_shared PRIVATE mili_text mili_options)
target_link_options(mili_text_shared PRIVATE LINKER:--exclude-libs,ALL LINKER:--gc-sections LINKER:--no-undefined)
set_target_properties(mili_text_shared PROPERTIES OUTPUT_NAME mili-text VERSION ${PROJECT_VERSION} SOVERSION 0)
