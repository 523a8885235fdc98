// The CPU attention against double precision, at every vector level that this machine can execute.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "plain_kernel.h"

using namespace flex;
using namespace flex::test;

namespace {

std::vector<int> host_lanes() {
    std::vector<int> all;
    for (const int n : {4, 8, 16})
        if (n <= lanes(host_level())) all.push_back(n);
    return all;
}

// Relative to 1 + |value|: sums of up to a few thousand f32 terms; results in f16 and bf16 are also rounded once.
double tolerance(DType type) {
    return type == DType::F32 ? 2e-5 : type == DType::F16 ? 1.2e-3 : 8e-3;
}

Status launch(Data& data, int n, bool tight = true, int threads = 1, CpuStats* stats = nullptr) {
    CpuOptions options;
    options.threads = threads;
    return launch_cpu(plain_desc(), plain_kernel(n, tight), data.arrays, data.args(), options, stats);
}

void check(const Problem& p, uint32_t seed = 1) {
    Data data(p, seed);
    const Expected want = naive(data);
    for (const int n : host_lanes()) {
        for (const bool tight : {false, true}) {
            CAPTURE(p.B);
            CAPTURE(p.H);
            CAPTURE(p.HKV);
            CAPTURE(p.Q);
            CAPTURE(p.K);
            CAPTURE(p.D);
            CAPTURE(p.DV);
            CAPTURE(name(p.dtype));
            CAPTURE(static_cast<int>(p.mode));
            CAPTURE(n);
            CAPTURE(tight);
            std::fill(data.o.begin(), data.o.end(), uint8_t{0x55});
            const Status status = launch(data, n, tight, 2);
            CHECK_MESSAGE(status.ok(), status.text());
            CHECK(error(data, want) <= tolerance(p.dtype));
        }
    }
}

Problem problem(int q, int k, int d, int dv, Mode mode = kNone, DType dtype = DType::F32) {
    Problem p;
    p.Q = q;
    p.K = k;
    p.D = d;
    p.DV = dv;
    p.mode = mode;
    p.dtype = dtype;
    return p;
}

}  // namespace

TEST_CASE("odd lengths and head dimensions") {
    for (const int q : {1, 2, 7, 9, 47, 48, 49, 100, 131})
        for (const int k : {1, 3, 31, 64, 65, 257, 300})
            for (const int d : {1, 5, 16, 33}) check(problem(q, k, d, (d * 7 + q) % 40 + 1, kCausal), static_cast<uint32_t>(q * 1000 + k));
}

TEST_CASE("head dimensions from 1 to 512") {
    for (const int d : {1, 2, 3, 4, 8, 15, 17, 24, 32, 48, 63, 64, 65, 80, 96, 127, 128, 160, 192, 256, 320, 511, 512}) {
        check(problem(20, 70, d, 24));
        check(problem(20, 70, 24, d));
        check(problem(3, 70, d, d));
    }
}

TEST_CASE("every variant, packed and streamed, in every type") {
    for (int mode = kNone; mode <= kInfinite; ++mode) {
        for (const DType type : {DType::F32, DType::F16, DType::BF16}) {
            for (const int q : {5, 150}) {
                Problem p = problem(q, 333, 40, 24, static_cast<Mode>(mode), type);
                p.B = 2;
                p.H = 6;
                p.HKV = q == 5 ? 6 : 2;
                check(p);
            }
        }
    }
}

TEST_CASE("f16 and bf16 at odd sizes, heads in groups") {
    for (const DType type : {DType::F16, DType::BF16}) {
        for (const int q : {1, 17, 129}) {
            for (const int k : {1, 17, 129}) {
                for (const int d : {1, 17, 129}) {
                    Problem p = problem(q, k, d, (d + 2 * k) % 131 + 1, kAlibiCausal, type);
                    p.H = 6;
                    p.HKV = 2;
                    check(p);
                }
            }
        }
    }
}

TEST_CASE("groups of heads, and one batch of keys for all") {
    for (const int hkv : {1, 2, 4, 8}) {
        for (const int q : {1, 3, 30, 60}) {
            Problem p = problem(q, 129, 16, 16, kHeads);
            p.B = 3;
            p.H = 8;
            p.HKV = hkv;
            p.one_kv_batch = q == 3 || q == 60;
            check(p);
        }
    }
}

TEST_CASE("nothing to do") {
    Problem p = problem(0, 5, 8, 8);
    check(p);
    p = problem(5, 0, 8, 8);
    check(p);
    p = problem(100, 0, 8, 8);
    check(p);
    p = problem(5, 5, 8, 8);
    p.B = 0;
    check(p);
    p = problem(5, 5, 8, 8);
    p.H = p.HKV = 0;
    Data data(p);
    for (const int n : host_lanes()) CHECK(launch(data, n).ok());
}

TEST_CASE("rows without keys are zero, lse and max_score -inf") {
    for (const int q : {2, 70}) {
        Data data(problem(q, 90, 16, 20, kNothing));
        for (const int n : host_lanes()) {
            CpuStats stats;
            CHECK(launch(data, n, true, 1, &stats).ok());
            CHECK(stats.tiles_visited == 0);
            for (int i = 0; i < q; ++i) {
                CHECK(get(data.arrays.o, {0, 0, i, 7}) == 0.0);
                CHECK(data.lse[static_cast<size_t>(i)] == -std::numeric_limits<float>::infinity());
                CHECK(data.max_score[static_cast<size_t>(i)] == -std::numeric_limits<float>::infinity());
            }
        }
    }
}

TEST_CASE("keys split over work items") {
    for (const int q : {1, 8, 60}) {
        for (const Mode mode : {kNone, kAlibiCausal, kNothing, kInfinite}) {
            Problem p = problem(q, 5000, 16, 24, mode);
            p.H = 2;
            check(p);
        }
    }
}

TEST_CASE("the result does not depend on the number of threads") {
    for (const int q : {1, 70, 1300}) {
        Problem p = problem(q, q == 1 ? 6000 : 700, 32, 40, kAlibiCausal);
        p.H = 4;
        p.HKV = 2;
        for (const int n : host_lanes()) {
            Data one(p);
            CHECK(launch(one, n, true, 1).ok());
            for (const int threads : {2, 3, 7, 16}) {
                Data many(p);
                CHECK(launch(many, n, true, threads).ok());
                CHECK(many.o == one.o);
                CHECK(std::memcmp(many.lse.data(), one.lse.data(), one.lse.size() * sizeof(float)) == 0);
            }
        }
    }
}

TEST_CASE("NaN and inf stay in the rows that attend to them") {
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    const auto place = [&](int q, Mode mode, DType type, float value, int key) {
        Data data(problem(q, 100, 20, 33, mode, type));
        set(data.arrays.v, {0, 0, key, 32}, value);
        set(data.arrays.v, {0, 0, key, 3}, value);
        set(data.arrays.k, {0, 0, (key + 50) % 100, 11}, nan);
        set(data.arrays.q, {0, 0, q / 2, 19}, nan);
        const Expected want = naive(data);
        for (const int n : host_lanes()) {
            for (const bool tight : {false, true}) {
                CAPTURE(static_cast<int>(mode));
                CAPTURE(name(type));
                CAPTURE(value);
                CAPTURE(key);
                CAPTURE(n);
                CHECK(launch(data, n, tight).ok());
                CHECK(error(data, want) <= tolerance(type));
            }
        }
    };
    for (const DType type : {DType::F32, DType::F16, DType::BF16})
        for (const int q : {4, 100})
            for (const Mode mode : {kCausal, kWindow, kDocument, kHoles, kNone, kInfinite})
                for (const float value : {nan, inf, -inf})
                    for (const int key : {0, 17, 66, 99}) place(q, mode, type, value, key);
}

TEST_CASE("strides: transposed heads, negative, padded, unaligned, shared") {
    const int B = 2, H = 4, HKV = 2, Q = 60, K = 90, D = 20, DV = 12;
    Problem p = problem(Q, K, D, DV, kCausal);
    p.B = B;
    p.H = H;
    p.HKV = HKV;
    Data plain(p);
    const Expected want = naive(plain);
    for (const int n : host_lanes()) {
        for (const int queries : {Q, 2}) {
            Data data(p);
            // [B, N, heads, dim + 3], rows stored backwards, one float past an aligned address.
            const auto rearrange = [](const Tensor& from, std::vector<float>& storage) {
                const int64_t b = from.shape[0], h = from.shape[1], rows = from.shape[2], d = from.shape[3];
                storage.assign(static_cast<size_t>(b * h * rows * (d + 3) + 1), std::numeric_limits<float>::quiet_NaN());
                Tensor to = from;
                to.stride = {rows * h * (d + 3), d + 3, -h * (d + 3), 1};
                to.data = storage.data() + 1 + (rows - 1) * h * (d + 3);
                for (int64_t i = 0; i < b; ++i)
                    for (int64_t j = 0; j < h; ++j)
                        for (int64_t r = 0; r < rows; ++r)
                            for (int64_t c = 0; c < d; ++c) set(to, {i, j, r, c}, static_cast<float>(get(from, {i, j, r, c})));
                return to;
            };
            std::vector<float> q, k, v, o;
            data.arrays.q = rearrange(plain.arrays.q, q);
            data.arrays.k = rearrange(plain.arrays.k, k);
            data.arrays.v = rearrange(plain.arrays.v, v);
            data.arrays.o = rearrange(plain.arrays.o, o);
            data.arrays.lse = {};
            data.arrays.max_score = {};
            const std::vector<float> before = o;
            if (queries == Q) {
                CHECK(launch(data, n).ok());
                CHECK(error(data, want) <= 2e-5);
            } else {
                data.arrays.q.shape[2] = data.arrays.o.shape[2] = queries;
                CHECK(launch(data, n).ok());
                for (int64_t c = 0; c < DV; ++c)
                    CHECK(get(data.arrays.o, {1, 3, 1, c}) ==
                          doctest::Approx(want.o[static_cast<size_t>(((7 * Q) + 1) * DV + c)]).epsilon(1e-4));
            }
            // Nothing between the rows was touched.
            for (size_t i = 0; i < o.size(); ++i)
                if (i == 0 || (i - 1) % (DV + 3) >= DV) CHECK(std::memcmp(&o[i], &before[i], sizeof(float)) == 0);
        }
    }
    // One row of keys for all positions.
    Data data(p);
    for (Tensor* t : {&data.arrays.k, &data.arrays.v}) t->stride[2] = 0;
    const Expected same = naive(data);
    for (const int n : host_lanes()) {
        CHECK(launch(data, n).ok());
        CHECK(error(data, same) <= 2e-5);
    }
}

TEST_CASE("tiles are skipped and counted") {
    Data data(problem(1024, 1024, 16, 16, kCausal));
    CpuStats tight, loose;
    const int n = host_lanes().back();
    CHECK(launch(data, n, true, 1, &tight).ok());
    CHECK(launch(data, n, false, 1, &loose).ok());
    CHECK(tight.tiles_visited < loose.tiles_visited * 2 / 3);
    CHECK(tight.tiles_full > tight.tiles_visited / 4);
    CHECK(loose.tiles_full == 0);
    CHECK(tight.workspace_bytes > 0);
    CHECK(tight.workspace_bytes < 2 << 20);
}

TEST_CASE("launches from several threads at once") {
    Problem p = problem(200, 200, 16, 16, kCausal);
    p.H = 4;
    p.HKV = 4;
    const int n = host_lanes().back();
    Data alone(p);
    CHECK(launch(alone, n, true, 1).ok());
    std::vector<Data> copies;
    for (int i = 0; i < 6; ++i) copies.emplace_back(p);
    std::vector<std::thread> threads;
    for (Data& data : copies) {
        threads.emplace_back([&data, n] {
            for (int i = 0; i < 5; ++i)
                if (!launch(data, n, true, 3).ok()) data.o.clear();
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Data& data : copies) CHECK(data.o == alone.o);
}

TEST_CASE("kernels that this machine or runtime cannot run are refused") {
    Data data(problem(4, 4, 4, 4));
    flex_cpu_kernel kernel = plain_kernel(4, true);
    kernel.abi_version += 1;
    CHECK(launch_cpu(plain_desc(), kernel, data.arrays, data.args()).code() == Code::Unsupported);
    kernel = plain_kernel(4, true);
    kernel.lanes = 32;
    CHECK(launch_cpu(plain_desc(), kernel, data.arrays, data.args()).code() == Code::Unsupported);
}
