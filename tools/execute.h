// From options to a bound, compiled attention, and its launch on the CPU: the steps that run and bench share. tools/gpu.h launches on GPUs.
#pragma once

#include <functional>
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
    bool atomic = false;
    std::string instance;  // of the kernels for GPUs
};
void add_execute_options(CLI::App& app, ExecuteOptions& options);

/// Everything of one command line that can be launched.
struct Prepared {
    Session session;
    std::optional<Inputs> inputs;
    frontend::ConstValues consts;
    std::optional<ir::Attention> attention;  // with derivatives, if the backward pass is wanted
    bool backward = false;
    std::unique_ptr<CpuKernel> kernel;      // on the device cpu
    std::unique_ptr<flex::CudaDevice> gpu;  // on cuda and emulated
    std::vector<nvptx::Image> images;       // likewise
    std::vector<nvptx::BackwardImage> backward_images;
    flex::KernelDesc desc;
    Launch launch;
    KernelOptions compile;
};
/// Opens the device and the file, chooses, loads, lowers. False after reports to out->session.
bool open_attention(const InputOptions& input, const ExecuteOptions& options, Prepared* out);
/// Binds and compiles what is open, with the backward pass or without. False after reports.
bool prepare(const ExecuteOptions& options, bool backward, Prepared* out);

/// The level to compile for; nothing, after a report, if this machine cannot execute what was asked for.
[[nodiscard]] std::optional<flex::CpuLevel> usable_level(Session& session, std::optional<flex::CpuLevel> asked);

/// Output arrays of one launch, and the views that go with them.
struct Outputs {
    io::Array o, lse, max_score;
    flex::AttentionArrays arrays;
    io::Array dq, dk, dv;            // of a backward pass, as all below
    std::deque<io::Array> d_params;  // one for each of gradients.d_params
    flex::GradientArrays gradients;
};
/// False after a report if they are too large.
bool allocate_outputs(Session& session, const Launch& launch, Outputs* out);
/// dq, dk, dv, and d_NAME of every `grad` parameter, or of those that are among `wanted` unless that is empty.
bool allocate_gradients(Session& session, const Prepared& prepared, const std::vector<std::string>& wanted, Outputs* out);

/// One launch; milliseconds. Nothing after a report.
std::optional<double> launch_once(Session& session, const CpuKernel& kernel, const Launch& launch, const Outputs& outputs, int threads,
                                  flex::CpuStats* stats, flex::CpuProgress* progress = nullptr);
/// One launch of the backward pass, which reads what the forward pass left in `outputs`.
std::optional<double> launch_backward_once(Session& session, const CpuKernel& kernel, const Launch& launch, const Outputs& outputs,
                                           int threads, flex::CpuStats* stats, flex::CpuProgress* progress = nullptr);

/// How much of it is done, for a step of Progress. `progress` must outlive it.
[[nodiscard]] std::function<double()> share_of(const flex::CpuProgress& progress);

/// {"B": 1, ...}, free extents included.
[[nodiscard]] Json extents_json(const flex::KernelDesc& desc, const Launch& launch);

}  // namespace flexc::tools
