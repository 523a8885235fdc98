// The assembler of the CUDA toolkit, for `--emit=cubin` and for what only it knows of a kernel: registers and spills. flexc needs it for nothing else: drivers take PTX.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flexc {

/// $FLEXC_PTXAS (`none`: there is none), else ptxas in a folder of $PATH, in $CUDA_HOME/bin or in /usr/local/cuda/bin; empty if it is nowhere.
[[nodiscard]] std::filesystem::path find_ptxas();

/// PTX to a cubin for `target` ("sm_80"). Nothing, with what ptxas said or why it could not be run in `error`, on failure. Also where it says that
/// it waits for each product of wgmma by itself or leaves registers as they are (C75xx): then *error begins with kBadPipeline, and the fault is the kernel's.
inline constexpr std::string_view kBadPipeline = "ptxas breaks the pipeline of the kernel";
[[nodiscard]] std::optional<std::string> assemble(const std::filesystem::path& ptxas, std::string_view target, std::string_view ptx,
                                                  std::string* error);

/// What ptxas -v says of one kernel.
struct KernelResources {
    std::string kernel;
    int registers = 0;                                                    // of a thread
    int spill_stores = 0, spill_loads = 0, stack = 0, static_shared = 0;  // bytes
};

/// Assembles for `target` and throws the code away. Answers are kept in `cache_dir`, unless it is empty. Nothing, with the reason in `error`, on failure or after `seconds`.
[[nodiscard]] std::optional<std::vector<KernelResources>> kernel_resources(const std::filesystem::path& ptxas, std::string_view target,
                                                                           std::string_view ptx, double seconds,
                                                                           const std::filesystem::path& cache_dir, std::string* error);

/// The parser of that.
[[nodiscard]] std::vector<KernelResources> parse_resources(std::string_view messages);

}  // namespace flexc
