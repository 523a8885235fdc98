# flexc_antlr_parser(TARGET GRAMMAR): a static library of the lexer and parser that the ANTLR tool generates from a grammar.
# Debian 12 has the tool 4.7.2 and the C++ runtime 4.9, which work together. The runtime's own CMake package would drag
# in libuuid, so the static library is found by hand.
find_program(ANTLR4_TOOL antlr4)
find_path(ANTLR4_INCLUDE_DIR antlr4-runtime.h PATH_SUFFIXES antlr4-runtime)
find_library(ANTLR4_LIBRARY libantlr4-runtime.a)
find_library(ANTLR4_SHARED_LIBRARY libantlr4-runtime.so)
find_package(Threads REQUIRED)
foreach(needed ANTLR4_TOOL ANTLR4_INCLUDE_DIR ANTLR4_LIBRARY ANTLR4_SHARED_LIBRARY)
  if(NOT ${needed})
    message(FATAL_ERROR "${needed} not found: install the packages antlr4 and libantlr4-runtime-dev")
  endif()
endforeach()

function(flexc_antlr_parser target grammar)
  get_filename_component(name ${grammar} NAME_WE)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/antlr)
  set(sources ${out}/${name}Lexer.cpp ${out}/${name}Parser.cpp)
  add_custom_command(
    OUTPUT ${sources} ${out}/${name}Lexer.h ${out}/${name}Parser.h
    COMMAND ${ANTLR4_TOOL} -Dlanguage=Cpp -no-visitor -no-listener -Werror -Xexact-output-dir -o ${out} ${grammar}
    DEPENDS ${grammar} COMMENT "Generating the parser of ${name}.g4" VERBATIM)
  add_library(${target} STATIC ${sources})
  # The runtime's sources assume that u8"" literals are plain char. Generated code is not held to our warnings.
  target_compile_options(${target} PRIVATE -w -fno-char8_t)
  target_include_directories(${target} SYSTEM PUBLIC ${out} ${ANTLR4_INCLUDE_DIR})
  # Debian's static library is not made for shared ones (its thread-local variables), so libflexc.so needs the shared one.
  target_link_libraries(${target} PUBLIC Threads::Threads
    $<IF:$<STREQUAL:$<TARGET_PROPERTY:TYPE>,SHARED_LIBRARY>,${ANTLR4_SHARED_LIBRARY},${ANTLR4_LIBRARY}>)
endfunction()
