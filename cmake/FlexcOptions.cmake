# Compiler flags shared by all folders, and flexc_layer(): one folder, one static library.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

set(FLEXC_SANITIZE "" CACHE STRING "Sanitizers for our code: address,undefined or thread; empty for none")

find_program(FLEXC_CCACHE ccache)
if(FLEXC_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${FLEXC_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${FLEXC_CCACHE})
endif()

# Warnings are errors in our code; generated and third-party headers are SYSTEM.
add_library(flexc_options INTERFACE)
target_compile_options(flexc_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror)
target_include_directories(flexc_options INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}>)
if(FLEXC_SANITIZE)
  # -fno-sanitize=function: clang checks calls through pointers by type data that JIT-compiled code does not carry.
  set(flexc_sanitize_flags -fsanitize=${FLEXC_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -fno-sanitize=function)
  add_compile_options(${flexc_sanitize_flags})
  add_link_options(${flexc_sanitize_flags})
  if(FLEXC_BUILD_FUZZERS)
    # libFuzzer steers by the branches taken in all of our code, not only in its own target.
    add_compile_options(-fsanitize=fuzzer-no-link)
  endif()
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  find_program(FLEXC_LLD ld.lld-19)
  if(FLEXC_LLD)
    add_link_options(--ld-path=${FLEXC_LLD})
  endif()
endif()
add_compile_options(-ffunction-sections -fdata-sections)
add_link_options(-Wl,--gc-sections)

# flexc_layer(NAME [DEPENDS target...]): a static library of every .cpp of the current folder that is not a test.
function(flexc_layer name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  add_library(${name} STATIC ${sources})
  # The flags are of this build: who uses an installed library does not inherit them.
  target_link_libraries(${name} PUBLIC ${ARG_DEPENDS} PRIVATE $<BUILD_INTERFACE:flexc_options>)
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
endfunction()
