// What long work says of itself, and the axes and resources that are drawn and told beside it.
#include <doctest/doctest.h>

#include <cmath>

#include "driver/ptxas.h"
#include "tools/bench.h"
#include "tools/explain_gpu.h"
#include "tools/picture/plot.h"
#include "tools/progress.h"

using namespace flexc;
using namespace flexc::tools;

TEST_CASE("a line of progress fits into any width") {
    CHECK(progress_line("run", "compiling", -1, 3.2, -1, 80) == "run: compiling  4 s");
    CHECK(progress_line("run", "", 0.5, 10, 9.1, 80) == "run  [##########..........]  50 %, 10 s left");
    CHECK(progress_line("run", "", 0.999, 10, 0, 80) == "run  [###################.]  99 %, 0 s left");
    CHECK(progress_line("run", "gradients", 1, 10, -1, 80) == "run: gradients  [####################]  100 %");
    CHECK(progress_line("flexc bench", "a long name of an attention", 0.25, 1, 200, 44) == "flexc bench: a long   25 %, 3 min 20 s left");
    CHECK(progress_line("run", "", 0.25, 1, 3 * 3600 + 120, 30) == "run  25 %, 3 h 2 min left");
    for (int width = 0; width < 90; ++width)
        for (const double share : {-1.0, 0.0, 0.37, 1.0})
            CHECK(progress_line("flexc run", "gradients", share, 65, share > 0 ? 7 : -1, width).size() <
                  static_cast<size_t>(std::max(width, 1)));
}

TEST_CASE("sweeps") {
    std::string fault;
    const auto sweep = parse_sweep("Q=K=1,2,2147483647", &fault);
    REQUIRE(sweep);
    CHECK(sweep->names == std::vector<std::string>{"Q", "K"});
    CHECK(sweep->values == std::vector<int64_t>{1, 2, 2147483647});
    CHECK(sweep->label() == "Q = K");
    for (const char* wrong : {"", "=", "Q=", "Q", "=1", "Q==1", "Q=K=", "Q=2,1", "Q=1,1", "Q=0", "Q=-1", "Q=1,", "Q=,1", "Q=1.0", "Q=0x10",
                              "Q=2147483648", "Q=K=Q=4", "Q= 1"}) {
        CAPTURE(wrong);
        fault.clear();
        CHECK_FALSE(parse_sweep(wrong, &fault));
        CHECK_FALSE(fault.empty());
    }
}

TEST_CASE("ticks cover what they are for, and are few") {
    CHECK(picture::linear_ticks(6) == std::vector<double>{0, 1, 2, 3, 4, 5, 6});
    CHECK(picture::linear_ticks(0.07).back() == doctest::Approx(0.08));
    CHECK(picture::log_ticks(0.3, 40) == std::vector<double>{0.2, 0.5, 1, 2, 5, 10, 20, 50});
    CHECK(picture::log_ticks(1, 1).size() == 2);
    for (double low = 1e-6; low < 1e6; low *= 3.7)
        for (double ratio = 1; ratio < 1e9; ratio *= 5.3) {
            const auto ticks = picture::log_ticks(low, low * ratio);
            CHECK(ticks.front() <= low * (1 + 1e-9));
            CHECK(ticks.back() >= low * ratio * (1 - 1e-9));
            CHECK(ticks.size() >= 2);
            CHECK(ticks.size() <= 12);
            const auto steps = picture::linear_ticks(low * ratio);
            CHECK(steps.back() >= low * ratio * (1 - 1e-9));
            CHECK(steps[steps.size() - 2] < low * ratio);
            CHECK(steps.size() <= 8);
        }
}

TEST_CASE("what ptxas -v says") {
    const auto all = parse_resources(
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'a_combine' for 'sm_80'\n"
        "ptxas info    : Function properties for a_combine\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 38 registers, used 0 barriers, 600 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function 'a_forward' for 'sm_80'\n"
        "ptxas info    : Function properties for a_helper\n"
        "    96 bytes stack frame, 80 bytes spill stores, 72 bytes spill loads\n"
        "ptxas info    : Function properties for a_forward\n"
        "    16 bytes stack frame, 24 bytes spill stores, 32 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 2048 bytes smem, 600 bytes cmem[0]\n"
        "ptxas info    : Compile time = 2362.389 ms\n");
    REQUIRE(all.size() == 2);
    CHECK(all[0].kernel == "a_combine");
    CHECK(all[0].registers == 38);
    CHECK(all[0].stack + all[0].spill_stores + all[0].spill_loads + all[0].static_shared == 0);
    CHECK(all[1].kernel == "a_forward");
    CHECK(all[1].registers == 255);
    CHECK(all[1].stack == 16);
    CHECK(all[1].spill_stores == 24);
    CHECK(all[1].spill_loads == 32);
    CHECK(all[1].static_shared == 2048);
    CHECK(parse_resources("").empty());
    CHECK(parse_resources("ptxas fatal : Unexpected\n    1 bytes stack frame\nUsed 3 registers\n").empty());
}

TEST_CASE("blocks of a multiprocessor") {
    CHECK(resident_blocks("sm_80", 128, 128, 0) == 4);     // registers: 65536 / (128 x 128)
    CHECK(resident_blocks("sm_80", 128, 129, 0) == 3);     // in units of 256 of a warp: 136 each
    CHECK(resident_blocks("sm_80", 128, 32, 81920) == 2);  // shared memory: 164 KiB
    CHECK(resident_blocks("sm_80", 128, 32, 81920 + 1024) == 2);
    CHECK(resident_blocks("sm_80", 128, 32, 83000) == 1);
    CHECK(resident_blocks("sm_90a", 128, 32, 83000) == 2);  // 228 KiB
    CHECK(resident_blocks("sm_80", 1024, 16, 0) == 2);      // threads
    CHECK(resident_blocks("sm_80", 32, 16, 0) == 32);       // blocks
    CHECK(resident_blocks("sm_80", 1024, 128, 0) == 0);
    CHECK(resident_blocks("sm_80", 128, 32, 200000) == 0);
    CHECK(resident_blocks("sm_12", 128, 32, 0) == -1);
}
