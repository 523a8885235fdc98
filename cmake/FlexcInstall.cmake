# What `cmake --install` puts where: the compiler as bin/flexc, and what an application needs to link its kernels: the runtime, its
# headers (as "runtime/launch.h"), and a package for find_package(flexc) with the target flexc::runtime. No LLVM, no ANTLR.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/flexc)
set_target_properties(flex_runtime PROPERTIES EXPORT_NAME runtime)
# flexc_options goes along because CMake asks for every target that an exported one names; it passes no flag on.
install(TARGETS flex_runtime flexc_options EXPORT flexc_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flexc)
install(FILES runtime/abi.h runtime/kernel.h runtime/launch.h runtime/status.h runtime/tensor.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flexc/runtime)
install(EXPORT flexc_targets NAMESPACE flexc:: DESTINATION ${package_dir})

file(CONFIGURE OUTPUT flexc-config.cmake @ONLY CONTENT [[
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/flexc_targets.cmake)
]])
write_basic_package_version_file(flexc-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/flexc-config.cmake ${PROJECT_BINARY_DIR}/flexc-config-version.cmake DESTINATION ${package_dir})

if(TARGET flexc)
  install(TARGETS flexc RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
