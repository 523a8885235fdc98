# What `cmake --install` puts where, for programs that link attentions. find_package(flexc) then gives
#
#   flexc::runtime        the runtime and its headers ("runtime/stream.h"): no LLVM, no ANTLR
#   flex_add_attention()  compiles a .flex file into a target (cmake/FlexAddAttention.cmake)
#   flexc::flexc          the compiler, bin/flexc
#   flexc::compiler       the compiler as a library, libflexc.so and "flexc/flexc.h"
#   FLEXC_EMULATED_DRIVER path of libflexemu_cuda.so, for tests without a GPU: the value of FLEX_CUDA_DRIVER
#
# All but the first only if the compiler was built. The targets have the same names inside of the project.
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
  install(DIRECTORY editors/ DESTINATION ${CMAKE_INSTALL_DATADIR}/flexc/editors)
  # What `flexc completion` prints, where each reader looks for it.
  set(reference ${PROJECT_BINARY_DIR}/reference)
  foreach(page bash:bash-completion/completions/flexc zsh:zsh/site-functions/_flexc fish:fish/vendor_completions.d/flexc.fish man:man/man1/flexc.1)
    string(REPLACE ":" ";" pair ${page})
    list(GET pair 0 kind)
    list(GET pair 1 path)
    get_filename_component(folder ${path} DIRECTORY)
    get_filename_component(file ${path} NAME)
    add_custom_command(OUTPUT ${reference}/${path}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${reference}/${folder}
      COMMAND flexc completion ${kind} > ${reference}/${path} DEPENDS flexc VERBATIM)
    list(APPEND pages ${reference}/${path})
    install(FILES ${reference}/${path} DESTINATION ${CMAKE_INSTALL_DATADIR}/${folder})
  endforeach()
  add_custom_target(flexc_reference ALL DEPENDS ${pages})
  # In a folder of its own: it calls itself libcuda.so.1, and the system's search for libraries must never find it.
  install(TARGETS flexemu_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/flexc)
endif()

install(EXPORT flexc_targets NAMESPACE flexc:: DESTINATION ${package_dir})
file(WRITE ${PROJECT_BINARY_DIR}/flexc-config.cmake [[
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/flexc_targets.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/FlexAddAttention.cmake)
get_filename_component(FLEXC_EMULATED_DRIVER ${CMAKE_CURRENT_LIST_DIR}/../../flexc/libflexemu_cuda.so ABSOLUTE)
if(NOT EXISTS ${FLEXC_EMULATED_DRIVER})
  unset(FLEXC_EMULATED_DRIVER)
endif()
]])
write_basic_package_version_file(flexc-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/flexc-config.cmake ${PROJECT_BINARY_DIR}/flexc-config-version.cmake cmake/FlexAddAttention.cmake
  DESTINATION ${package_dir})
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
