#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "runtime/cpu/fma_peak.h"
#include "runtime/cpu/pool.h"

using namespace flex;
using namespace flex::cpu;

TEST_CASE("every item runs once, whatever the number of threads") {
    for (const int threads : {1, 2, 5, 33}) {
        for (const int count : {0, 1, 2, 1000}) {
            std::vector<int> runs(static_cast<size_t>(count));
            auto run = [&](int64_t item) { ++runs[static_cast<size_t>(item)]; };
            parallel_for(threads, count, run);
            for (const int n : runs) CHECK(n == 1);
        }
    }
}

TEST_CASE("items may start jobs of their own") {
    std::atomic<int> total{0};
    auto outer = [&](int64_t) {
        auto inner = [&](int64_t) { total.fetch_add(1); };
        parallel_for(3, 20, inner);
    };
    parallel_for(4, 10, outer);
    CHECK(total.load() == 200);
}

TEST_CASE("jobs of several threads at once") {
    std::atomic<int> total{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 8; ++i)
        callers.emplace_back([&] {
            auto run = [&](int64_t) { total.fetch_add(1); };
            for (int j = 0; j < 50; ++j) parallel_for(4, 17, run);
        });
    for (std::thread& caller : callers) caller.join();
    CHECK(total.load() == 8 * 50 * 17);
}

// ThreadSanitizer refuses to start threads in a forked child.
#if defined(__has_feature)
constexpr bool kMayFork = !__has_feature(thread_sanitizer);
#else
constexpr bool kMayFork = true;
#endif

TEST_CASE("a forked child has workers too" * doctest::skip(!kMayFork)) {
    std::atomic<int> before{0};
    auto warm = [&](int64_t) { before.fetch_add(1); };
    parallel_for(3, 30, warm);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::atomic<int> total{0};
        auto run = [&](int64_t) { total.fetch_add(1); };
        parallel_for(3, 100, run);
        _exit(total.load() == 100 ? 0 : 1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("scratch memory is aligned and grows") {
    for (const size_t bytes : {size_t{1}, size_t{100}, size_t{1} << 20, size_t{64}}) {
        void* p = thread_scratch(bytes);
        REQUIRE(p != nullptr);
        CHECK(reinterpret_cast<uintptr_t>(p) % 64 == 0);
        static_cast<char*>(p)[bytes - 1] = 1;
    }
}

TEST_CASE("levels and the peak") {
    CHECK(lanes(CpuLevel::Generic) == 4);
    CHECK(lanes(CpuLevel::Avx512Bf16) == 16);
    CHECK(std::string(name(CpuLevel::Avx512Bf16)) == "avx512-bf16");
    CHECK(available_threads() >= 1);
    CHECK(measure_fma_peak(host_level(), 1) > 0.1);
}
