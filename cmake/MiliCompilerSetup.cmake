# MLIR and LLVM, always the shared libraries: static and shared copies side by side break type ids.
find_package(MLIR 22.1 REQUIRED CONFIG HINTS /usr/lib/llvm-22/lib/cmake/mlir)
list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
include(TableGen)
include(AddLLVM)
include(AddMLIR)

add_library(mili_mlir INTERFACE)
target_include_directories(mili_mlir SYSTEM INTERFACE ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
target_compile_options(mili_mlir INTERFACE -fno-rtti)
target_link_libraries(mili_mlir INTERFACE MLIR LLVM mili_options)

# mili_compiler_library(NAME SOURCES ...): objects of libMiliCompiler.so. One shared library holds every
# part of the compiler, so that tools and plugins share one copy of each dialect's type ids.
set_property(GLOBAL PROPERTY MILI_COMPILER_OBJECTS "")
function(mili_compiler_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LIBS" ${ARGN})
  add_library(${name} OBJECT ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC mili_mlir ${ARG_LIBS})
  target_include_directories(${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include ${CMAKE_CURRENT_BINARY_DIR}/include)
  # Everything is exported: plugins register against these classes.
  set_target_properties(${name} PROPERTIES CXX_VISIBILITY_PRESET default VISIBILITY_INLINES_HIDDEN OFF)
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  set_property(GLOBAL APPEND PROPERTY MILI_COMPILER_OBJECTS ${name})
endfunction()

# mili_add_reference(NAME file.td generator ...): docs/NAME.md of the build folder, written by mlir-tblgen from the
# declarations themselves. The target mili-doc writes them all; they are installed, too.
add_custom_target(mili-doc ALL)
function(mili_add_reference name td)
  get_property(directories DIRECTORY PROPERTY INCLUDE_DIRECTORIES)
  list(TRANSFORM directories PREPEND -I)
  set(output ${CMAKE_BINARY_DIR}/docs/${name}.md)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/docs
    COMMAND ${MLIR_TABLEGEN_EXE} ${ARGN} ${directories} ${CMAKE_CURRENT_SOURCE_DIR}/${td} -o ${output}
    DEPENDS ${td} VERBATIM)
  add_custom_target(mili-doc-${name} DEPENDS ${output})
  add_dependencies(mili-doc mili-doc-${name})
endfunction()
