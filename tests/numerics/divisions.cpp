// On a GPU: the ways in which a launch can be divided, each of which must give the same attention, and the tf32 of who allows it.
#include <cmath>
#include <string>

#include "tests/numerics/checker.h"

namespace numerics {

namespace {

using flex::DType;

/// Grouped heads, everything depending on b and h, so that a tile of the wrong head shows.
Case grouped(int q, int k, int d) {
    Case c;
    c.shape = {.b = 2, .h = 12, .hkv = 2, .q = q, .k = k, .d = d, .dv = d, .kvb = 1};
    c.variant.mask = [](int b, int h, int qq, int kk) { return kk <= 25 * (qq + 1) + 60 * h + 7 * b && kk % (h + 2) != 1; };
    c.variant.score = [](int b, int h, int qq, int kk, double x) { return x + (h - 3 * b) * (qq - kk) / 64.0; };
    return c;
}

constexpr const char* kGrouped =
    "attention grouped() {\n"
    "    mask = k <= 25 * (q + 1) + 60 * h + 7 * b and k % (h + 2) != 1;\n"
    "    score = score + f32(h - 3 * b) * f32(q - k) * 0.015625;\n"
    "}\n";

void packs_and_splits(Checker& checker) {
    const std::string label = "packs and splits";
    if (!checker.wanted(label)) return;
    const auto program = Program::open(label, kGrouped, {});
    checker.expect(program != nullptr, label, "does not compile");
    if (!program) return;
    uint32_t seed = 5000;
    size_t turn = 0;
    for (const auto& [q, k] : {std::pair{1, 400}, {5, 400}, {37, 150}})
        for (const int splits : {1, 3, 1000})
            for (const int pack : {1, 2, 3, 6}) {
                // Many pieces of the largest tiles take long.
                if (checker.persistent() && !checker.options().full && q != 5 && (splits > 3 || pack > 3)) continue;
                const std::array types{DType::BF16, DType::F16, DType::F32};
                const DType type = types[turn++ % (checker.persistent() ? 2 : 3)];
                const Case c = grouped(q, k, 40);
                Random random(++seed);
                const Inputs in = random_inputs(random, c.shape, type);
                const std::string name = std::to_string(splits) + " splits, pack " + std::to_string(pack);
                const bool few = turn % 2 == 0 && !checker.persistent();
                const GpuSettings settings{.name = name.c_str(), .splits = splits, .pack = pack, .short_queries = few};
                checker.check_division(label, *program, c, type, in, turn % 4 == 0 ? Layout::Padded : Layout::Dense, settings);
            }
}

void repeated(Checker& checker) {
    const std::string label = "the same bits again";
    if (!checker.wanted(label)) return;
    const auto program = Program::open(label, kGrouped, {});
    if (!program) return;
    const Case c = grouped(9, 300, 64);
    for (const DType type : {DType::BF16, checker.persistent() ? DType::F16 : DType::F32}) {
        Random random(77);
        const Inputs in = random_inputs(random, c.shape, type);
        const GpuSettings settings{.name = "4 splits", .splits = 4, .short_queries = !checker.persistent(), .arch = checker.options().arch};
        const Result once = program->run_gpu(*checker.gpu(), settings, type, in, {});
        const Result again = program->run_gpu(*checker.gpu(), settings, type, in, {});
        checker.expect(once.error.empty() && again.error.empty(), label, once.error + again.error);
        checker.expect(!once.o.empty() && once.o == again.o && once.lse == again.lse && once.max_score == again.max_score, label,
                       std::string("a second launch differs in ") + flex::name(type));
    }
}

void tf32(Checker& checker) {
    const std::string label = "tf32";
    if (!checker.wanted(label)) return;
    const auto program = Program::open(label, kGrouped, {});
    if (!program) return;
    uint32_t seed = 6000;
    for (const int d : {24, 128, 256})
        for (const bool short_queries : {false, true}) {
            const Case c = grouped(3, 130, d);
            Random random(++seed);
            const Inputs in = random_inputs(random, c.shape, DType::F32);
            const GpuSettings settings{.name = "", .short_queries = short_queries, .allow_tf32 = true};
            checker.check_division(label, *program, c, DType::F32, in, Layout::Dense, settings);
        }
}

/// More pieces of work than blocks, tiles of every length and none, heads that lie inside rows: all head dimensions, from arrays with maps and without.
void pieces(Checker& checker) {
    const std::string label = "pieces of work";
    if (!checker.wanted(label)) return;
    const auto program = Program::open(label, kGrouped, {});
    if (!program) return;
    uint32_t seed = 7000;
    size_t turn = 0;
    for (const auto& [d, dv] :
         {std::pair{64, 64}, {96, 96}, {128, 128}, {192, 128}, {192, 192}, {256, 256}, {128, 64}, {48, 72}, {65, 64}}) {
        Case c = grouped(140, 260, d);
        c.shape.dv = dv;
        c.shape.h = 4;
        const DType type = ++turn % 2 ? DType::BF16 : DType::F16;
        Random random(++seed);
        const Inputs in = random_inputs(random, c.shape, type);
        const std::string name = "D=" + std::to_string(d) + " DV=" + std::to_string(dv);
        checker.check_division(label, *program, c, type, in, turn % 2 ? Layout::HeadsInner : Layout::Dense,
                               {.name = name.c_str(), .splits = 1});
    }
}

}  // namespace

void check_divisions(Checker& checker) {
    packs_and_splits(checker);
    repeated(checker);
    if (checker.persistent())
        pieces(checker);
    else
        tf32(checker);
}

}  // namespace numerics
