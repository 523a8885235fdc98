// Random programs: jumps in any direction against one thread at a time, and orders of accesses against clocks of single threads.
#include <algorithm>
#include <array>
#include <map>

#include "ptx_run.h"

using namespace flexemu;
using namespace flexemu::test;

namespace {

std::string number(uint64_t value) {
    return std::to_string(value);
}

// ---- Control flow

struct JumpBlock {
    uint32_t factor, summand;
    uint32_t bit;    // of x: which way
    int one, other;  // blocks; the count of blocks is the end
};

/// Any graph at all, most of them irreducible. Each block changes x, and after `limit` blocks a thread goes to the end.
std::vector<JumpBlock> random_graph(Random& random, int blocks) {
    std::vector<JumpBlock> graph;
    for (int i = 0; i < blocks; ++i) {
        const auto any = [&] { return static_cast<int>(random.next() % static_cast<uint64_t>(blocks + 1)); };
        graph.push_back({static_cast<uint32_t>(random.next() | 1), static_cast<uint32_t>(random.next()),
                         static_cast<uint32_t>(random.next() % 32), any(), any()});
    }
    return graph;
}

uint32_t walk(const std::vector<JumpBlock>& graph, uint32_t x, uint32_t limit) {
    uint32_t count = 0;
    for (size_t at = 0; at < graph.size();) {
        const JumpBlock& block = graph[at];
        x = x * block.factor + block.summand;
        if (++count >= limit) break;
        at = static_cast<size_t>((x >> block.bit & 1) != 0 ? block.one : block.other);
    }
    return x;
}

std::string text_of(const std::vector<JumpBlock>& graph, uint32_t limit) {
    std::string text = "mul.lo.u32 %r1, %t, 2654435761; mov.u32 %r2, 0; mul.wide.u32 %rd1, %t, 4; add.u64 %rd1, %out, %rd1;\n";
    for (size_t i = 0; i < graph.size(); ++i) {
        const JumpBlock& block = graph[i];
        text += "B" + number(i) + ": mad.lo.u32 %r1, %r1, " + number(block.factor) + ", " + number(block.summand) + ";\n";
        text += "add.u32 %r2, %r2, 1; setp.ge.u32 %p1, %r2, " + number(limit) + "; @%p1 bra B" + number(graph.size()) + ";\n";
        text += "shr.u32 %r3, %r1, " + number(block.bit) + "; and.b32 %r3, %r3, 1; setp.ne.u32 %p2, %r3, 0;\n";
        text += "@%p2 bra B" + number(static_cast<uint64_t>(block.one)) + ";\nbra B" + number(static_cast<uint64_t>(block.other)) + ";\n";
    }
    return text + "B" + number(graph.size()) + ": bar.sync 0; st.global.u32 [%rd1], %r1;";
}

// ---- Orders

constexpr int kThreads = 96, kBytes = 256;

/// What a step of the program does; every thread takes all steps in order, if `from <= thread < to`.
struct Step {
    enum class Kind : uint8_t { Load, Store, Block, Warps, Lanes } kind;
    int from = 0, to = kThreads;
    int bytes = 4;
    int factor = 1, summand = 0;  // address: (thread * factor + summand) * bytes % kBytes
    uint32_t mask = 0;            // Lanes: of every warp; what remains is a group, too
};

int address_of(const Step& step, int thread) {
    return (thread * step.factor + step.summand) * step.bytes % kBytes;
}

std::vector<Step> random_steps(Random& random) {
    std::vector<Step> steps;
    const auto below = [&](int bound) { return static_cast<int>(random.next() % static_cast<uint64_t>(bound)); };
    const int count = 3 + below(6);
    for (int i = 0; i < count; ++i) {
        Step step{};
        const int choice = below(10);
        if (choice < 6) {
            step.kind = choice < 3 ? Step::Kind::Load : Step::Kind::Store;
            step.bytes = step.kind == Step::Kind::Load ? 1 << below(3) : 2 << below(2);
            step.from = below(4) == 0 ? 0 : below(kThreads);
            step.to = std::min(kThreads, step.from + 1 + below(below(2) == 0 ? 4 : kThreads));
            const int factors[] = {0, 1, 1, 1, 3};
            step.factor = factors[below(5)];
            step.summand = below(kBytes);
        } else if (choice < 8) {
            step.kind = Step::Kind::Block;
        } else if (choice < 9) {
            step.kind = Step::Kind::Warps;  // two warps of three
            step.from = 32 * below(2);
            step.to = step.from + 64;
        } else {
            step.kind = Step::Kind::Lanes;
            step.mask = below(2) == 0 ? ~0U : static_cast<uint32_t>(random.next());
        }
        steps.push_back(step);
    }
    return steps;
}

std::string text_of(const std::vector<Step>& steps) {
    std::string text =
        ".shared .align 16 .b8 s[256]; mov.u32 %r1, s; shl.b32 %r2, %t, 2; and.b32 %r2, %r2, 252; add.u32 %r2, %r2, %r1;\n"
        "st.shared.u32 [%r2], 0; bar.sync 0;\n";
    for (size_t i = 0; i < steps.size(); ++i) {
        const Step& step = steps[i];
        text += "setp.ge.u32 %p1, %t, " + number(static_cast<uint64_t>(step.from)) + "; setp.lt.and.u32 %p1, %t, " +
                number(static_cast<uint64_t>(step.to)) + ", %p1;\n";
        switch (step.kind) {
            case Step::Kind::Load:
            case Step::Kind::Store: {
                text += "mad.lo.u32 %r3, %t, " + number(static_cast<uint64_t>(step.factor)) + ", " +
                        number(static_cast<uint64_t>(step.summand)) + "; mul.lo.u32 %r3, %r3, " +
                        number(static_cast<uint64_t>(step.bytes)) + "; and.b32 %r3, %r3, 255; add.u32 %r3, %r3, %r1;\n";
                // Values differ between all threads and steps, and are never 0.
                text += "add.u32 %r4, %t, " + number(128 * (i + 1)) + "; mul.lo.u32 %r4, %r4, 65537; cvt.u16.u32 %h1, %r4;\n";
                const std::string type = ".u" + number(static_cast<uint64_t>(8 * step.bytes));
                const std::string reg = step.bytes == 4 ? "%r4" : "%h1";
                text += step.kind == Step::Kind::Load ? "@%p1 ld.shared" + type + " " + reg + ", [%r3];\n"
                                                      : "@%p1 st.shared" + type + " [%r3], " + reg + ";\n";
                break;
            }
            case Step::Kind::Block: text += "bar.sync 0;\n"; break;
            case Step::Kind::Warps: text += "@%p1 bar.sync " + number(1 + static_cast<uint64_t>(step.from) / 32) + ", 64;\n"; break;
            case Step::Kind::Lanes:
                text += "shl.b32 %r5, 1, %lane; and.b32 %r5, %r5, " + number(step.mask) + "; setp.ne.u32 %p2, %r5, 0; selp.b32 %r6, " +
                        number(step.mask) + ", " + number(~step.mask) + ", %p2; bar.warp.sync %r6;\n";
                break;
        }
    }
    return text;
}

/// Is there a pair of accesses that nothing orders? With one clock a thread, by definition.
bool has_race(const std::vector<Step>& steps) {
    std::array<std::array<int, kThreads>, kThreads> known{};  // known[a][b]: steps of b that a knows of
    struct Access {
        int thread, step;
        bool writes;
    };
    std::map<int, std::vector<Access>> accesses;  // by byte
    const auto meet = [&](const std::vector<int>& threads, int step) {
        std::array<int, kThreads> all{};
        for (const int thread : threads) {
            known[static_cast<size_t>(thread)][static_cast<size_t>(thread)] = step + 1;
            for (size_t i = 0; i < kThreads; ++i) all[i] = std::max(all[i], known[static_cast<size_t>(thread)][i]);
        }
        for (const int thread : threads) known[static_cast<size_t>(thread)] = all;
    };
    for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
        const Step& step = steps[static_cast<size_t>(i)];
        if (step.kind == Step::Kind::Block || step.kind == Step::Kind::Warps) {
            std::vector<int> threads;
            for (int t = step.from; t < step.to; ++t) threads.push_back(t);
            meet(threads, i);
            continue;
        }
        if (step.kind == Step::Kind::Lanes) {
            for (int warp = 0; warp < kThreads / 32; ++warp) {
                std::vector<int> in, out;
                for (int lane = 0; lane < 32; ++lane) ((step.mask >> lane & 1) != 0 ? in : out).push_back(warp * 32 + lane);
                meet(in, i);
                meet(out, i);
            }
            continue;
        }
        const bool writes = step.kind == Step::Kind::Store;
        for (int t = step.from; t < step.to; ++t) {
            for (int b = 0; b < step.bytes; ++b) {
                auto& before = accesses[address_of(step, t) + b];
                for (const Access& old : before) {
                    if (old.thread == t || (!old.writes && !writes)) continue;
                    if (known[static_cast<size_t>(t)][static_cast<size_t>(old.thread)] <= old.step) return true;
                }
                before.push_back({t, i, writes});
            }
        }
    }
    return false;
}

}  // namespace

TEST_CASE("random jumps end where a thread alone would end") {
    Random random{7};
    for (int round = 0; round < 150; ++round) {
        const auto graph = random_graph(random, 2 + static_cast<int>(random.next() % 9));
        const uint32_t limit = 1 + static_cast<uint32_t>(random.next() % 60);
        const auto out = run_well(text_of(graph, limit), {}, 64, {.threads = 64, .seed = static_cast<uint64_t>(round)});
        for (uint32_t t = 0; t < 64; ++t) CHECK(out[t] == walk(graph, t * 2654435761U, limit));
    }
}

TEST_CASE("random accesses race exactly where clocks of single threads say so") {
    Random random{11};
    int racing = 0, fine = 0;
    for (int round = 0; round < 1500; ++round) {
        const auto steps = random_steps(random);
        const bool expected = has_race(steps);
        (expected ? racing : fine) += 1;
        const std::string text = text_of(steps);
        const Run run = run_ptx(text, {}, 1, {.threads = kThreads, .seed = static_cast<uint64_t>(round % 7)});
        REQUIRE_MESSAGE(run.error.empty(), run.error);
        const bool is_race = run.fault.kind == Fault::Kind::Race;
        CHECK_MESSAGE(is_race == expected, "round ", round, ": ", run.fault.text, "\n", text);
        CHECK_MESSAGE((is_race || !run.fault), run.fault.text);
        if (is_race != expected) return;
    }
    CHECK(racing > 200);
    CHECK(fine > 200);
}
