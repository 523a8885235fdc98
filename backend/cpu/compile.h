// IR -> native code for the machine at hand, or an object file for a level.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/lowering/describe.h"
#include "ir/ir.h"
#include "runtime/launch.h"

namespace flexc::cpu {

struct Options {
    flex::CpuLevel level = flex::host_level();
};

/// Seconds by phase.
struct Timings {
    double lower = 0;  // IR -> LLVM IR, skeleton linked
    double optimise = 0;
    double codegen = 0;
};

using codegen::describe;
inline constexpr uint32_t kClauses = codegen::kNormalize | codegen::kSink | codegen::kQuery | codegen::kKey | codegen::kOutput;

/// The clauses of an attention that this target lacks, as written. Empty: it can be compiled.
[[nodiscard]] inline std::vector<std::string> unsupported_clauses(const ir::Attention& attention) {
    return codegen::unsupported_clauses(attention, kClauses);
}

/// Names all that decides the code for these options besides the IR: level and, where code is tuned for it, the host's CPU. Part of the cache key.
[[nodiscard]] std::string target_identity(const Options& options);

/// A relocatable ELF object that defines `flex_cpu_kernel_NAME` and needs no symbol from outside. The attention must be
/// supported (FLEX_CHECK). The same for the JIT, the cache and ahead-of-time builds.
[[nodiscard]] std::vector<char> compile_object(const ir::Attention& attention, const Options& options, Timings* timings);

/// For `--emit=llvm` (optimised, skeleton inlined) and `--emit=asm`.
[[nodiscard]] std::string emit_llvm(const ir::Attention& attention, const Options& options);
[[nodiscard]] std::string emit_asm(const ir::Attention& attention, const Options& options);

/// Code loaded into this process. Unloaded on destruction.
class LoadedKernel {
public:
    virtual ~LoadedKernel() = default;
    [[nodiscard]] virtual const flex_cpu_kernel& table() const = 0;
};
/// Links and loads what compile_object made. Null with a message if the object is damaged (a broken cache entry).
[[nodiscard]] std::unique_ptr<LoadedKernel> load_object(const std::string& kernel_name, std::vector<char> object, std::string* error);

}  // namespace flexc::cpu
