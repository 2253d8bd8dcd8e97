# mili_add_lit_suite(area [TOOLS target ...]): the lit tests under tests/<area> as one CTest entry `lit-<area>` with the
# label lit. RUN lines find the built tools, FileCheck, not and split-file on PATH (tests/lit.cfg.py). TOOLS are the
# programs that the suite runs (default: mili-opt); `ninja check-<area>` builds them and runs the suite.
find_program(MILI_LIT NAMES lit llvm-lit HINTS ${LLVM_TOOLS_BINARY_DIR} NO_DEFAULT_PATH)
find_program(MILI_FILECHECK NAMES FileCheck HINTS ${LLVM_TOOLS_BINARY_DIR} NO_DEFAULT_PATH)
if(NOT MILI_LIT OR NOT MILI_FILECHECK)
  message(FATAL_ERROR "lit and FileCheck are missing in ${LLVM_TOOLS_BINARY_DIR}; on Debian: apt-get install llvm-22-tools")
endif()

function(mili_add_lit_suite area)
  cmake_parse_arguments(ARG "" "" "TOOLS" ${ARGN})
  if(NOT ARG_TOOLS)
    set(ARG_TOOLS mili-opt)
  endif()
  set(MILI_LIT_AREA ${area})
  configure_file(${CMAKE_SOURCE_DIR}/tests/lit.site.cfg.py.in ${CMAKE_BINARY_DIR}/tests/${area}/lit.site.cfg.py @ONLY)
  set(command ${MILI_LIT} -v --order=lexical ${CMAKE_BINARY_DIR}/tests/${area})
  add_test(NAME lit-${area} COMMAND ${command})
  set_tests_properties(lit-${area} PROPERTIES LABELS lit TIMEOUT 600)
  add_custom_target(check-${area} COMMAND ${command} DEPENDS ${ARG_TOOLS} USES_TERMINAL)
endfunction()
