// Files of the repository that travel inside the compiler. The tables are made by the build (cmake/EmbedText.cmake).
#pragma once

#include <span>
#include <string_view>

namespace flexc::diag {

struct EmbeddedFile {
    std::string_view name;  // the file's stem: `std`
    std::string_view text;
};

}  // namespace flexc::diag
