// What bind() accepts, and what it says of what it does not.
#include <doctest/doctest.h>

#include <string>

#include "plain_kernel.h"
#include "runtime/launch.h"

using namespace flex;
using namespace flex::test;

namespace {

ParamDesc tensor(const char* name, DType type, std::vector<DimDesc> dims) {
    ParamDesc param;
    param.name = name;
    param.is_tensor = true;
    param.dtype = type;
    param.dims = std::move(dims);
    return param;
}

ParamDesc scalar(const char* name, DType type) {
    ParamDesc param;
    param.name = name;
    param.dtype = type;
    return param;
}

// attention packed(doc: i32[N], off: i32[N + 1], table: f32[H, 2 * M - 1, 4], slope: f32, window: i32 = 1024, flag: bool)
KernelDesc packed_desc() {
    KernelDesc desc;
    desc.name = "packed";
    desc.extents = {"N", "M"};
    desc.params = {tensor("doc", DType::I32, {{1, 7, 0}}),
                   tensor("off", DType::I32, {{1, 7, 1}}),
                   tensor("table", DType::F32, {{1, 1, 0}, {2, 8, -1}, {0, -1, 4}}),
                   scalar("slope", DType::F32),
                   scalar("window", DType::I32),
                   scalar("flag", DType::Bool)};
    desc.params[4].has_default = true;
    desc.params[4].default_bits = 1024;
    return desc;
}

struct Call {
    KernelDesc desc = packed_desc();
    std::vector<float> memory = std::vector<float>(4096, 1.5f);
    AttentionArrays arrays;
    std::vector<Argument> args;
    BoundExtents extents;

    Tensor make(DType type, std::initializer_list<int64_t> shape) { return Tensor::contiguous(memory.data(), type, shape); }
    Call() {
        arrays.q = make(DType::F32, {2, 4, 5, 8});
        arrays.k = make(DType::F32, {2, 2, 7, 8});
        arrays.v = make(DType::F32, {1, 2, 7, 3});
        arrays.o = make(DType::F32, {2, 4, 5, 3});
        args = {{"doc", make(DType::I32, {6})},  {"off", make(DType::I32, {7})},   {"table", make(DType::F32, {4, 9, 4})},
                {"slope", make(DType::F32, {})}, {"window", make(DType::I32, {})}, {"flag", make(DType::Bool, {})}};
    }
    Tensor& arg(const std::string& name) {
        for (Argument& a : args)
            if (a.name == name) return a.value;
        return args.front().value;
    }
    std::string text() {
        const Status status = bind(desc, arrays, args, &extents);
        return status.ok() ? "ok" : status.text();
    }
};

/// The message must hold all the pieces.
void expect(Call& call, std::initializer_list<const char*> pieces) {
    const std::string text = call.text();
    for (const char* piece : pieces) CHECK_MESSAGE(text.find(piece) != std::string::npos, text << " lacks " << piece);
}

}  // namespace

TEST_CASE("extents are solved") {
    Call call;
    CHECK(call.text() == "ok");
    CHECK(call.extents.values == std::vector<int32_t>{2, 4, 2, 5, 7, 8, 3, 6, 5});
}

TEST_CASE("a later array may fix an extent") {
    Call call;
    std::swap(call.desc.params[0], call.desc.params[1]);
    CHECK(call.text() == "ok");
    call.arg("off") = call.make(DType::I32, {0});
    expect(call, {"`off` must be i32[N + 1], got i32[0]", "no N gives"});
}

TEST_CASE("arguments that do not fit are named with what was declared and given") {
    const struct {
        const char* name;
        DType type;
        std::initializer_list<int64_t> shape;
        const char* declared;
        const char* given;
    } cases[] = {{"doc", DType::F32, {6}, "i32[N]", "f32[6]"},
                 {"doc", DType::I32, {6, 1}, "i32[N]", "i32[6, 1]"},
                 {"off", DType::I32, {8}, "i32[N + 1]", "i32[8]"},
                 {"table", DType::F32, {3, 9, 4}, "f32[H, 2 * M - 1, 4]", "f32[3, 9, 4]"},
                 {"table", DType::F32, {4, 8, 4}, "f32[H, 2 * M - 1, 4]", "f32[4, 8, 4]"},
                 {"table", DType::F32, {4, 9, 5}, "f32[H, 2 * M - 1, 4]", "f32[4, 9, 5]"},
                 {"slope", DType::F32, {1}, "f32", "f32[1]"},
                 {"slope", DType::I32, {}, "f32", "i32"},
                 {"doc", DType::I32, {}, "i32[N]", "i32"}};
    for (const auto& c : cases) {
        Call call;
        call.arg(c.name) = call.make(c.type, c.shape);
        expect(call, {c.name, c.declared, c.given});
    }
    Call call;
    call.arg("off") = call.make(DType::I32, {8});
    expect(call, {"N = 6 as in `doc`"});
}

TEST_CASE("names of arguments") {
    Call call;
    call.args.push_back({"slop", call.make(DType::F32, {})});
    expect(call, {"`slop`", "`packed`", "`slope`"});
    call = Call();
    call.args.push_back(call.args[0]);
    expect(call, {"`doc` is given twice"});
    call = Call();
    call.args.erase(call.args.begin());
    expect(call, {"`packed` needs `doc`, an i32[N]"});
    call = Call();
    call.args.erase(call.args.begin() + 4);
    CHECK(call.text() == "ok");
    call.arg("doc").data = nullptr;
    expect(call, {"`doc`", "without data"});
}

TEST_CASE("arrays that do not fit each other") {
    const auto with = [](auto change, std::initializer_list<const char*> pieces) {
        Call call;
        change(call);
        expect(call, pieces);
    };
    with([](Call& c) { c.arrays.q.dtype = DType::I32; }, {"`q`", "f32, f16 or bf16", "i32[2, 4, 5, 8]"});
    with([](Call& c) { c.arrays.q.rank = 3; }, {"`q`", "[B, H, Q, D]"});
    with([](Call& c) { c.arrays.k.dtype = DType::F16; }, {"`k`", "f32[B, HKV, K, D]", "f16[2, 2, 7, 8]"});
    with([](Call& c) { c.arrays.k = c.make(DType::F32, {3, 2, 7, 8}); }, {"`k`", "batch must be 1 or B = 2"});
    with([](Call& c) { c.arrays.k = c.make(DType::F32, {2, 3, 7, 8}); }, {"`v`", "HKV = 3"});
    with(
        [](Call& c) {
            c.arrays.k = c.arrays.v = c.make(DType::F32, {2, 3, 7, 8});
            c.arrays.o = c.make(DType::F32, {2, 4, 5, 8});
        },
        {"H = 4", "multiple of HKV = 3"});
    with([](Call& c) { c.arrays.k = c.make(DType::F32, {2, 2, 7, 9}); }, {"`k`", "D = 8 as in `q`"});
    with([](Call& c) { c.arrays.v = c.make(DType::F32, {2, 2, 6, 3}); }, {"`v`", "K = 7 as in `k`"});
    with([](Call& c) { c.arrays.o = c.make(DType::F32, {2, 4, 5, 4}); }, {"`o`", "DV = 3 as in `v`"});
    with([](Call& c) { c.arrays.o.stride[1] = 0; }, {"`o`", "stride 0"});
    with([](Call& c) { c.arrays.q.stride[3] = 2; }, {"`q`", "contiguous in its last dimension"});
    with([](Call& c) { c.arrays.q.shape[2] = int64_t{1} << 31; }, {"`q`", "2147483648"});
    with([](Call& c) { c.arrays.v.data = nullptr; }, {"`v`", "without data"});
    with([](Call& c) { c.arrays.lse = c.make(DType::F32, {2, 4, 6}); }, {"`lse`", "Q = 5"});
    with([](Call& c) { c.arrays.max_score = c.make(DType::F16, {2, 4, 5}); }, {"`max_score`", "f32[B, H, Q]"});
    with(
        [](Call& c) {
            c.arrays.q = c.make(DType::F32, {1, 1, 1, 513});
            c.arrays.k = c.arrays.q;
            c.arrays.v = c.arrays.o = c.make(DType::F32, {1, 1, 1, 3});
        },
        {"D = 513", "[1, 512]"});
    with(
        [](Call& c) {
            c.arrays.v = c.make(DType::F32, {2, 2, 7, 0});
            c.arrays.o = c.make(DType::F32, {2, 4, 5, 0});
        },
        {"DV = 0", "[1, 512]"});
}

TEST_CASE("rules between extents") {
    Call call;
    call.desc.rules = {{{1, 7, 0}, {1, 3, 1}, "`doc` is indexed by q"}};
    CHECK(call.text() == "ok");
    call.desc.rules = {{{2, 7, 0}, {1, 4, 0}, "both are lengths"}};
    expect(call, {"2 * N must equal K, got 12 and 7", "both are lengths"});
}

TEST_CASE("extents given without arrays") {
    Call call;
    BoundExtents extents;
    CHECK(bind_args(call.desc, {1, 4, 2, 1 << 30, 0, 64, 64}, call.args, &extents).ok());
    CHECK(extents.values[3] == 1 << 30);
    CHECK(!bind_args(call.desc, {1, 4, 3, 8, 8, 64, 64}, call.args, &extents).ok());
    CHECK(!bind_args(call.desc, {1, 4, 0, 8, 8, 64, 64}, call.args, &extents).ok());
    CHECK(!bind_args(call.desc, {-1, 4, 2, 8, 8, 64, 64}, call.args, &extents).ok());
}

TEST_CASE("packed arguments") {
    Call call;
    REQUIRE(call.text() == "ok");
    const float slope = -2.5f;
    const uint8_t flag = 7;
    std::vector<int32_t> doc(12, 3);
    call.arg("slope") = Tensor::contiguous(const_cast<float*>(&slope), DType::F32, {});
    call.arg("flag") = Tensor::contiguous(const_cast<uint8_t*>(&flag), DType::Bool, {});
    call.arg("doc").data = doc.data();
    call.arg("doc").stride[0] = 2;
    call.args.erase(call.args.begin() + 4);  // window: default
    PackedArgs packed;
    REQUIRE(pack(call.desc, call.extents, call.args, &packed).ok());
    CHECK(packed.c.extents[7] == 6);
    CHECK(packed.c.scalars[3] == 0xc0200000u);
    CHECK(packed.c.scalars[4] == 1024);
    CHECK(packed.c.scalars[5] == 1);
    CHECK(packed.c.tensors[0].data == doc.data());
    CHECK(packed.c.tensors[0].stride[0] == 2);
    CHECK(packed.c.tensors[0].dim[0] == 6);
    CHECK(packed.c.tensors[2].dim[1] == 9);
    CHECK(packed.c.tensors[2].stride[0] == 36);
}

TEST_CASE("gradients that do not fit are named as users know them") {
    struct Gradients : Call {
        GradientArrays gradients;
        Gradients() {
            desc.params[2].grad = true;
            arrays.lse = make(DType::F32, {2, 4, 5});
            gradients.d_o = arrays.o;
            gradients.dq = arrays.q;
            gradients.dk = arrays.k;
            gradients.dv = arrays.v;
            gradients.d_lse = gradients.d_max_score = arrays.lse;
            gradients.d_params = {{"table", arg("table")}};
        }
        std::string said() {
            REQUIRE(text() == "ok");
            return bind_gradients(desc, arrays, gradients, extents).text();
        }
    };
    CHECK(Gradients().said().empty());
    const auto with = [](void (*change)(Gradients&), const std::string& wanted) {
        Gradients g;
        change(g);
        CHECK(g.said() == wanted);
    };
    with([](Gradients& g) { g.gradients.d_o = {}; }, "the backward pass needs `do`, f32[B, H, Q, DV]");
    with([](Gradients& g) { g.gradients.d_o.dtype = DType::F16; }, "`do` must be f32[B, H, Q, DV], got f16[2, 4, 5, 3]");
    with([](Gradients& g) { g.gradients.d_o.data = nullptr; }, "`do` is f32[2, 4, 5, 3] without data");
    with([](Gradients& g) { g.gradients.dq = g.make(DType::F32, {2, 4, 6, 8}); },
         "`dq` is f32[2, 4, 6, 8] and must have the shape of `q`, f32[2, 4, 5, 8]");
    with([](Gradients& g) { g.gradients.dv = g.make(DType::F32, {2, 2, 7, 3}); },
         "`dv` is f32[2, 2, 7, 3] and must have the shape of `v`, f32[1, 2, 7, 3]");
    with([](Gradients& g) { g.gradients.dk.stride[1] = 0; }, "`dk` is written and may not have stride 0 (dimension 1)");
    with([](Gradients& g) { g.gradients.dk.stride[3] = 2; }, "`dk` must be contiguous in its last dimension, got stride 2");
    with([](Gradients& g) { g.gradients.d_o.stride[0] = 0; }, "");  // is only read
    with([](Gradients& g) { g.arrays.lse = {}; }, "the backward pass needs `lse`, as the forward pass gave it");
    with([](Gradients& g) { g.gradients.d_lse = g.make(DType::F32, {2, 4, 6}); },
         "`dlse` is f32[2, 4, 6]: dimension 2 must be Q = 5 as in `q`");
    with([](Gradients& g) { g.gradients.d_max_score = g.make(DType::F16, {2, 4, 5}); },
         "`dmax_score` must be f32[B, H, Q], got f16[2, 4, 5]");
    with([](Gradients& g) { g.gradients.d_lse = g.gradients.d_max_score = {}; }, "");
    with([](Gradients& g) { g.gradients.d_params[0].value = g.make(DType::F32, {4, 8, 4}); },
         "`d_table` must be dense f32[H, 2 * M - 1, 4] like `table`, got f32[4, 8, 4]");
    with([](Gradients& g) { g.gradients.d_params[0].value.stride[0] = 72; },
         "`d_table` must be dense f32[H, 2 * M - 1, 4] like `table`, got f32[4, 9, 4]");
    with([](Gradients& g) { g.gradients.d_params[0].value.dtype = DType::F16; },
         "`d_table` must be dense f32[H, 2 * M - 1, 4] like `table`, got f16[4, 9, 4]");
    with([](Gradients& g) { g.gradients.d_params[0].value.data = nullptr; }, "`d_table` is f32[4, 9, 4] without data");
    with([](Gradients& g) { g.gradients.d_params.push_back(g.gradients.d_params[0]); }, "`d_table` is given twice");
    with([](Gradients& g) { g.gradients.d_params[0].name = "tabel"; },
         "there is no `d_tabel`: `packed` has no parameter `tabel`; it gives `d_table`");
    with(
        [](Gradients& g) {
            g.desc.params[2].grad = false;
            g.gradients.d_params[0].name = "slope";
        },
        "there is no `d_slope`: `packed` does not mark its parameter `slope` with `grad`");
}
