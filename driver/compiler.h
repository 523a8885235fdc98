// The compiler as a library: the linear list of steps from source text to a kernel that can be launched.
// Tools call this and nothing below it. Errors are values: a null result and diagnostics in the sink.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backend/cpu/compile.h"
#include "diag/diagnostic.h"
#include "frontend/frontend.h"
#include "ir/ir.h"
#include "runtime/kernel.h"

namespace flexc {

/// Milliseconds by phase, as `--json` reports them.
struct Phases {
    double parse = 0, check = 0, lower = 0, optimise = 0, codegen = 0, load = 0;
    bool cached = false;
    [[nodiscard]] double total() const { return parse + check + lower + optimise + codegen + load; }
};

struct KernelOptions {
    frontend::ConstValues consts;
    flex::CpuLevel level = flex::host_level();
    bool use_cache = true;
    std::filesystem::path cache_dir;  // empty: $FLEXC_CACHE_DIR, else $XDG_CACHE_HOME/flexc, else ~/.cache/flexc
};

/// A compiled attention, loaded into this process. Immutable and thread-safe.
struct CpuKernel {
    flex::KernelDesc desc;
    std::unique_ptr<cpu::LoadedKernel> code;
};

/// A compilation of one main file: owns the sources, so spans in diagnostics stay meaningful.
class Session {
public:
    Session();
    ~Session();

    diag::SourceManager sources;
    diag::Sink sink;
    Phases phases;

    /// Reads, parses and checks. False if errors were reported.
    bool open(const std::filesystem::path& path);
    bool open_text(std::string name, std::string text, std::vector<diag::SourcePart> parts = {});
    [[nodiscard]] const frontend::Program& program() const;

    /// Chooses the attention: `name`, or the only one of the file if empty. Reports E00xx if there is none or a choice is needed.
    [[nodiscard]] std::optional<std::string> choose(const std::string& name);
    /// Lowered and optimised IR.
    [[nodiscard]] std::optional<ir::Attention> lower(const std::string& attention, const frontend::ConstValues& consts);
    /// Adds the derivatives (ir/gradient.h), optimised: then backward passes can be compiled. False after a report of a clause that has none (E4021).
    /// `after_each` as in ir::optimise; the first is "differentiate".
    bool differentiate(ir::Attention* attention, const std::function<void(std::string_view pass, const ir::Attention&)>& after_each = {});
    /// IR -> loaded native code, through the cache.
    [[nodiscard]] std::unique_ptr<CpuKernel> compile_cpu(const ir::Attention& attention, const KernelOptions& options);

private:
    std::unique_ptr<frontend::Program> program_;
    diag::FileId main_ = 0;
};

}  // namespace flexc
