// numerics: every gallery variant and a set of special inputs, on every engine, against the float64 oracle.
//   numerics [--quick] [--table] [--filter TEXT]
#include <cstdio>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>

#include "tests/numerics/checker.h"

namespace numerics {

void check_gallery(Checker& checker) {
    const std::filesystem::path folder = FLEXC_GALLERY_DIR;
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
            checker.expect(tested.count(entry.path().stem().string()) != 0, entry.path().filename().string(), "is in the gallery but has no test");
}

}  // namespace numerics

int main(int argc, char** argv) {
    numerics::Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view arg = argv[i];
        if (arg == "--quick") {
            options.quick = true;
        } else if (arg == "--table") {
            options.table = true;
        } else if (arg == "--filter" && i + 1 < argc) {
            options.filter = argv[++i];
        } else {
            std::fprintf(stderr, "usage: numerics [--quick] [--table] [--filter TEXT]\n");
            return 2;
        }
    }
    numerics::Checker checker(options);
    numerics::check_gallery(checker);
    numerics::check_special(checker);
    return checker.finish();
}
