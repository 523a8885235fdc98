// Runs kernels that nvcc and Triton compiled on a driver library and compares with plain C++: hardware-proven code must run without a fault, in every
// order of the warps.
//
//   emulator_kernels LIBRARY FOLDER [--seeds N] [--only NAME] [--compiler nvcc|hopper|triton]
//
// FOLDER holds the PTX. LIBRARY may be a real libcuda.so.1: then one seed is all there is.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tests/emulator/cases.h"

using namespace emulator_test;

int main(int count, char** arguments) {
    if (count < 3) return std::fprintf(stderr, "usage: emulator_kernels LIBRARY FOLDER [--seeds N] ...\n"), 2;
    uint64_t seeds = 4;
    std::string only, compiler;
    for (int i = 3; i + 1 < count; i += 2) {
        std::string option = arguments[i];
        if (option == "--seeds")
            seeds = std::strtoull(arguments[i + 1], nullptr, 10);
        else if (option == "--only")
            only = arguments[i + 1];
        else if (option == "--compiler")
            compiler = arguments[i + 1];
        else
            return std::fprintf(stderr, "unknown option %s\n", option.c_str()), 2;
    }
    std::vector<Case> cases = nvcc_cases();
    for (const auto& more : {hopper_cases(), product_cases(), triton_cases()}) cases.insert(cases.end(), more.begin(), more.end());
    int ran = 0, failed = 0;
    for (const Case& each : cases) {
        if ((!only.empty() && each.name != only) || (!compiler.empty() && !each.file.starts_with(compiler))) continue;
        std::ifstream file(std::string(arguments[2]) + "/" + each.file + ".ptx");
        std::string ptx{std::istreambuf_iterator<char>(file), {}}, problem;
        if (ptx.empty()) problem = "no " + each.file + ".ptx";
        auto start = std::chrono::steady_clock::now();
        for (uint64_t seed = 0; seed < seeds && problem.empty(); ++seed) {
            auto gpu = make_driver_gpu(arguments[1], seed, &problem);
            if (gpu && gpu->load(ptx, &problem)) problem = each.run(*gpu);
            if (!problem.empty()) problem += " (seed " + std::to_string(seed) + ")";
        }
        ++ran;
        failed += !problem.empty();
        double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        std::printf("%s %s/%s  %.2f s  %s\n", problem.empty() ? "ok  " : "FAIL", each.file.c_str(), each.name.c_str(), seconds,
                    problem.c_str());
    }
    std::printf("%d of %d right\n", ran - failed, ran);
    return failed || !ran ? 1 : 0;
}
