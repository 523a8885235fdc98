#include "emulator/driver/call.h"

namespace flexemu::driver {

Call::Call(Needs needs) : driver_(Driver::get()), lock_(driver_.mutex) {
    if (needs == Needs::Nothing) return;
    if (!driver_.initialised) {
        error_ = CUDA_ERROR_NOT_INITIALIZED;
        return;
    }
    const auto& stack = context_stack();
    if (!stack.empty()) context_ = stack.back();
    if (needs == Needs::Driver) return;
    if (!context_) {
        error_ = CUDA_ERROR_INVALID_CONTEXT;
    } else if (!driver_.contexts.find(handle_of<CUcontext>(context_))) {
        error_ = CUDA_ERROR_CONTEXT_IS_DESTROYED;
    } else {
        error_ = context_->error;
    }
}

void Call::outside(CUhostFn function, void* data) {
    lock_.unlock();
    function(data);
    lock_.lock();
}

Stream* find_stream(Call& call, CUstream handle) {
    Context& context = call.context();
    if (!handle || handle == CU_STREAM_LEGACY) {
        context.legacy.context = &context;
        context.legacy.is_default = true;
        return &context.legacy;
    }
    if (handle == CU_STREAM_PER_THREAD) {
        auto& own = context.per_thread[std::this_thread::get_id()];
        if (!own) {
            own = std::make_unique<Stream>();
            own->context = &context;
            own->is_default = true;
            own->id = call.driver().next_id++;
        }
        return own.get();
    }
    return call.driver().streams.find(handle);
}

}  // namespace flexemu::driver
