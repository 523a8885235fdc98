// The CUDA driver, found at run time: no CUDA header, no link dependency. driver_api.def lists what is called.
//
// `driver()` opens the library once a process: the one that use_cuda_driver or FLEX_CUDA_DRIVER names, else libcuda.so.1. It stays open. A failure
// is kept too, so that every later call says the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/status.h"

namespace flex::cuda {

using Device = int;
using Context = struct ContextTag*;
using Module = struct ModuleTag*;
using Function = struct FunctionTag*;
using Stream = struct StreamTag*;
using Address = uint64_t;

// Of CUresult, CUdevice_attribute, CUfunction_attribute, CUjit_option and CUstreamCaptureMode: what is used here.
inline constexpr int kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNoDevice = 100, kFirstExecutionError = 700;
inline constexpr int kMultiprocessorCount = 16, kCapabilityMajor = 75, kCapabilityMinor = 76, kSharedPerMultiprocessor = 81,
                     kSharedPerBlockOptin = 97;
inline constexpr int kMaxDynamicSharedBytes = 8;
inline constexpr int kJitErrorLogBuffer = 5, kJitErrorLogBytes = 6;
inline constexpr int kCaptureRelaxed = 2;

struct Driver {
#define FLEX_CUDA_ENTRY(member, symbol, parameters) int(*member) parameters = nullptr;
#define FLEX_CUDA_OPTIONAL_ENTRY(member, symbol, parameters) int(*member) parameters = nullptr;
#include "runtime/cuda/driver_api.def"
#undef FLEX_CUDA_ENTRY
#undef FLEX_CUDA_OPTIONAL_ENTRY

    // Of libflexemu_cuda.so; null on other drivers.
    const char* (*emulator_last_fault)() = nullptr;
    unsigned long long (*emulator_instructions)() = nullptr;
    unsigned long long (*emulator_blocks)() = nullptr;

    /// Ok, or the failure of `call` in words: "cuLaunchKernel: an illegal memory access was encountered (CUDA_ERROR_ILLEGAL_ADDRESS)".
    [[nodiscard]] Status check(int result, const char* call) const;
};

/// Opens a driver library and calls cuInit. `path` empty: libcuda.so.1.
Status load_driver(const std::string& path, Driver* out);

/// The process's driver; null with the reason in `status`.
const Driver* driver(Status* status);

}  // namespace flex::cuda
