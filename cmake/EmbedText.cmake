# flexc_embed_text(OUTPUT NAMESPACE FUNCTION file...): a C++ source that defines `std::span<const diag::EmbeddedFile> FUNCTION()`, the files in the order given
# (diag/embedded.h). They are read when CMake runs; a change of one makes the build run CMake again.
function(flexc_embed_text output namespace function)
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
  set(text "// Made by CMake.
#include \"diag/embedded.h\"

namespace ${namespace} {
namespace {
${arrays}
constexpr diag::EmbeddedFile kFiles[] = {
${rows}};
}  // namespace
std::span<const diag::EmbeddedFile> ${function}();
std::span<const diag::EmbeddedFile> ${function}() { return kFiles; }
}  // namespace ${namespace}
")
  file(CONFIGURE OUTPUT ${output} CONTENT "${text}" @ONLY)
endfunction()
