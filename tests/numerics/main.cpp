// numerics: every gallery variant and a set of special inputs, on every engine, against the float64 oracle.
//   numerics [--quick] [--table] [--filter TEXT] [--random COUNT] [--seed FIRST] [--gpu [--full] [--driver FILE] [--target sm_90a]]
// --gpu tests a GPU instead of the interpreter and the CPU: that of FILE or of FLEX_CUDA_DRIVER, else the emulated one of this build. The kernels are those of
// sm_80, which every GPU runs, or with --target those of another.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>

#include "driver/gpu_images.h"
#include "tests/numerics/checker.h"
#include "tests/numerics/random_programs.h"

namespace numerics {

void check_gallery(Checker& checker) {
    const char* const elsewhere = std::getenv("FLEXC_GALLERY_DIR");  // on a machine without the sources
    const std::filesystem::path folder = elsewhere ? elsewhere : FLEXC_GALLERY_DIR;
    std::set<std::string> tested;
    uint32_t seed = 1;
    for (const auto& tests : {mask_tests(), score_tests()})
        for (const GalleryTest& test : tests) {
            tested.insert(test.file);
            ++seed;
            if (!checker.wanted(test.file)) continue;
            std::unique_ptr<Program> program;
            std::map<std::string, std::string> consts;
            for (int which = 0; which < test.cases; ++which) {
                if (checker.options().quick && which == 1) continue;
                Random random(seed * 16 + static_cast<uint32_t>(which));
                const Case c = test.make(random, which);
                if (!program || c.consts != consts) program = Program::open((folder / (test.file + ".flex")).string(), "", c.consts);
                consts = c.consts;
                checker.expect(program != nullptr, test.file, "does not compile");
                if (program) checker.check(test.file, *program, c, seed, {}, which == 1 ? Layout::HeadsInner : Layout::Dense);
                // The interpreter takes dense arrays only, so the second shape is run in both layouts.
                if (program && which == 1) checker.check(test.file, *program, c, seed);
            }
        }
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (entry.path().extension() == ".flex")
            checker.expect(tested.count(entry.path().stem().string()) != 0, entry.path().filename().string(),
                           "is in the gallery but has no test");
}

/// Random programs: the native code against the interpreter on IR that no pass has touched.
void check_random(Checker& checker) {
    const std::string label = "random programs";
    if (!checker.wanted(label)) return;
    const auto& options = checker.options();
    const int count =
        options.quick || (options.gpu && !options.full) ? std::min(options.random_programs, options.gpu ? 20 : 6) : options.random_programs;
    for (int i = 0; i < count; ++i) {
        const uint32_t seed = options.seed + static_cast<uint32_t>(i);
        Random random(seed);
        RandomProgram p = random_program(random);
        const std::string name = "seed " + std::to_string(seed);
        auto program = Program::open(name, p.source, {}, false);
        checker.expect(program != nullptr, label, name + " does not compile:\n" + p.source);
        if (!program) continue;
        std::string error;
        const double ops = p.inputs.variant.score_ops;
        p.inputs.variant = program->unoptimised(random_inputs(random, p.inputs.shape, flex::DType::F32), p.inputs.captured, &error);
        p.inputs.variant.score_ops = ops;
        checker.expect(error.empty(), label, name + ": " + error);
        const int before = checker.failures();
        checker.take_types_in_turn(true);
        if (error.empty()) checker.check(label, *program, p.inputs, seed);
        checker.take_types_in_turn(false);
        if (checker.failures() != before) std::printf("     %s:\n%s", name.c_str(), p.source.c_str());
    }
}

}  // namespace numerics

int main(int argc, char** argv) {
    numerics::Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view arg = argv[i];
        if (arg == "--quick") {
            options.quick = true;
        } else if (arg == "--full") {
            options.full = true;
        } else if (arg == "--gpu") {
            options.gpu = true;
        } else if (arg == "--driver" && i + 1 < argc) {
            options.driver = argv[++i];
        } else if (arg == "--target" && i + 1 < argc && flexc::gpu_target(argv[i + 1])) {
            options.arch = *flexc::gpu_target(argv[++i]);
        } else if (arg == "--table") {
            options.table = true;
        } else if (arg == "--filter" && i + 1 < argc) {
            options.filter = argv[++i];
        } else if (arg == "--random" && i + 1 < argc) {
            options.random_programs = std::atoi(argv[++i]);
        } else if (arg == "--seed" && i + 1 < argc) {
            options.seed = static_cast<uint32_t>(std::atoi(argv[++i]));
        } else {
            std::fprintf(
                stderr,
                "usage: numerics [--quick] [--table] [--filter TEXT] [--random COUNT] [--seed FIRST] [--gpu [--full] [--driver FILE] "
                "[--target sm_90a]]\n");
            return 2;
        }
    }
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // so that a crash or a time limit leaves what was found
    if (options.gpu && options.driver.empty() && !std::getenv("FLEX_CUDA_DRIVER")) {
        options.driver = FLEXC_EMULATED_DRIVER;
        setenv("FLEXEMU_DEVICE", std::string(flexc::nvptx::name(options.arch)).c_str(), 0);
    }
    numerics::Checker checker(options);
    if (!checker.start()) return 1;
    numerics::check_gallery(checker);
    numerics::check_special(checker);
    numerics::check_clauses(checker);
    if (checker.gpu()) numerics::check_divisions(checker);
    numerics::check_random(checker);
    numerics::check_language(checker);
    return checker.finish();
}
