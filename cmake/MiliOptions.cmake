# Warnings and sanitizers shared by every target of the tree.
add_library(mili_options INTERFACE)
target_compile_options(mili_options INTERFACE -Wall -Wextra -Wno-unused-parameter)
if(MILI_SANITIZE)
  add_compile_options(-fsanitize=${MILI_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=${MILI_SANITIZE})
endif()

# mili_add_test(NAME name SOURCES a.cpp ... [LIBS lib ...] [LABELS l ...])
# One GoogleTest program; its tests run with the working directory tests/data of the source tree.
function(mili_add_test)
  cmake_parse_arguments(ARG "" "NAME" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_LIBS} GTest::gtest GTest::gmock GTest::gtest_main mili_options)
  target_compile_definitions(${ARG_NAME} PRIVATE MILI_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")
  gtest_discover_tests(${ARG_NAME} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}/tests/data
    DISCOVERY_TIMEOUT 60)
  # gtest_discover_tests takes no property whose value is a list, so labels are set once the tests are known.
  set(labels_file ${CMAKE_CURRENT_BINARY_DIR}/${ARG_NAME}_labels.cmake)
  file(WRITE ${labels_file}
    "foreach(test IN LISTS ${ARG_NAME}_TESTS)\n  set_tests_properties(\"\${test}\" PROPERTIES LABELS \"unit;${ARG_LABELS}\")\nendforeach()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${labels_file})
endfunction()
