// How an entry point begins: the lock, and the checks that all of them share, in the order of the real driver.
#pragma once

#include "emulator/driver/functions.h"
#include "emulator/driver/state.h"

namespace flexemu::driver {

/// Holds the lock while it lives. `error()` is why the entry point must return at once, or success.
class Call {
public:
    enum class Needs : uint8_t { Nothing, Driver, Context };
    explicit Call(Needs needs);
    [[nodiscard]] CUresult error() const { return error_; }
    [[nodiscard]] Driver& driver() { return driver_; }
    [[nodiscard]] Context& context() { return *context_; }
    /// Runs a function of the program without the lock.
    void outside(CUhostFn function, void* data);

private:
    Driver& driver_;
    std::unique_lock<std::mutex> lock_;
    Context* context_ = nullptr;
    CUresult error_ = CUDA_SUCCESS;
};
#define FLEXEMU_CALL(needs)                                              \
    ::flexemu::driver::Call call(::flexemu::driver::Call::Needs::needs); \
    if (call.error() != CUDA_SUCCESS) return call.error();               \
    [[maybe_unused]] ::flexemu::driver::Driver& driver = call.driver()

/// The stream of a handle: null and CU_STREAM_LEGACY are the default stream, CU_STREAM_PER_THREAD the thread's own. Null if there is none.
Stream* find_stream(Call& call, CUstream handle);

/// Runs the work, or records it if the stream captures. The one door for everything that is enqueued.
CUresult enqueue(Call& call, Stream* stream, Work work);
/// Runs it now.
CUresult execute(Call& call, const Work& work);
CUresult execute_graph(Call& call, const GraphExec& exec);

/// Adds a node to the graph that the stream captures, after what the stream did before.
CUresult capture_work(Call& call, Stream* stream, Work work);
/// An error if the stream captures, which it may then no longer: for operations that no capture can hold.
CUresult refuse_in_capture(Stream* stream);
/// The stream's next work comes after what the event stands for; in a capture, this is how other streams join it.
CUresult wait_event(Call& call, Stream* stream, Event* event);
void abandon_capture(Driver& driver, const std::shared_ptr<Capture>& capture);
Node* add_node(Graph& graph, Work work, std::vector<Node*> after);
CUresult instantiate(const Graph& graph, GraphExec* exec);

/// Before an operation that would wait for, or allocate beside, captures that the thread must not disturb: an error, and these captures are invalidated.
CUresult check_unsafe_in_capture(Call& call);
/// The same for work on the legacy stream, which would wait for capturing blocking streams.
CUresult check_legacy_in_capture(Call& call);

/// Why the launch cannot be, or success.
CUresult check_launch(Call& call, const Launch& launch);
CUresult pack_parameters(const Function& function, void** parameters, void** extra, std::vector<uint8_t>* out);

/// From the structures of the API, checked.
CUresult make_copy(Call& call, const CUDA_MEMCPY3D& from, Copy* out);
CUresult make_fill(Call& call, const CUDA_MEMSET_NODE_PARAMS& from, Fill* out);

/// An image as PTX text.
CUresult extract_ptx(const void* image, int compute_capability, std::string* ptx, std::string* error);

}  // namespace flexemu::driver
