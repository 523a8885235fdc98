// IR -> PTX for NVIDIA GPUs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/lowering/describe.h"
#include "ir/ir.h"
#include "runtime/gpu_abi.h"
#include "runtime/kernel.h"

namespace flexc::nvptx {

/// What code is made for. sm_80 runs there and on everything later; sm_90a runs on 9.0 alone.
enum class Arch : uint8_t { Sm80, Sm90a };
inline constexpr Arch kArchs[] = {Arch::Sm80, Arch::Sm90a};
[[nodiscard]] std::string_view name(Arch arch);         // "sm_80"
[[nodiscard]] std::string_view ptx_version(Arch arch);  // "7.0": that of its modules

/// What a kernel is specialised for; everything else is an argument of the launch.
struct Options {
    Arch arch = Arch::Sm80;
    flex::DType dtype = flex::DType::BF16;  // F32, F16, BF16
    int head_dim = 128, v_head_dim = 128;   // the largest D and DV wanted; 1 to 256
    bool allow_tf32 = false;                // F32 only: one tf32 product in place of three
    bool short_queries = false;             // an instance for few query rows (decode): smaller tiles of rows
    bool atomic = false;                    // backward only: sums by floating-point atomics, in an order that differs from launch to launch
    std::string instance = {};              // forward only: the instance of this name, if it fits; then arch and short_queries mean nothing
};

/// One compiled skeleton. The build makes the lists (backend/skeletons/nvptx/instances*.def); options choose by the smallest class that fits.
struct Instance {
    std::string_view name;  // "sm80_bf16_128_128x64"
    Arch arch;
    flex::DType dtype;
    bool tf32;
    int head_dim, v_head_dim;
    int tile_q, tile_k, warps, slots;  // slots: of the ring that tiles of K and V go through
    int map_columns;                   // of the boxes of its tensor maps; 0: it takes none (runtime/gpu_abi.h)
    int shared_bytes;
    std::string_view bitcode;
};
[[nodiscard]] const std::vector<Instance>& instances();
/// The instance that serves the options on devices of `arch`. Where none is made for that architecture (f32 on sm_90a, tiles for few rows), one that runs
/// there. Null if none is large enough.
[[nodiscard]] const Instance* choose(const Options& options);

/// Seconds by phase.
struct Timings {
    double lower = 0;  // IR -> LLVM IR, skeleton linked
    double optimise = 0;
    double codegen = 0;
};

/// One PTX module and what the runtime has to know of it.
struct Image {
    std::string target;
    flex::DType dtype = flex::DType::BF16;
    bool tf32 = false;
    int head_dim = 0, v_head_dim = 0, tile_q = 0, tile_k = 0, threads = 0, shared_bytes = 0;
    int combine_threads = 0, summarise_threads = 0;
    int max_pack = 1, map_columns = 0;
    std::vector<int32_t> summary_flags;
    std::string instance;  // the name of the skeleton's instance
    std::string forward_symbol, combine_symbol, summarise_symbol;
    std::string ptx;
    /// A view in the form that the runtime takes; valid while this lives and does not move.
    [[nodiscard]] flex_gpu_image view() const;
};

/// One backward pass (backend/skeletons/nvptx/backward_instances.def).
struct BackwardInstance {
    std::string_view name;  // "sm80_bf16_128_backward"
    Arch arch;
    flex::DType dtype;
    bool tf32;
    int head_dim, v_head_dim;
    int tile_q, tile_k, query_warps, key_warps;
    int query_shared_bytes, key_shared_bytes;
    std::string_view bitcode;
};
[[nodiscard]] const std::vector<BackwardInstance>& backward_instances();
/// Null if no instance is large enough. Of the options, short_queries and instance mean nothing. All are made for sm_80, and run on every architecture.
[[nodiscard]] const BackwardInstance* choose_backward(const Options& options);

/// One PTX module of a backward pass. A kernel that is not there has an empty symbol.
struct BackwardImage {
    struct Kernel {
        std::string symbol;
        int threads = 0, shared_bytes = 0;
    };
    std::string target;
    flex::DType dtype = flex::DType::BF16;
    bool tf32 = false, atomic = false;
    int head_dim = 0, v_head_dim = 0, tile_q = 0, tile_k = 0;
    std::vector<int32_t> summary_flags;
    Kernel summarise, rows, queries, keys, scale, finish;
    std::string ptx;
    /// A view in the form that the runtime takes; valid while this lives and does not move.
    [[nodiscard]] flex_gpu_backward_image view() const;
};

/// The clauses of an attention that this target lacks, as written. Empty: it can be compiled.
[[nodiscard]] inline std::vector<std::string> unsupported_clauses(const ir::Attention& attention) {
    return codegen::unsupported_clauses(attention, 0);
}

/// The size of the kernels' parameter; more than flex::kGpuParameterLimit cannot be compiled.
[[nodiscard]] size_t parameter_bytes(const ir::Attention& attention, bool backward = false);
/// The same of the forward kernels of an instance, tensor maps included.
[[nodiscard]] size_t parameter_bytes(const ir::Attention& attention, const Instance& instance);

/// Names all that decides the code besides the IR. Part of the cache key. An instance must exist.
[[nodiscard]] std::string target_identity(const Options& options);
[[nodiscard]] std::string backward_identity(const Options& options);

/// The attention must be supported, its parameter within the limit, and an instance must exist (FLEX_CHECK).
[[nodiscard]] Image compile(const ir::Attention& attention, const Options& options, Timings* timings);
/// The same with an instance of one's own: any bitcode that keeps to backend/skeletons/nvptx/hooks.h.
[[nodiscard]] Image compile(const ir::Attention& attention, const Instance& instance, Timings* timings);
/// The backward pass; `attention.gradient` must be set (FLEX_CHECK), and so on as above.
[[nodiscard]] BackwardImage compile_backward(const ir::Attention& attention, const Options& options, Timings* timings);
[[nodiscard]] BackwardImage compile_backward(const ir::Attention& attention, const BackwardInstance& instance, bool atomic,
                                             Timings* timings);

/// For `--emit=llvm`: optimised, skeleton inlined.
[[nodiscard]] std::string emit_llvm(const ir::Attention& attention, const Options& options);
[[nodiscard]] std::string emit_backward_llvm(const ir::Attention& attention, const Options& options);

}  // namespace flexc::nvptx
