# For plugins of the compiler; included by find_package(Mili COMPONENTS Compiler).
#
#   mili_add_pass_plugin(NAME SOURCES a.cpp ... [DEPENDS target ...])
#       NAME.so, a plugin for `mili-compile --plugin` and `mili-opt --plugin`. DEPENDS: targets that generate headers, such
#       as those of add_public_tablegen_target().
#   mili_embed(FILE)
#       FILE.inc in the build folder: the file's text as a C++ string literal, for device headers.
#
# Upstream's mlir_tablegen() and add_public_tablegen_target() are there, too; MILI's .td files are found through
# include_directories(${MILI_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS}).
list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
include(TableGen)
include(AddLLVM)
include(AddMLIR)
target_include_directories(Mili::Compiler SYSTEM INTERFACE ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
target_link_libraries(Mili::Compiler INTERFACE nlohmann_json::nlohmann_json)

function(mili_add_pass_plugin name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(${name} MODULE ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE Mili::Compiler)
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_BINARY_DIR})
  # What the compiler does not export is an error here, not when the plugin is loaded.
  target_link_options(${name} PRIVATE LINKER:-z,defs)
  set_target_properties(${name} PROPERTIES PREFIX "")
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
endfunction()

function(mili_embed file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} text)
  file(CONFIGURE OUTPUT ${file}.inc CONTENT "R\"MILI_SOURCE(@text@)MILI_SOURCE\"\n" @ONLY)
endfunction()
