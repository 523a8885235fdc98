// One linkable object of a compiled attention: its code for several levels of the CPU, its images for GPUs, and the table that finds them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/gpu_abi.h"
#include "runtime/launch.h"

namespace flexc::embed {

struct CpuObject {
    flex::CpuLevel level;      // one of Generic, Avx2, Avx512
    std::vector<char> object;  // of cpu::compile_object
};

struct Contents {
    std::string attention;  // its name in the .flex file
    std::string name;       // by which C++ knows it; part of every symbol
    uint64_t fingerprint = 0;
    std::vector<CpuObject> cpu;
    std::vector<flex_gpu_image> images;  // what they point to must live during the call
    std::vector<flex_gpu_backward_image> backward_images;
};

/// The symbol of the table, a flex_linked: the only one that the object exports.
[[nodiscard]] std::string table_symbol(const std::string& name);
/// A relocatable object for x86-64 Linux: constant data and code, no constructor, no symbol needed from outside.
[[nodiscard]] std::vector<char> make_object(const Contents& contents);

}  // namespace flexc::embed
