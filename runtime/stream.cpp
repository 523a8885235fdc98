#include "runtime/stream.h"

#include <algorithm>
#include <mutex>
#include <new>

#include "runtime/cuda/driver.h"

namespace flex {

namespace {

Status no_memory() {
    return Status(Code::OutOfMemory, "no memory");
}

/// What `run` gives, or the exception that left it as a value.
template <class Run>
Status guarded(Run run) noexcept {
    try {
        return run();
    } catch (const std::bad_alloc&) {
        return no_memory();
    } catch (...) {
        return Status(Code::DeviceError, "the C++ library failed");
    }
}

/// The arguments of a launch by name, as the checks want them.
Status by_name(const KernelDesc& desc, const Tensor* values, size_t count, std::vector<Argument>* args) {
    if (count != desc.params.size())
        return Status(Code::InvalidArgument,
                      "`" + desc.name + "` has " + std::to_string(desc.params.size()) + " parameters, got " + std::to_string(count));
    args->reserve(count);
    for (size_t i = 0; i < count; ++i) args->push_back({desc.params[i].name, values[i]});
    return {};
}

/// Of the gradients of captured tensors, those that are wanted.
void add_wanted(const KernelDesc& desc, const Tensor* d_values, size_t count, std::vector<Argument>* d_params) {
    for (size_t i = 0; i < count; ++i)
        if (d_values[i].data) d_params->push_back({desc.params[i].name, d_values[i]});
}

}  // namespace

/// Device memory that only grows. Launches of a graph that was captured go on using what they were given, so memory that a capture has
/// seen is kept until the end; other memory is freed when it is replaced.
struct Stream::Workspace {
    explicit Workspace(void* of) : stream(static_cast<cuda::Stream>(of)) {}
    ~Workspace() {
        if (!context) return;
        Status ignored;
        const cuda::Driver* driver = cuda::driver(&ignored);
        // An error means that the context is gone, and the memory with it.
        if (!driver || driver->context_push(context) != cuda::kSuccess) return;
        (void)driver->stream_synchronise(stream);
        (void)driver->free(memory);
        for (const cuda::Address address : captured) (void)driver->free(address);
        cuda::Context popped = nullptr;
        (void)driver->context_pop(&popped);
    }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    /// To be called with `mutex` held.
    Status grow(size_t wanted) {
        if (wanted <= bytes) return {};
        Status status;
        const cuda::Driver* driver = cuda::driver(&status);
        if (!driver) return status;
        bool capturing = false;
        if (status = is_capturing(*driver, &capturing); !status.ok()) return status;
        if (capturing)
            return Status(Code::OutOfMemory, "the stream is being captured and has a workspace of " + std::to_string(bytes) + " bytes; " +
                                                 std::to_string(wanted) + " are needed: call its reserve() before");
        captured.reserve(captured.size() + 1);  // so that nothing can fail once memory is allocated
        const size_t rounded = (std::max(wanted, bytes + bytes / 2) + 255) / 256 * 256;
        if (!context)
            if (status = driver->check(driver->context_get_current(&context), "cuCtxGetCurrent"); !status.ok()) return status;
        cuda::Address fresh = 0;
        if (status = driver->check(driver->allocate(&fresh, rounded), "cuMemAlloc"); !status.ok()) return status;
        if (memory && was_captured) {
            captured.push_back(memory);
        } else if (memory) {
            status = driver->check(driver->stream_synchronise(stream), "cuStreamSynchronize");
            if (status.ok()) status = driver->check(driver->free(memory), "cuMemFree");
        }
        memory = fresh;
        bytes = rounded;
        was_captured = false;
        return status;
    }

    Status is_capturing(const cuda::Driver& driver, bool* capturing) const {
        int state = 0;  // CU_STREAM_CAPTURE_STATUS_NONE
        if (driver.stream_is_capturing)
            if (Status status = driver.check(driver.stream_is_capturing(stream, &state), "cuStreamIsCapturing"); !status.ok())
                return status;
        *capturing = state != 0;
        return {};
    }

    std::mutex mutex;
    const cuda::Stream stream;
    cuda::Context context = nullptr;  // of the memory; known from the first allocation on
    cuda::Address memory = 0;
    size_t bytes = 0;
    bool was_captured = false;  // a launch into a graph was given `memory`
    std::vector<cuda::Address> captured;
};

Stream Stream::cpu(int threads, CpuLevel at_most) noexcept {
    Stream made;
    made.threads_ = threads;
    made.at_most_ = at_most;
    return made;
}

Stream Stream::cuda(void* stream) noexcept {
    Stream made;
    made.on_gpu_ = true;
    made.owns_workspace_ = true;
    made.cuda_.stream = stream;
    try {
        made.workspace_ = std::make_shared<Workspace>(stream);
    } catch (...) {
        // workspace_ stays null, and the first launch reports it.
    }
    return made;
}

Stream Stream::cuda(void* stream, void* workspace, size_t workspace_bytes) noexcept {
    Stream made;
    made.on_gpu_ = true;
    made.cuda_.stream = stream;
    made.cuda_.workspace = workspace;
    made.cuda_.workspace_bytes = workspace_bytes;
    return made;
}

Status Stream::reserve(size_t bytes) const noexcept {
    return guarded([&]() -> Status {
        if (!owns_workspace_) return Status(Code::InvalidArgument, "the stream has no workspace of its own to grow");
        if (!workspace_) return no_memory();
        const std::lock_guard<std::mutex> lock(workspace_->mutex);
        return workspace_->grow(bytes);
    });
}

struct Kernel::State {
    KernelDesc desc;
    const flex_linked* code;
    std::shared_ptr<const void> owner;
    std::unique_ptr<CudaKernel> cuda;  // null without images
};

Status Kernel::missing() const {
    if (fault_ == Code::OutOfMemory) return no_memory();
    if (fault_ == Code::Unsupported)
        return Status(fault_, "the header, the object and the runtime of this attention were not made together; build them again");
    return Status(fault_, "the kernel is empty");
}

Status Kernel::lacks(const char* what) const {
    return Status(Code::Unsupported, "`" + state_->desc.name + "` was built without a target for " + what);
}

Kernel::Kernel(const KernelDesc& desc, const flex_linked& code, std::shared_ptr<const void> owner) noexcept {
    try {
        if (code.version != FLEX_LINKED_VERSION) {
            fault_ = Code::Unsupported;
            return;
        }
        auto state = std::make_shared<State>();
        state->desc = desc;
        state->code = &code;
        state->owner = std::move(owner);
        if (code.image_count + code.backward_image_count > 0)
            state->cuda =
                std::make_unique<CudaKernel>(desc, code.images, code.image_count, code.backward_images, code.backward_image_count);
        state_ = std::move(state);
    } catch (...) {
        fault_ = Code::OutOfMemory;
    }
}

const Kernel* Kernel::linked(const KernelDesc& (*desc)(), const flex_linked& code, uint64_t fingerprint) noexcept {
    alignas(Kernel) static unsigned char storage[sizeof(Kernel)];
    static const Kernel* const none = ::new (storage) Kernel;
    try {
        auto kernel = std::make_unique<Kernel>();
        kernel->fault_ = Code::Unsupported;
        if (code.fingerprint == fingerprint) *kernel = Kernel(desc(), code);
        return kernel.release();
    } catch (...) {
        return none;
    }
}

const KernelDesc* Kernel::desc() const noexcept {
    return state_ ? &state_->desc : nullptr;
}

Status Kernel::choose_level(const Stream& stream, const flex_cpu_kernel** out) const {
    const auto& cpu = state_->code->cpu;
    const int highest = std::min(static_cast<int>(std::min(host_level(), stream.at_most_)), FLEX_LINKED_LEVELS - 1);
    for (int level = highest; level >= 0; --level)
        if (cpu[level]) {
            *out = cpu[level];
            return {};
        }
    for (const flex_cpu_kernel* kernel : cpu)
        if (kernel)
            return Status(Code::Unsupported, "`" + state_->desc.name + "` was built for a higher vector level than may be used here");
    return lacks("the CPU");
}

/// `measure(options, &bytes)` tells the workspace that `launch(options)` needs.
template <class Measure, class Launch>
Status Kernel::launch_gpu(const Stream& stream, Measure measure, Launch launch) const {
    if (!state_->cuda) return lacks("GPUs");
    if (!stream.owns_workspace_) return launch(stream.cuda_);
    if (!stream.workspace_) return no_memory();
    Stream::Workspace& workspace = *stream.workspace_;
    CudaOptions options = stream.cuda_;
    // Held until the launch is enqueued: after that the order of the stream keeps launches apart.
    const std::lock_guard<std::mutex> lock(workspace.mutex);
    size_t bytes = 0;
    if (Status status = measure(options, &bytes); !status.ok()) return status;
    if (Status status = workspace.grow(bytes); !status.ok()) return status;
    options.workspace = reinterpret_cast<void*>(static_cast<uintptr_t>(workspace.memory));
    options.workspace_bytes = workspace.bytes;
    if (bytes > 0) {
        Status status;
        const cuda::Driver* driver = cuda::driver(&status);
        if (!driver) return status;
        bool capturing = false;
        if (status = workspace.is_capturing(*driver, &capturing); !status.ok()) return status;
        workspace.was_captured = workspace.was_captured || capturing;
    }
    return launch(options);
}

Status Kernel::forward(const Stream& stream, const AttentionArrays& arrays, const std::vector<Argument>& args) const noexcept {
    return guarded([&]() -> Status {
        if (!state_) return missing();
        if (stream.on_gpu_) {
            const CudaKernel* kernel = state_->cuda.get();
            return launch_gpu(
                stream, [&](const CudaOptions& options, size_t* bytes) { return kernel->workspace(arrays, args, options, bytes); },
                [&](const CudaOptions& options) { return kernel->launch(arrays, args, options); });
        }
        const flex_cpu_kernel* kernel = nullptr;
        if (Status status = choose_level(stream, &kernel); !status.ok()) return status;
        return launch_cpu(state_->desc, *kernel, arrays, args, {stream.threads_});
    });
}

Status Kernel::forward(const Stream& stream, const AttentionArrays& arrays, const Tensor* values, size_t count) const noexcept {
    return guarded([&]() -> Status {
        if (!state_) return missing();
        std::vector<Argument> args;
        if (Status status = by_name(state_->desc, values, count, &args); !status.ok()) return status;
        return forward(stream, arrays, args);
    });
}

Status Kernel::workspace(const Stream& stream, const AttentionArrays& arrays, const std::vector<Argument>& args,
                         size_t* bytes) const noexcept {
    return guarded([&]() -> Status {
        *bytes = 0;
        if (!state_) return missing();
        if (stream.on_gpu_) return state_->cuda ? state_->cuda->workspace(arrays, args, stream.cuda_, bytes) : lacks("GPUs");
        BoundExtents extents;
        return bind(state_->desc, arrays, args, &extents);
    });
}

Status Kernel::workspace(const Stream& stream, const AttentionArrays& arrays, const Tensor* values, size_t count,
                         size_t* bytes) const noexcept {
    return guarded([&]() -> Status {
        *bytes = 0;
        if (!state_) return missing();
        std::vector<Argument> args;
        if (Status status = by_name(state_->desc, values, count, &args); !status.ok()) return status;
        return workspace(stream, arrays, args, bytes);
    });
}

Status Kernel::backward(const Stream& stream, const AttentionArrays& arrays, const GradientArrays& gradients,
                        const std::vector<Argument>& args) const noexcept {
    return guarded([&]() -> Status {
        if (!state_) return missing();
        if (stream.on_gpu_) {
            const CudaKernel* kernel = state_->cuda.get();
            return launch_gpu(
                stream,
                [&](const CudaOptions& options, size_t* bytes) {
                    return kernel->backward_workspace(arrays, gradients, args, options, bytes);
                },
                [&](const CudaOptions& options) { return kernel->launch_backward(arrays, gradients, args, options); });
        }
        const flex_cpu_kernel* kernel = nullptr;
        if (Status status = choose_level(stream, &kernel); !status.ok()) return status;
        return launch_cpu_backward(state_->desc, *kernel, arrays, gradients, args, {stream.threads_});
    });
}

Status Kernel::backward(const Stream& stream, const AttentionArrays& arrays, const GradientArrays& gradients, const Tensor* values,
                        const Tensor* d_values, size_t count) const noexcept {
    return guarded([&]() -> Status {
        if (!state_) return missing();
        std::vector<Argument> args;
        GradientArrays all = gradients;
        if (Status status = by_name(state_->desc, values, count, &args); !status.ok()) return status;
        add_wanted(state_->desc, d_values, count, &all.d_params);
        return backward(stream, arrays, all, args);
    });
}

Status Kernel::backward_workspace(const Stream& stream, const AttentionArrays& arrays, const GradientArrays& gradients,
                                  const std::vector<Argument>& args, size_t* bytes) const noexcept {
    return guarded([&]() -> Status {
        *bytes = 0;
        if (!state_) return missing();
        if (stream.on_gpu_)
            return state_->cuda ? state_->cuda->backward_workspace(arrays, gradients, args, stream.cuda_, bytes) : lacks("GPUs");
        BoundExtents extents;
        if (Status status = bind(state_->desc, arrays, args, &extents); !status.ok()) return status;
        return bind_gradients(state_->desc, arrays, gradients, extents);
    });
}

Status Kernel::backward_workspace(const Stream& stream, const AttentionArrays& arrays, const GradientArrays& gradients,
                                  const Tensor* values, const Tensor* d_values, size_t count, size_t* bytes) const noexcept {
    return guarded([&]() -> Status {
        *bytes = 0;
        if (!state_) return missing();
        std::vector<Argument> args;
        GradientArrays all = gradients;
        if (Status status = by_name(state_->desc, values, count, &args); !status.ok()) return status;
        add_wanted(state_->desc, d_values, count, &all.d_params);
        return backward_workspace(stream, arrays, all, args, bytes);
    });
}

}  // namespace flex
