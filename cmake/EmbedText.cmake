# flexc_embed_text(OUTPUT file...): a C++ source that defines embedded_files() of frontend/stdlib.h.
# The files are read when CMake runs; a change of one makes the build run CMake again.
function(flexc_embed_text output)
  set(arrays "")
  set(rows "")
  foreach(file ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(stem ${file} NAME_WE)
    file(READ ${file} hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
    string(APPEND arrays "constexpr char k_${stem}[] = {${bytes}'\\0'};\n")
    string(APPEND rows "    {\"${stem}\", std::string_view(k_${stem}, sizeof(k_${stem}) - 1)},\n")
  endforeach()
  set(text "// Made by CMake from stdlib/.
#include \"frontend/stdlib.h\"

namespace flexc::sema {
namespace {
${arrays}
constexpr EmbeddedFile kFiles[] = {
${rows}};
}  // namespace
std::span<const EmbeddedFile> embedded_files() { return kFiles; }
}  // namespace flexc::sema
")
  file(CONFIGURE OUTPUT ${output} CONTENT "${text}" @ONLY)
endfunction()

# flexc_embed_string(OUTPUT NAMESPACE NAME file...): a C++ source that defines `extern const std::string_view NAME`, the texts of the files one after the other.
function(flexc_embed_string output namespace name)
  set(bytes "")
  foreach(file ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," of_file "${hex}")
    string(APPEND bytes "${of_file}")
  endforeach()
  set(text "// Made by CMake.
#include <string_view>

namespace ${namespace} {
static constexpr char k_text[] = {${bytes}'\\0'};
extern const std::string_view ${name};
const std::string_view ${name}(k_text, sizeof(k_text) - 1);
}  // namespace ${namespace}
")
  file(CONFIGURE OUTPUT ${output} CONTENT "${text}" @ONLY)
endfunction()
