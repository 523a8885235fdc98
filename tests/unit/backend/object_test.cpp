// What compile_object makes as a file: its symbols, what the loader refuses, and the time that it all takes.
#include <elf.h>

#include <doctest/doctest.h>
#include <chrono>
#include <cstring>

#include "backend/nvptx/compile.h"
#include "variant.h"

using namespace flexc;
using ir::NodeId;
using ir::Op;
using test::Variant;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// causal, or with everything: ALiBi, a soft cap, documents and a window.
void fill(Variant& v, bool rich) {
    const NodeId causal = v.make(Op::Le, {v.k, v.q});
    v.attention.mask = causal;
    if (!rich) return;
    const uint32_t slope = v.tensor(ir::ElemType::F32, {4}, {0.5, 0.25, 0.125, 0.0625});
    std::vector<double> ids(37);
    for (size_t i = 0; i < ids.size(); i++) ids[i] = double(i / 9);
    const uint32_t doc = v.free_tensor(ir::ElemType::I32, 37, ids);
    const NodeId distance = v.make(Op::ToF32, {v.make(Op::Sub, {v.k, v.q})});
    const NodeId biased = v.make(Op::Add, {v.score, v.make(Op::Mul, {v.load(slope, {v.h}), distance})});
    const NodeId cap = v.g.f32(30);
    v.attention.score = v.make(Op::Mul, {cap, v.make(Op::Tanh, {v.make(Op::Div, {biased, cap})})});
    const NodeId same = v.make(Op::Eq, {v.load(doc, {v.q}), v.load(doc, {v.k})});
    const NodeId near = v.make(Op::Le, {v.make(Op::Sub, {v.q, v.k}), v.scalar_i32(1024)});
    v.attention.mask = v.make(Op::And, {causal, v.make(Op::And, {same, near})});
}

}  // namespace

TEST_CASE("time to compile and to load") {
    for (const bool rich : {false, true}) {
        Variant v;
        fill(v, rich);
        for (const flex::CpuLevel level : test::levels()) {
            for (int run = 0; run < 3; run++) {
                cpu::Timings t;
                auto start = std::chrono::steady_clock::now();
                auto object = cpu::compile_object(v.attention, {.level = level}, &t);
                const double compile = seconds_since(start);
                const size_t size = object.size();
                start = std::chrono::steady_clock::now();
                std::string error;
                const auto kernel = cpu::load_object("variant", std::move(object), &error);
                const double load = seconds_since(start);
                REQUIRE(kernel);
                CHECK(compile < 2.0);
                CHECK(load < 0.1);
                MESSAGE(std::string(rich ? "rich " : "causal ")
                        << std::string(flex::name(level)) << ": lower " << t.lower * 1e3 << " optimise " << t.optimise * 1e3 << " codegen "
                        << t.codegen * 1e3 << " total " << compile * 1e3 << " ms, load " << load * 1e6 << " us, " << size << " bytes");
            }
        }
    }
}

TEST_CASE("an object exports its kernel and needs nothing") {
    for (const flex::CpuLevel level : test::levels()) {
        Variant v;
        fill(v, true);
        // All functions that are calls, and everything that could become memset or a library function.
        NodeId x = v.attention.score;
        for (const Op op : {Op::Sin, Op::Cos, Op::Tan, Op::Exp, Op::Exp2, Op::Log, Op::Log2, Op::Erf, Op::Sigmoid, Op::Floor, Op::Ceil,
                            Op::Round, Op::Sqrt})
            x = v.make(op, {x});
        const uint32_t half = v.tensor(ir::ElemType::F16, {4}, {1, 2, 3, 4});
        x = v.make(Op::Pow, {x, v.load(half, {v.h})});
        v.attention.score = v.make(Op::Min, {x, v.make(Op::ToF32, {v.make(Op::ToI32, {v.load(half, {v.k})})})});
        v.attention.name = "with_functions";
        const auto object = cpu::compile_object(v.attention, {.level = level}, nullptr);
        const auto read = [&]<class T>(T, size_t offset) {
            T value;
            REQUIRE(offset + sizeof value <= object.size());
            std::memcpy(&value, object.data() + offset, sizeof value);
            return value;
        };
        const auto header = read(Elf64_Ehdr{}, 0);
        std::vector<std::string> defined;
        for (size_t i = 0; i < header.e_shnum; i++) {
            const auto section = read(Elf64_Shdr{}, header.e_shoff + i * sizeof(Elf64_Shdr));
            if (section.sh_type != SHT_SYMTAB) continue;
            const auto strings = read(Elf64_Shdr{}, header.e_shoff + section.sh_link * sizeof(Elf64_Shdr));
            for (size_t s = 1; s < section.sh_size / sizeof(Elf64_Sym); s++) {
                const auto symbol = read(Elf64_Sym{}, section.sh_offset + s * sizeof(Elf64_Sym));
                const std::string name = object.data() + strings.sh_offset + symbol.st_name;
                CAPTURE(name);
                CHECK(symbol.st_shndx != SHN_UNDEF);
                if (ELF64_ST_BIND(symbol.st_info) != STB_LOCAL) defined.push_back(name);
            }
        }
        CHECK(defined == std::vector<std::string>{"flex_cpu_kernel_with_functions"});
    }
}

TEST_CASE("the same attention gives the same object") {
    for (const flex::CpuLevel level : test::levels()) {
        Variant v;
        fill(v, true);
        CHECK(cpu::compile_object(v.attention, {.level = level}, nullptr) == cpu::compile_object(v.attention, {.level = level}, nullptr));
        CHECK(cpu::target_identity({.level = level}).find(flex::name(level)) != std::string::npos);
    }
}

TEST_CASE("a damaged object is refused, whatever the damage") {
    Variant v;
    fill(v, true);
    const auto object = cpu::compile_object(v.attention, {.level = flex::CpuLevel::Generic}, nullptr);
    std::string error;
    CHECK(cpu::load_object("variant", object, &error) != nullptr);
    CHECK(cpu::load_object("other", object, &error) == nullptr);
    CHECK(error == "the object does not define the kernel");
    for (size_t size = 0; size < object.size(); size += 61) {
        auto cut = object;
        cut.resize(size);
        error.clear();
        CHECK(cpu::load_object("variant", cut, &error) == nullptr);
        CHECK(!error.empty());
    }
    // Any byte may change; the loader must neither crash nor read beyond. (What the code then does is another matter: it is not run.)
    for (size_t at = 0; at < object.size(); at++)
        for (const char bit : {'\x01', '\x80'}) {
            auto changed = object;
            changed[at] = char(changed[at] ^ bit);
            (void)cpu::load_object("variant", std::move(changed), &error);
        }
}

TEST_CASE("clauses that this target lacks are named as written") {
    Variant v;
    CHECK(cpu::unsupported_clauses(v.attention).empty());
    v.attention.normalize = ir::Normalize::Sigmoid;
    v.attention.sink = v.g.f32(1);
    v.attention.emits.push_back({"entropy", ir::Emit::Kind::Mean, v.g.f32(1)});
    CHECK(cpu::unsupported_clauses(v.attention) == std::vector<std::string>{"emit entropy"});
    CHECK(nvptx::unsupported_clauses(v.attention) == std::vector<std::string>{"normalize sigmoid", "sink", "emit entropy"});
}

TEST_CASE("the description says what a launch takes") {
    Variant v;
    v.scalar_f32(1);
    v.attention.params[0].default_bits = 0x3f800000;
    v.free_tensor(ir::ElemType::I8, 3, {1, 2, 3});
    const flex::KernelDesc desc = cpu::describe(v.attention);
    CHECK(desc.name == "variant");
    REQUIRE(desc.params.size() == 2);
    CHECK(desc.params[0].has_default);
    CHECK(desc.params[0].default_bits == 0x3f800000);
    CHECK(desc.params[1].is_tensor);
    CHECK(desc.params[1].dtype == flex::DType::I8);
    REQUIRE(desc.params[1].dims.size() == 1);
    CHECK(desc.params[1].dims[0].extent == ir::kBuiltinExtents);
    CHECK(desc.extents.size() == 1);
}
