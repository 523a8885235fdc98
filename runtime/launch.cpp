#include "runtime/launch.h"

#include <chrono>
#include <new>

#include "runtime/cpu/attention.h"
#include "runtime/cpu/backward.h"

namespace flex {

namespace {

Status check_kernel(const KernelDesc& desc, const flex_cpu_kernel& kernel) {
    if (kernel.abi_version != FLEX_ABI_VERSION)
        return Status(Code::Unsupported, "`" + desc.name + "` was compiled for ABI " + std::to_string(kernel.abi_version) +
                                             ", this runtime has " + std::to_string(FLEX_ABI_VERSION));
    if (static_cast<int>(kernel.lanes) > lanes(host_level()))
        return Status(Code::Unsupported, "`" + desc.name + "` was compiled for vectors of " + std::to_string(kernel.lanes) +
                                             " lanes, this machine has " + std::to_string(lanes(host_level())));
    return {};
}

}  // namespace

Status launch_cpu(const KernelDesc& desc, const flex_cpu_kernel& kernel, const AttentionArrays& arrays, const std::vector<Argument>& args,
                  const CpuOptions& options, CpuStats* stats) {
    if (Status status = check_kernel(desc, kernel); !status.ok()) return status;
    try {
        BoundExtents extents;
        if (Status status = bind(desc, arrays, args, &extents); !status.ok()) return status;
        PackedArgs packed;
        if (Status status = pack(desc, extents, args, &packed); !status.ok()) return status;
        const auto begin = std::chrono::steady_clock::now();
        if (Status status = prepare(kernel, options.threads, &packed); !status.ok()) return status;
        const std::chrono::duration<double> mask_time = std::chrono::steady_clock::now() - begin;
        Status status = cpu::run_attention(kernel, packed.c, arrays, options, stats);
        if (stats) {
            stats->mask_seconds = mask_time.count();
            stats->mask_bytes = static_cast<int64_t>(packed.summary_data.size() * sizeof(int32_t));
            stats->workspace_bytes += stats->mask_bytes;
        }
        return status;
    } catch (const std::bad_alloc&) {
        return Status(Code::OutOfMemory, "no memory");
    }
}

Status launch_cpu_backward(const KernelDesc& desc, const flex_cpu_kernel& kernel, const AttentionArrays& arrays,
                           const GradientArrays& gradients, const std::vector<Argument>& args, const CpuOptions& options, CpuStats* stats) {
    if (Status status = check_kernel(desc, kernel); !status.ok()) return status;
    if (!kernel.backward)
        return Status(Code::Unsupported,
                      "`" + desc.name + "` was compiled without gradients for the CPU (`flexc build --grad`, CompileOptions::gradients)");
    try {
        BoundExtents extents;
        if (Status status = bind(desc, arrays, args, &extents); !status.ok()) return status;
        if (Status status = bind_gradients(desc, arrays, gradients, extents); !status.ok()) return status;
        PackedArgs packed;
        if (Status status = pack(desc, extents, args, &packed); !status.ok()) return status;
        if (Status status = prepare(kernel, options.threads, &packed); !status.ok()) return status;
        return cpu::run_backward(desc, kernel, packed.c, arrays, gradients, options, stats);
    } catch (const std::bad_alloc&) {
        return Status(Code::OutOfMemory, "no memory");
    }
}

CpuBackwardPlan plan_cpu_backward(const KernelDesc& desc, CpuLevel level, const BoundExtents& extents, int threads) {
    AttentionArrays arrays;
    for (Tensor* each : {&arrays.k, &arrays.v}) each->shape[0] = extents.values[0];
    GradientArrays gradients;
    for (const ParamDesc& param : desc.params) {
        if (!param.grad) continue;
        Argument& argument = gradients.d_params.emplace_back();
        argument.name = param.name;
        for (const DimDesc& dim : param.dims)
            argument.value.shape[static_cast<size_t>(argument.value.rank++)] =
                dim.extent < 0 ? dim.offset : int64_t{dim.multiplier} * extents.values[static_cast<size_t>(dim.extent)] + dim.offset;
    }
    flex_cpu_kernel kernel{};
    kernel.lanes = static_cast<decltype(kernel.lanes)>(lanes(level));
    flex_args args{};
    args.extents = extents.values.data();
    return cpu::plan_backward(desc, kernel, args, arrays, gradients, threads);
}

}  // namespace flex
