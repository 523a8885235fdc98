// The files of stdlib/, embedded in the compiler.
#pragma once

#include <span>

#include "diag/embedded.h"

namespace flexc::sema {

[[nodiscard]] std::span<const diag::EmbeddedFile> embedded_files();

}  // namespace flexc::sema
