// How much memory this process may still take, asked before much is taken.
#pragma once

#include <cstdint>
#include <string>

namespace flexc::tools {

/// Bytes that the system, or the control group of the process, has left; UINT64_MAX if they do not say.
[[nodiscard]] uint64_t available_memory();
/// "3.2 GiB"
[[nodiscard]] std::string bytes_text(double bytes);

}  // namespace flexc::tools
