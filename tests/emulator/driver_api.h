// The emulated driver as the tests of it see it: loaded by dlopen, each test with a context of its own.
#pragma once

#include <doctest/doctest.h>

#include <vector>

#include "tests/emulator/driver_library.h"

namespace emulator_test {

inline const DriverLibrary& api() {
    static const DriverLibrary* library = [] {
        std::string error;
        auto opened = DriverLibrary::open(FLEXEMU_CUDA_LIBRARY, &error);
        if (!opened) throw std::runtime_error(error);
        return opened.release();
    }();
    return *library;
}
/// CU(cuMemAlloc_v2)(...) calls the function of the library.
#define CU(name) FLEXEMU_API(::emulator_test::api(), name)
#define REQUIRE_CU(call) REQUIRE((call) == CUDA_SUCCESS)

/// A context, current while it lives, with a module of small kernels.
class Session {
public:
    Session();
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    [[nodiscard]] CUfunction function(const char* name) const;
    [[nodiscard]] CUdeviceptr allocate(size_t bytes) const;
    /// counts[i] += amount for n threads: small work whose order shows.
    CUresult add(CUdeviceptr counts, unsigned amount, unsigned n, CUstream stream = nullptr) const;
    /// values[i] = values[i] * factor + amount: the order of two of these shows in the result.
    CUresult affine(CUdeviceptr values, unsigned factor, unsigned amount, unsigned n, CUstream stream = nullptr) const;
    [[nodiscard]] std::vector<unsigned> read(CUdeviceptr from, size_t count) const;

    CUcontext context = nullptr;
    CUmodule module = nullptr;
};

extern const char kKernels[];

}  // namespace emulator_test
