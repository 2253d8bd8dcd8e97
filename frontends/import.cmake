# The importers: configurations and architectures to the mili dialect. An architecture is one file in hf/architectures,
# which registers itself.
file(GLOB MILI_ARCHITECTURES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/hf/architectures/*.cpp)
mili_compiler_library(MiliImport
  SOURCES
    import/Config.cpp
    import/GgufConfig.cpp
    import/Import.cpp
    import/ModelBuilder.cpp
    import/RopeScaling.cpp
    ${MILI_ARCHITECTURES}
  DEPENDS MiliIRIncGen
  LIBS mili_model_files)
target_include_directories(MiliImport PUBLIC $<TARGET_PROPERTY:MiliIR,INTERFACE_INCLUDE_DIRECTORIES>)
