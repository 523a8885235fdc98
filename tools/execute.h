// From options to a bound, compiled attention, and its launch on the CPU: the steps that run and bench share. tools/gpu.h launches on GPUs.
#pragma once

#include <memory>

#include "driver/gpu_images.h"
#include "runtime/cuda.h"
#include "tools/mask_rows.h"
#include "tools/report.h"

namespace flexc::tools {

struct ExecuteOptions {
    std::string device = "cpu";
    std::optional<flex::DType> dtype;
    std::optional<flex::CpuLevel> level;
    int threads = 0;
    bool no_cache = false;
    std::filesystem::path driver;  // of the devices cuda and emulated
    bool allow_tf32 = false;
};
void add_execute_options(CLI::App& app, ExecuteOptions& options);

/// Everything of one command line that can be launched.
struct Prepared {
    Session session;
    std::optional<Inputs> inputs;
    std::optional<ir::Attention> attention;
    std::unique_ptr<CpuKernel> kernel;      // on the device cpu
    std::unique_ptr<flex::CudaDevice> gpu;  // on cuda and emulated
    std::vector<nvptx::Image> images;       // likewise
    flex::KernelDesc desc;
    Launch launch;
    KernelOptions compile;
};
/// open, choose, lower, bind, compile. False after reports to out->session.
bool prepare(const InputOptions& input, const ExecuteOptions& options, Prepared* out);

/// The level to compile for; nothing, after a report, if this machine cannot execute what was asked for.
[[nodiscard]] std::optional<flex::CpuLevel> usable_level(Session& session, std::optional<flex::CpuLevel> asked);

/// Output arrays of one launch, and the views that go with them.
struct Outputs {
    io::Array o, lse, max_score;
    flex::AttentionArrays arrays;
};
/// False after a report if they are too large.
bool allocate_outputs(Session& session, const Launch& launch, Outputs* out);
/// One launch; milliseconds. Nothing after a report.
std::optional<double> launch_once(Session& session, const CpuKernel& kernel, const Launch& launch, const Outputs& outputs, int threads,
                                  flex::CpuStats* stats);

/// {"B": 1, ...}, free extents included.
[[nodiscard]] Json extents_json(const flex::KernelDesc& desc, const Launch& launch);

}  // namespace flexc::tools
