// The assembler of the CUDA toolkit, for `--emit=cubin`. flexc needs it for nothing else: drivers take PTX.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace flexc {

/// ptxas in a folder of $PATH, in $CUDA_HOME/bin or in /usr/local/cuda/bin; empty if it is nowhere.
[[nodiscard]] std::filesystem::path find_ptxas();

/// PTX to a cubin for `target` ("sm_80"). Nothing, with what ptxas said or why it could not be run in `error`, on failure. Also where it says that
/// it waits for each product of wgmma by itself or leaves registers as they are (C75xx): then *error begins with kBadPipeline, and the fault is the kernel's.
inline constexpr std::string_view kBadPipeline = "ptxas breaks the pipeline of the kernel";
[[nodiscard]] std::optional<std::string> assemble(const std::filesystem::path& ptxas, std::string_view target, std::string_view ptx,
                                                  std::string* error);

}  // namespace flexc
