# What `cmake --install` and CPack put where. Three components, which are also the Debian packages:
#
#   runtime    libmili.so.*, libmili-text.so.*, mili-run, mili-plan, mili-bench           mili-runtime
#   compiler   libMiliCompiler.so.*, mili-compile, mili-opt                               mili-compiler
#   dev        headers, TableGen files, static engine, CMake package, examples, docs      libmili-dev
#
# A build without the compiler installs the same without what is the compiler's.
include(CMakePackageConfigHelpers)
set(package_dir lib/cmake/Mili)
set(sources_only FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp" PATTERN "*.def" PATTERN "*.td" PATTERN "*.inc"
  PATTERN CMakeFiles EXCLUDE PATTERN CMakeLists.txt EXCLUDE)

#---- Runtime ------------------------------------------------------------------
set_target_properties(mili PROPERTIES EXPORT_NAME Runtime)
set_target_properties(mili_text_shared PROPERTIES EXPORT_NAME Text)
set_target_properties(mili_core PROPERTIES EXPORT_NAME Engine)
set_target_properties(mili_text PROPERTIES EXPORT_NAME Tokenizer)
set_target_properties(mili_base PROPERTIES EXPORT_NAME Base)
set_target_properties(mili_nvrtc PROPERTIES EXPORT_NAME Nvrtc)
install(TARGETS mili mili_text_shared mili_core mili_text mili_base mili_nvrtc EXPORT MiliRuntimeTargets
  LIBRARY DESTINATION lib COMPONENT runtime NAMELINK_COMPONENT dev
  ARCHIVE DESTINATION lib COMPONENT dev
  INCLUDES DESTINATION include)
foreach(tool mili-run mili-plan mili-bench)
  if(TARGET ${tool})
    install(TARGETS ${tool} RUNTIME DESTINATION bin COMPONENT runtime)
  endif()
endforeach()
install(DIRECTORY runtime/include/mili DESTINATION include COMPONENT dev ${sources_only})
install(DIRECTORY ${MILI_SCHEMA_INCLUDE}/mili DESTINATION include COMPONENT dev ${sources_only})
install(DIRECTORY runtime/schema/ DESTINATION share/mili/schema COMPONENT dev FILES_MATCHING PATTERN "*.fbs")
install(EXPORT MiliRuntimeTargets NAMESPACE Mili:: DESTINATION ${package_dir} COMPONENT dev)

#---- Compiler -----------------------------------------------------------------
if(MILI_BUILD_COMPILER)
  set_target_properties(MiliCompiler PROPERTIES EXPORT_NAME Compiler)
  install(TARGETS MiliCompiler EXPORT MiliCompilerTargets
    LIBRARY DESTINATION lib COMPONENT compiler NAMELINK_COMPONENT dev INCLUDES DESTINATION include)
  install(TARGETS mili-compile mili-opt RUNTIME DESTINATION bin COMPONENT compiler)
  foreach(part ir passes codegen compiler)
    install(DIRECTORY ${part}/include/mili ${PROJECT_BINARY_DIR}/${part}/include/mili DESTINATION include COMPONENT dev
      ${sources_only})
  endforeach()
  install(DIRECTORY frontends/include/mili DESTINATION include COMPONENT dev ${sources_only})
  install(DIRECTORY codegen/device/mili DESTINATION share/mili/device COMPONENT dev FILES_MATCHING PATTERN "*.cuh")
  install(EXPORT MiliCompilerTargets NAMESPACE Mili:: DESTINATION ${package_dir} COMPONENT dev)
  install(DIRECTORY ${PROJECT_BINARY_DIR}/docs/ DESTINATION share/doc/mili/reference COMPONENT dev)
  install(FILES cmake/MiliPlugin.cmake DESTINATION ${package_dir} COMPONENT dev)
endif()

#---- CMake package, examples, documentation -------------------------------------
configure_package_config_file(cmake/MiliConfig.cmake.in ${PROJECT_BINARY_DIR}/MiliConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 every minor version may change interfaces.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/MiliConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/MiliConfig.cmake ${PROJECT_BINARY_DIR}/MiliConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT dev)
install(DIRECTORY examples/ DESTINATION share/mili/examples COMPONENT dev PATTERN build EXCLUDE)
install(DIRECTORY docs/ DESTINATION share/doc/mili COMPONENT dev)

#---- Debian packages: cpack --config build/release/CPackConfig.cmake -----------------
set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL runtime dev)
set(CPACK_PACKAGE_NAME mili)
set(CPACK_PACKAGE_VENDOR MILI)
set(CPACK_PACKAGE_CONTACT "MILI <mili@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/lib)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME mili-runtime)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION science)
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "Runs transformer models compiled by MILI
 The library libmili.so with its C API, and the tools mili-run, mili-plan and
 mili-bench. Needs neither LLVM nor CUDA; a GPU's driver is opened when there.")
set(CPACK_DEBIAN_DEV_PACKAGE_NAME libmili-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_DEV_DESCRIPTION "Headers and CMake package of MILI
 For programs that embed the runtime (C and C++), and for plugins of the
 compiler: passes, kernels, architectures. With examples and a tutorial.")
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "mili-runtime (= ${PROJECT_VERSION})")
if(MILI_BUILD_COMPILER)
  list(APPEND CPACK_COMPONENTS_ALL compiler)
  set(CPACK_DEBIAN_COMPILER_PACKAGE_NAME mili-compiler)
  set(CPACK_DEBIAN_COMPILER_PACKAGE_SECTION devel)
  set(CPACK_DEBIAN_COMPILER_PACKAGE_DEPENDS "lld-22")  # run to link the host objects of plans
  set(CPACK_DEBIAN_COMPILER_PACKAGE_RECOMMENDS "mili-runtime (= ${PROJECT_VERSION})")
  set(CPACK_DEBIAN_COMPILER_DESCRIPTION "Compiles transformer models to plans for MILI's runtime
 mili-compile turns a GGUF file or a Hugging Face folder into a plan; mili-opt
 runs single passes. Both load plugins.")
  # What plugins are built with; a program that embeds the runtime needs none of it.
  set(CPACK_DEBIAN_DEV_PACKAGE_RECOMMENDS "mili-compiler (= ${PROJECT_VERSION}), g++, cmake, ninja-build | make, \
libmlir-22-dev, mlir-22-tools, llvm-22-dev, llvm-22-tools, nlohmann-json3-dev")
endif()
include(CPack)
