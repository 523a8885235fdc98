// The engines under test, behind one call each: a compiled variant, inputs in float64 that their type represents exactly,
// and results widened to float64.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/nvptx/compile.h"
#include "driver/compiler.h"
#include "tests/numerics/case.h"

namespace numerics {

class Gpu;
class GpuProgram;
struct GpuSettings;

/// The value that a float type stores for x (round to nearest even).
[[nodiscard]] double rounded(flex::DType type, double x);
/// Random normal q, k and v that `type` represents exactly.
[[nodiscard]] Inputs random_inputs(Random& random, const Shape& shape, flex::DType type);

struct Result {
    std::vector<double> o, lse, max_score;
    flex::CpuStats stats;
    std::string error;  // not empty: nothing was computed
};

/// How q, k, v and o lie in memory. All mean the same attention.
enum class Layout : uint8_t {
    Dense,
    HeadsInner,  // [B, Q, H, D] memory, as models keep it
    Padded,      // rows and heads with gaps (filled with NaN), batches and heads in reverse order (negative strides)
};

/// A variant, checked and lowered; native code for a level is made on demand.
class Program {
public:
    Program();
    ~Program();
    /// Null after printing the diagnostics. `name_or_path` ends in .flex: a file; else the label of `text`.
    static std::unique_ptr<Program> open(const std::string& name_or_path, const std::string& text,
                                         const std::map<std::string, std::string>& consts, bool show_warnings = true);

    [[nodiscard]] const flex::KernelDesc& desc() const { return desc_; }
    /// Whether the target has all of the clauses: else `run`, or `run_gpu`, would refuse.
    [[nodiscard]] bool runs_on_cpu() const { return flexc::cpu::unsupported_clauses(*attention_).empty(); }
    [[nodiscard]] bool runs_on_gpu() const { return flexc::nvptx::unsupported_clauses(*attention_).empty(); }

    [[nodiscard]] Result interpret(const Inputs& in, const std::vector<Captured>& captured) const;
    /// Mask and score of the program as the interpreter evaluates them, point by point, before any pass has changed the IR.
    /// The functions refer to this program, and are not for several threads.
    [[nodiscard]] Variant unoptimised(const Inputs& in, const std::vector<Captured>& captured, std::string* error) const;
    [[nodiscard]] Result run(flex::CpuLevel level, flex::DType type, const Inputs& in, const std::vector<Captured>& captured,
                             Layout layout = Layout::Dense, int threads = 0);
    [[nodiscard]] Result run_gpu(Gpu& gpu, const GpuSettings& settings, flex::DType type, const Inputs& in,
                                 const std::vector<Captured>& captured, Layout layout = Layout::Dense);

private:
    flexc::Session session_;
    std::optional<flexc::ir::Attention> attention_;
    std::optional<flexc::ir::Attention> as_lowered_;  // before the passes
    flex::KernelDesc desc_;
    std::map<flex::CpuLevel, std::unique_ptr<flexc::CpuKernel>> kernels_;
    std::unique_ptr<GpuProgram> gpu_;
};

/// Every level that this machine can execute.
[[nodiscard]] std::vector<flex::CpuLevel> levels();

}  // namespace numerics
