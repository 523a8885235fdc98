// gradients: backward passes against the float64 interpreter.
//   gradients [--filter TEXT] [--table]                               the CPU target, at every level and type that this machine has
//   gradients --gpu [--driver LIBRARY] [--full] [--seed N] ...        an NVIDIA GPU; as tests run it, the emulated one
// Each gallery variant is taken with every float tensor marked `grad`; the programs of specials.cpp come after them.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/gradients/checks.h"

namespace numerics {
namespace {

void check_gallery(Check& check, const std::string& filter) {
    const char* const elsewhere = std::getenv("FLEXC_GALLERY_DIR");  // on a machine without the sources
    const std::filesystem::path folder = elsewhere ? elsewhere : FLEXC_GALLERY_DIR;
    uint32_t seed = 1;
    for (const auto& tests : {mask_tests(), score_tests()})
        for (const GalleryTest& test : tests) {
            ++seed;
            if (test.file.find(filter) == std::string::npos) continue;
            std::ifstream file(folder / (test.file + ".flex"));
            std::stringstream source;
            source << file.rdbuf();
            for (int which = 0; which < test.cases; ++which) {
                if (!check.takes(static_cast<uint32_t>(which), seed)) continue;
                Random random(seed * 16 + static_cast<uint32_t>(which));
                const Case c = test.make(random, which);
                const auto attention = differentiated(test.file, source.str(), c.consts);
                if (!attention) {
                    check.report.fail(test.file + ": is refused");
                    continue;
                }
                Random inputs(seed);
                check.problem(test.file, *attention, {random_inputs(inputs, c.shape, flex::DType::F32), c.captured, {}, {}, {}}, seed,
                              which == 0);
            }
        }
}

void check_special(Check& check, const Special& special, const Shape& shape, uint32_t seed, bool first) {
    Random random(seed);
    const auto attention = differentiated(special.label, special.source, {});
    if (!attention) return check.report.fail(std::string(special.label) + ": is refused");
    Problem p;
    p.in = random_inputs(random, shape, flex::DType::F32);
    p.captured = special.captured(random, shape);
    check.problem(special.label, *attention, p, seed, first);
}

void check_specials(Check& check, const std::string& filter) {
    const Shape shapes[] = {
        {2, 4, 2, 70, 83, 20, 36, 2},   {1, 2, 2, 130, 300, 64, 64, 1}, {2, 3, 1, 1, 5, 7, 3, 1},
        {3, 2, 1, 150, 140, 32, 16, 1}, {1, 1, 1, 40, 2200, 8, 8, 1},  // the last: on the CPU two chunks of keys
    };
    uint32_t seed = 100;
    for (const Special& special : specials()) {
        seed += 10;
        if (std::string(special.label).find(filter) == std::string::npos) continue;
        for (uint32_t i = 0; i < std::size(shapes); ++i)
            if (check.takes(i, seed / 10)) check_special(check, special, shapes[i], seed + i + 1, i == 0);
    }
}

/// Extents that are 0 or 1, every class of head dimensions, and their ends.
void check_edges(Check& check, const std::string& filter) {
    const Special edges{"edges",
                        "attention a(x: grad f32[H], t: grad f32[9], r: grad f32[B, Q]) {\n"
                        "  score = score * x[h] + t[q - k + 4] + r[b, q]; mask = q >= k - 20 and k % 11 != 3; }",
                        [](Random& r, const Shape& s) {
                            return std::vector{random_floats(r, "x", {s.h}), random_floats(r, "t", {9}), random_floats(r, "r", {s.b, s.q})};
                        }};
    if (std::string(edges.label).find(filter) == std::string::npos) return;
    const Shape shapes[] = {{2, 2, 1, 0, 7, 16, 16, 1},     {2, 2, 1, 7, 0, 16, 16, 2},     {1, 1, 1, 1, 1, 1, 1, 1},
                            {2, 6, 2, 1, 200, 33, 65, 1},   {1, 2, 1, 200, 1, 64, 8, 1},    {1, 2, 1, 37, 70, 32, 32, 1},
                            {1, 2, 1, 37, 70, 96, 90, 1},   {1, 2, 1, 65, 33, 128, 128, 1}, {1, 2, 1, 37, 70, 192, 128, 1},
                            {1, 2, 1, 37, 70, 161, 190, 1}, {1, 2, 1, 37, 70, 256, 256, 1}, {1, 2, 1, 20, 40, 40, 200, 1}};
    uint32_t seed = 700;
    for (const Shape& shape : shapes) check_special(check, edges, shape, ++seed, false);
}

}  // namespace
}  // namespace numerics

int main(int argc, char** argv) {
    using namespace numerics;
    const auto flag = [&](const char* name) {
        for (int i = 1; i < argc; ++i)
            if (std::strcmp(argv[i], name) == 0) return true;
        return false;
    };
    const auto option = [&](const char* name) -> std::string {
        for (int i = 1; i + 1 < argc; ++i)
            if (std::strcmp(argv[i], name) == 0) return argv[i + 1];
        return "";
    };
    Report report;
    std::unique_ptr<Gpu> gpu;
    std::unique_ptr<Check> check;
    if (flag("--gpu")) {
        std::string error;
        gpu = Gpu::open(option("--driver"), &error);
        if (!gpu) {
            std::printf("no GPU: %s\n", error.c_str());
            return 1;
        }
        std::printf("%s\n", gpu->description().c_str());
        check = gpu_check(report, *gpu, flag("--full"));
    } else {
        check = cpu_check(report);
    }
    const std::string filter = option("--filter");
    check_gallery(*check, filter);
    check_specials(*check, filter);
    check_edges(*check, filter);
    if (std::string("hidden").find(filter) != std::string::npos) check->hidden();
    check->others(filter);
    return report.finish(flag("--table"));
}
