# What `cmake --install` puts where, for programs that link attentions. find_package(flexc) then gives
#
#   flexc::runtime        the runtime and its headers ("runtime/stream.h"): no LLVM, no ANTLR
#   flex_add_attention()  compiles a .flex file into a target (cmake/FlexAddAttention.cmake)
#   flexc::flexc          the compiler, bin/flexc
#   flexc::compiler       the compiler as a library, libflexc.so and "flexc/flexc.h"
#
# The last three only if the compiler was built. The same names serve inside of the project.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
include(FlexAddAttention)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/flexc)
set(header_dir ${CMAKE_INSTALL_INCLUDEDIR}/flexc)
set_target_properties(flex_runtime PROPERTIES EXPORT_NAME runtime)
target_compile_features(flex_runtime INTERFACE cxx_std_17)
add_library(flexc::runtime ALIAS flex_runtime)
# flexc_options goes along because CMake asks for every target that an exported one names; it passes no flag on.
install(TARGETS flex_runtime flexc_options EXPORT flexc_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${header_dir})
set(headers abi cuda gpu_abi gpu_layout kernel launch linked status stream tensor)
list(TRANSFORM headers REPLACE "(.+)" "runtime/\\1.h")
install(FILES ${headers} DESTINATION ${header_dir}/runtime)

if(TARGET flexc)
  add_executable(flexc::flexc ALIAS flexc)
  add_library(flexc::compiler ALIAS flexc_compiler)
  install(TARGETS flexc EXPORT flexc_targets RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(TARGETS flexc_compiler EXPORT flexc_targets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${header_dir})
  install(FILES flexc/flexc.h DESTINATION ${header_dir}/flexc)
endif()

install(EXPORT flexc_targets NAMESPACE flexc:: DESTINATION ${package_dir})
file(CONFIGURE OUTPUT flexc-config.cmake @ONLY CONTENT [[
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/flexc_targets.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/FlexAddAttention.cmake)
]])
write_basic_package_version_file(flexc-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/flexc-config.cmake ${PROJECT_BINARY_DIR}/flexc-config-version.cmake cmake/FlexAddAttention.cmake
  DESTINATION ${package_dir})
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
