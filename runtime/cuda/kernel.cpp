// CudaKernel: checks, plan, and the launches on the caller's stream.
#include <new>
#include <utility>

#include "runtime/cuda.h"
#include "runtime/cuda/driver.h"
#include "runtime/cuda/modules.h"
#include "runtime/cuda/plan.h"

namespace flex {

namespace {

constexpr unsigned kSummaryFill = 0x7fffffff;  // of records before NAME_summarise
constexpr uintptr_t kWorkspaceAlignment = 16;

Status no_memory() {
    return Status(Code::OutOfMemory, "no host memory");
}

}  // namespace

struct CudaKernel::State {
    KernelDesc desc;
    std::vector<const flex_gpu_image*> images;
    std::vector<const flex_gpu_backward_image*> backward_images;
    cuda::Modules modules;

    Status prepare(const AttentionArrays& arrays, const std::vector<Argument>& args, const CudaOptions& options,
                   const cuda::Driver** driver, cuda::Problem* problem, cuda::Plan* plan);
    Status enqueue(const cuda::Driver& driver, const cuda::Problem& problem, const CudaOptions& options, const cuda::Plan& plan);
};

Status CudaKernel::State::prepare(const AttentionArrays& arrays, const std::vector<Argument>& args, const CudaOptions& options,
                                  const cuda::Driver** driver, cuda::Problem* problem, cuda::Plan* plan) {
    if (Status status = bind(desc, arrays, args, &problem->extents); !status.ok()) return status;
    if (Status status = cuda::check_alignment(arrays, args); !status.ok()) return status;
    Status status;
    *driver = cuda::driver(&status);
    if (!*driver) return status;
    cuda::DeviceFacts facts;
    status = modules.device(**driver, &facts);
    if (status.ok()) status = cuda::choose_image(*problem, options, facts, images.data(), images.size(), &plan->image);
    if (status.ok()) status = cuda::make_plan(*problem, options, facts, plan);
    return status;
}

Status CudaKernel::State::enqueue(const cuda::Driver& driver, const cuda::Problem& problem, const CudaOptions& options,
                                  const cuda::Plan& plan) {
    if (plan.workspace_bytes > 0) {
        if (options.workspace_bytes < plan.workspace_bytes || !options.workspace)
            return Status(Code::OutOfMemory, "this launch of `" + desc.name + "` needs a workspace of " +
                                                 std::to_string(plan.workspace_bytes) + " bytes, got " +
                                                 std::to_string(options.workspace ? options.workspace_bytes : 0) +
                                                 "; flex::CudaKernel::workspace tells the size");
        if (reinterpret_cast<uintptr_t>(options.workspace) % kWorkspaceAlignment != 0)
            return Status(Code::InvalidArgument, "the workspace must begin at a multiple of 16 bytes");
    }
    std::vector<unsigned char> parameter;
    if (Status status = cuda::make_parameter(problem, options, plan, &parameter); !status.ok()) return status;
    const cuda::LoadedImage* loaded = nullptr;
    if (Status status = modules.load(driver, *plan.image, &loaded); !status.ok()) return status;

    const auto stream = static_cast<cuda::Stream>(options.stream);
    if (plan.summary_words > 0) {
        const auto workspace = reinterpret_cast<cuda::Address>(options.workspace);
        if (Status status = driver.check(driver.fill_async(workspace, kSummaryFill, plan.summary_words, stream), "cuMemsetD32Async");
            !status.ok())
            return status;
    }
    const struct {
        cuda::Function function;
        const flex_gpu_kernel& kernel;
        cuda::Grid grid;
    } launches[] = {{loaded->summarise, plan.image->summarise, plan.summarise},
                    {loaded->forward, plan.image->forward, plan.forward},
                    {loaded->combine, plan.image->combine, plan.combine}};
    for (const auto& [function, kernel, grid] : launches) {
        if (grid.x == 0) continue;
        void* parameters[] = {parameter.data()};
        const int result = driver.launch_kernel(function, grid.x, grid.y, grid.z, static_cast<unsigned>(kernel.threads), 1, 1,
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
        if (Status status = state_->prepare(arrays, args, options, &driver, &problem, &plan); !status.ok()) return status;
        out->image = plan.image;
        out->splits = static_cast<int>(plan.splits);
        out->pack = static_cast<int>(plan.pack);
        out->blocks = static_cast<int64_t>(plan.forward.x) * plan.forward.y;
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
        if (Status status = state_->prepare(arrays, args, options, &driver, &problem, &plan); !status.ok()) return status;
        return problem.is_empty() ? Status() : state_->enqueue(*driver, problem, options, plan);
    } catch (const std::bad_alloc&) {
        return no_memory();
    }
}

}  // namespace flex
