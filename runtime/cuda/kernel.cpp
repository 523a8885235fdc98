// CudaKernel: checks, plan, and the launches on the caller's stream.
#include <array>
#include <new>
#include <utility>

#include "runtime/cuda.h"
#include "runtime/cuda/backward_plan.h"
#include "runtime/cuda/driver.h"
#include "runtime/cuda/modules.h"
#include "runtime/cuda/plan.h"
#include "runtime/cuda/tensor_maps.h"

namespace flex {

namespace {

constexpr unsigned kSummaryFill = 0x7fffffff;  // of records before NAME_summarise
constexpr uintptr_t kWorkspaceAlignment = 16;

Status no_memory() {
    return Status(Code::OutOfMemory, "no host memory");
}

/// What kernels add to and, where nothing is to be computed, the gradients themselves.
Status fill_zeros(const cuda::Driver& driver, const cuda::BackwardProblem& problem, const cuda::BackwardPlan& plan,
                  const CudaOptions& options) {
    const auto stream = static_cast<cuda::Stream>(options.stream);
    const auto fill = [&](uint64_t to, size_t words) {
        return words == 0 ? Status() : driver.check(driver.fill_async(to, 0, words, stream), "cuMemsetD32Async");
    };
    Status status = fill(reinterpret_cast<uint64_t>(options.workspace) + plan.zeros, plan.zero_words);
    for (const cuda::GradientPlan& gradient : plan.gradients)
        if (status.ok()) status = fill(gradient.data, static_cast<size_t>(gradient.count));
    if (!problem.is_zero()) return status;
    for (const Tensor* each : {&problem.gradients.dq, &problem.gradients.dk, &problem.gradients.dv})
        for (const cuda::ZeroFill& rows : cuda::zero_fills(*each))
            if (status.ok())
                status =
                    driver.check(driver.fill_rows_async(rows.to, rows.pitch, 0, rows.width, rows.height, stream), "cuMemsetD2D16Async");
    return status;
}

}  // namespace

struct CudaKernel::State {
    KernelDesc desc;
    std::vector<const flex_gpu_image*> images;
    std::vector<const flex_gpu_backward_image*> backward_images;
    cuda::Modules modules;

    Status open(const cuda::Driver** driver, cuda::DeviceFacts* facts);
    Status prepare(const CudaOptions& options, const cuda::Driver** driver, cuda::Problem* problem, cuda::Plan* plan);
    Status prepare(const CudaOptions& options, const cuda::Driver** driver, cuda::BackwardProblem* problem, cuda::BackwardPlan* plan);
    Status check_workspace(const CudaOptions& options, size_t bytes, const char* which) const;
    Status enqueue(const cuda::Driver& driver, const CudaOptions& options, const cuda::ModuleSource& source,
                   const cuda::SummaryPlan& summaries, const std::array<cuda::Grid, cuda::ModuleSource::kMostKernels>& grids,
                   std::vector<unsigned char>& parameter, flex_gpu_tensors* tensors = nullptr);
};

Status CudaKernel::State::open(const cuda::Driver** driver, cuda::DeviceFacts* facts) {
    Status status;
    *driver = cuda::driver(&status);
    return *driver ? modules.device(**driver, facts) : status;
}

Status CudaKernel::State::prepare(const CudaOptions& options, const cuda::Driver** driver, cuda::Problem* problem, cuda::Plan* plan) {
    cuda::DeviceFacts facts;
    Status status = bind(desc, problem->arrays, problem->args, &problem->extents);
    if (status.ok()) status = cuda::check_alignment(problem->arrays, problem->args);
    if (status.ok()) status = open(driver, &facts);
    if (status.ok()) status = cuda::choose_image(*problem, options, facts, images.data(), images.size(), &plan->image);
    if (status.ok()) status = cuda::make_plan(*problem, options, facts, plan);
    return status;
}

Status CudaKernel::State::prepare(const CudaOptions& options, const cuda::Driver** driver, cuda::BackwardProblem* problem,
                                  cuda::BackwardPlan* plan) {
    cuda::DeviceFacts facts;
    Status status = bind(desc, problem->arrays, problem->args, &problem->extents);
    if (status.ok()) status = bind_gradients(desc, problem->arrays, problem->gradients, problem->extents);
    if (status.ok()) status = cuda::check_alignment(problem->arrays, problem->args);
    if (status.ok()) status = cuda::check_alignment(problem->gradients);
    if (status.ok()) status = open(driver, &facts);
    if (status.ok())
        status = cuda::choose_backward_image(*problem, options, facts, backward_images.data(), backward_images.size(), &plan->image);
    if (status.ok()) status = cuda::make_backward_plan(*problem, plan);
    return status;
}

Status CudaKernel::State::check_workspace(const CudaOptions& options, size_t bytes, const char* which) const {
    if (bytes == 0) return {};
    if (options.workspace_bytes < bytes || !options.workspace)
        return Status(Code::OutOfMemory, "this launch of `" + desc.name + "` needs a workspace of " + std::to_string(bytes) +
                                             " bytes, got " + std::to_string(options.workspace ? options.workspace_bytes : 0) +
                                             "; flex::CudaKernel::" + which + " tells the size");
    if (reinterpret_cast<uintptr_t>(options.workspace) % kWorkspaceAlignment != 0)
        return Status(Code::InvalidArgument, "the workspace must begin at a multiple of 16 bytes");
    return {};
}

/// The summaries' fill, then the kernels of `source` that have a grid. `tensors`: the second parameter of those that take one.
Status CudaKernel::State::enqueue(const cuda::Driver& driver, const CudaOptions& options, const cuda::ModuleSource& source,
                                  const cuda::SummaryPlan& summaries, const std::array<cuda::Grid, cuda::ModuleSource::kMostKernels>& grids,
                                  std::vector<unsigned char>& parameter, flex_gpu_tensors* tensors) {
    const cuda::LoadedImage* loaded = nullptr;
    if (Status status = modules.load(driver, source, &loaded); !status.ok()) return status;
    const auto stream = static_cast<cuda::Stream>(options.stream);
    if (tensors && tensors->next_work)
        if (Status status = driver.check(driver.fill_async(tensors->next_work, 0, 1, stream), "cuMemsetD32Async"); !status.ok())
            return status;
    if (summaries.words > 0) {
        const auto workspace = reinterpret_cast<cuda::Address>(options.workspace);
        if (Status status = driver.check(driver.fill_async(workspace, kSummaryFill, summaries.words, stream), "cuMemsetD32Async");
            !status.ok())
            return status;
    }
    for (size_t i = 0; i < grids.size(); ++i) {
        const cuda::Grid& grid = grids[i];
        if (grid.x == 0) continue;
        const flex_gpu_kernel& kernel = *source.kernels[i];
        void* parameters[] = {parameter.data(), tensors};  // a driver reads as many as the kernel has
        const int result = driver.launch_kernel(loaded->functions[i], grid.x, grid.y, grid.z, static_cast<unsigned>(kernel.threads), 1, 1,
                                                static_cast<unsigned>(kernel.shared_bytes), stream, parameters, nullptr);
        if (Status status = driver.check(result, "cuLaunchKernel"); !status.ok())
            return Status(status.code(), status.text() + " in `" + kernel.symbol + "`");
    }
    return {};
}

CudaKernel::CudaKernel(KernelDesc desc, const flex_gpu_image* const* images, size_t image_count,
                       const flex_gpu_backward_image* const* backward_images, size_t backward_image_count)
    : state_(new State) {
    state_->desc = std::move(desc);
    state_->images.assign(images, images + image_count);
    state_->backward_images.assign(backward_images, backward_images + backward_image_count);
}

CudaKernel::~CudaKernel() = default;

const KernelDesc& CudaKernel::desc() const {
    return state_->desc;
}

Status CudaKernel::plan(const AttentionArrays& arrays, const std::vector<Argument>& args, const CudaOptions& options, CudaPlan* out) const {
    try {
        *out = {};
        const cuda::Driver* driver = nullptr;
        cuda::Problem problem{state_->desc, arrays, args, {}};
        cuda::Plan plan;
        if (Status status = state_->prepare(options, &driver, &problem, &plan); !status.ok()) return status;
        out->image = plan.image;
        out->splits = static_cast<int>(plan.splits);
        out->pack = static_cast<int>(plan.pack);
        out->blocks = static_cast<int64_t>(plan.forward.x) * plan.forward.y;
        cuda::MapRequests requests;
        out->mapped = cuda::takes_maps(*plan.image) && !problem.is_empty() && cuda::map_requests(problem, plan, &requests);
        out->workspace_bytes = plan.workspace_bytes;
        return {};
    } catch (const std::bad_alloc&) {
        return no_memory();
    }
}

Status CudaKernel::workspace(const AttentionArrays& arrays, const std::vector<Argument>& args, const CudaOptions& options,
                             size_t* bytes) const {
    CudaPlan found;
    Status status = plan(arrays, args, options, &found);
    *bytes = found.workspace_bytes;
    return status;
}

Status CudaKernel::launch(const AttentionArrays& arrays, const std::vector<Argument>& args, const CudaOptions& options) const {
    try {
        const cuda::Driver* driver = nullptr;
        cuda::Problem problem{state_->desc, arrays, args, {}};
        cuda::Plan plan;
        if (Status status = state_->prepare(options, &driver, &problem, &plan); !status.ok() || problem.is_empty()) return status;
        if (Status status = state_->check_workspace(options, plan.workspace_bytes, "workspace"); !status.ok()) return status;
        std::vector<unsigned char> parameter;
        if (Status status = cuda::make_parameter(problem, options, plan, &parameter); !status.ok()) return status;
        const bool takes_maps = cuda::takes_maps(*plan.image);
        flex_gpu_tensors tensors;
        if (takes_maps)
            if (Status status = cuda::make_tensors(*driver, problem, options, plan, &tensors); !status.ok()) return status;
        return state_->enqueue(*driver, options, cuda::source_of(*plan.image), plan.summaries,
                               {plan.summaries.grid, plan.forward, plan.combine}, parameter, takes_maps ? &tensors : nullptr);
    } catch (const std::bad_alloc&) {
        return no_memory();
    }
}

Status CudaKernel::plan_backward(const AttentionArrays& arrays, const GradientArrays& gradients, const std::vector<Argument>& args,
                                 const CudaOptions& options, CudaBackwardPlan* out) const {
    try {
        *out = {};
        const cuda::Driver* driver = nullptr;
        cuda::BackwardProblem problem{{state_->desc, arrays, args, {}}, gradients};
        cuda::BackwardPlan plan;
        if (Status status = state_->prepare(options, &driver, &problem, &plan); !status.ok()) return status;
        out->image = plan.image;
        out->query_blocks = plan.rows.x;
        out->key_blocks = plan.keys.x;
        out->workspace_bytes = plan.workspace_bytes;
        return {};
    } catch (const std::bad_alloc&) {
        return no_memory();
    }
}

Status CudaKernel::backward_workspace(const AttentionArrays& arrays, const GradientArrays& gradients, const std::vector<Argument>& args,
                                      const CudaOptions& options, size_t* bytes) const {
    CudaBackwardPlan found;
    Status status = plan_backward(arrays, gradients, args, options, &found);
    *bytes = found.workspace_bytes;
    return status;
}

Status CudaKernel::launch_backward(const AttentionArrays& arrays, const GradientArrays& gradients, const std::vector<Argument>& args,
                                   const CudaOptions& options) const {
    try {
        const cuda::Driver* driver = nullptr;
        cuda::BackwardProblem problem{{state_->desc, arrays, args, {}}, gradients};
        cuda::BackwardPlan plan;
        if (Status status = state_->prepare(options, &driver, &problem, &plan); !status.ok()) return status;
        if (Status status = state_->check_workspace(options, plan.workspace_bytes, "backward_workspace"); !status.ok()) return status;
        if (problem.is_zero()) return fill_zeros(*driver, problem, plan, options);
        std::vector<unsigned char> parameter;
        if (Status status = cuda::make_backward_parameter(problem, options, plan, &parameter); !status.ok()) return status;
        if (Status status = fill_zeros(*driver, problem, plan, options); !status.ok()) return status;
        return state_->enqueue(*driver, options, cuda::source_of(*plan.image), plan.summaries,
                               {plan.summaries.grid, plan.rows, plan.queries, plan.keys, plan.scale, plan.finish}, parameter);
    } catch (const std::bad_alloc&) {
        return no_memory();
    }
}

}  // namespace flex
