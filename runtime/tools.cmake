# The command-line tools. They need CLI11, fmt and nlohmann_json (all header-only here); without those the libraries are
# built alone.
find_package(CLI11 QUIET)
find_package(fmt QUIET)
find_package(nlohmann_json 3.11 QUIET)
if(NOT CLI11_FOUND OR NOT fmt_FOUND OR NOT nlohmann_json_FOUND)
  message(STATUS "runtime tools: left out; on Debian: apt-get install libcli11-dev libfmt-dev nlohmann-json3-dev")
  return()
endif()

add_library(mili_tool_support STATIC tools/tool_support.cc)
target_include_directories(mili_tool_support PUBLIC tools)
target_link_libraries(mili_tool_support PUBLIC mili_base CLI11::CLI11 fmt::fmt-header-only nlohmann_json::nlohmann_json
  Threads::Threads mili_options)
target_compile_definitions(mili_tool_support PUBLIC MILI_VERSION="${PROJECT_VERSION}")

add_library(mili_tool_profile STATIC tools/profile.cc)
target_link_libraries(mili_tool_profile PUBLIC mili_tool_support mili_core)

foreach(tool run plan bench)
  add_executable(mili-${tool} tools/mili_${tool}.cc $<$<STREQUAL:${tool},plan>:tools/plan_diff.cc>)
  target_link_libraries(mili-${tool} PRIVATE mili_tool_support mili_core)
endforeach()
target_link_libraries(mili-run PRIVATE mili_tool_profile mili_text)
target_link_libraries(mili-bench PRIVATE mili_tool_profile)
