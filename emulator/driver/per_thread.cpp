// The twins of functions for programs whose default stream is the thread's own: a null stream means that one.
#include <optional>

#include "emulator/driver/functions.h"

namespace flexemu::driver {

namespace {

CUstream per_thread(CUstream stream) {
    return stream ? stream : CU_STREAM_PER_THREAD;
}

/// The same launch on the thread's stream.
class PerThreadConfig {
public:
    explicit PerThreadConfig(const CUlaunchConfig* config) {
        if (!config) return;
        config_ = *config;
        config_->hStream = per_thread(config->hStream);
    }
    [[nodiscard]] const CUlaunchConfig* get() const { return config_ ? &*config_ : nullptr; }

private:
    std::optional<CUlaunchConfig> config_;
};

}  // namespace

extern "C" {
#define FLEXEMU_FUNCTION(base, suffix, since, parameters)
#define FLEXEMU_STREAM_FUNCTION(base, suffix, since, parameters, arguments) \
    CUresult base##suffix##_ptsz parameters {                               \
        return base##suffix arguments;                                      \
    }
#define FLEXEMU_SYNC_FUNCTION(base, suffix, since, parameters, arguments) \
    CUresult base##suffix##_ptds parameters {                             \
        return base##suffix arguments;                                    \
    }
#include "emulator/driver/functions.def"
}

}  // namespace flexemu::driver
