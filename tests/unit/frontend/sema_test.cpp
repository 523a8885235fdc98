// The parts of names and types that programs do not show directly. What programs mean is tested in tests/language, what is
// refused in tests/golden.
#include <doctest/doctest.h>

#include <bit>

#include "frontend/frontend.h"
#include "frontend/sema_const.h"
#include "frontend/sema_dims.h"
#include "frontend/sema_names.h"

using namespace flexc;
using sema::Agreement;
using sema::Type;

namespace {

struct Checked {
    diag::SourceManager sources;
    diag::Sink sink;
    std::unique_ptr<frontend::Program> program;

    explicit Checked(const std::string& text, const std::map<std::string, std::string>& files = {}) {
        frontend::ImportResolver resolver;
        resolver.read_file = [&files](const std::filesystem::path& path) -> std::optional<std::string> {
            const auto found = files.find(path.generic_string());
            return found == files.end() ? std::nullopt : std::optional(found->second);
        };
        program = frontend::check(sources, sources.add("dir/main.flex", text), resolver, sink);
    }

    [[nodiscard]] std::vector<std::string> codes() const {
        std::vector<std::string> result;
        for (const diag::Diagnostic& d : sink.all()) result.emplace_back(diag::info(d.kind).code);
        return result;
    }
};

ir::Dim extent(int32_t multiplier, int32_t id, int64_t offset) {
    return {multiplier, id, offset};
}
ir::Dim constant(int64_t value) {
    return {0, -1, value};
}

}  // namespace

TEST_CASE("values of constant parameters are read exactly or not at all") {
    const auto i32 = [](std::string_view text) { return sema::parse_value(text, Type::I32); };
    CHECK(static_cast<int32_t>(i32("-2147483648")->bits) == INT32_MIN);
    CHECK(i32("2147483647")->bits == 2147483647u);
    CHECK(i32("0x10")->bits == 16);
    CHECK(i32("1_000")->bits == 1000);
    CHECK(i32("+7")->bits == 7);
    for (const char* bad : {"", "-", "2147483648", "-2147483649", "1.0", "1e3", "abc", "12a", "0x", "--1", " 1", "99999999999999999999999"})
        CHECK_MESSAGE(!i32(bad), bad);

    const auto f32 = [](std::string_view text) { return sema::parse_value(text, Type::F32); };
    CHECK(std::bit_cast<float>(f32("0.5")->bits) == 0.5f);
    CHECK(std::bit_cast<float>(f32("3")->bits) == 3.0f);
    CHECK(std::bit_cast<float>(f32("-1e-60")->bits) == 0.0f);
    CHECK(std::bit_cast<float>(f32("inf")->bits) > 3e38f);
    for (const char* bad : {"", "x", "1e99", "1.0f", "1,5"}) CHECK_MESSAGE(!f32(bad), bad);

    CHECK(sema::parse_value("true", Type::Bool)->bits == 1);
    CHECK(sema::parse_value("0", Type::Bool)->bits == 0);
    CHECK(!sema::parse_value("yes", Type::Bool));
}

TEST_CASE("extents are the same, different, or unknown until launch") {
    CHECK(sema::compare(constant(3), constant(3)) == Agreement::Same);
    CHECK(sema::compare(constant(3), constant(4)) == Agreement::Different);
    CHECK(sema::compare(extent(1, 7, 0), extent(1, 7, 1)) == Agreement::Different);
    CHECK(sema::compare(extent(2, 7, 1), extent(2, 7, 1)) == Agreement::Same);
    CHECK(sema::compare(extent(1, 7, 0), extent(2, 7, 0)) == Agreement::Unknown);
    CHECK(sema::compare(extent(1, 7, 0), extent(1, 8, 0)) == Agreement::Unknown);
    CHECK(sema::compare(extent(1, 1, 0), constant(8)) == Agreement::Unknown);
}

TEST_CASE("free extents are solved from what is passed") {
    sema::Decl callee;
    callee.free_extents = {"N"};
    const auto tensor = [](std::vector<ir::Dim> dims) {
        sema::Param p;
        p.kind = sema::Param::Kind::Tensor;
        p.dims = std::move(dims);
        return p;
    };
    callee.params = {tensor({extent(2, 7, 1)}), tensor({extent(1, 7, 0), constant(4)})};
    using Dims = std::vector<ir::Dim>;
    const auto bind = [&](const Dims& a, const Dims& b) { return sema::bind_extents(callee, {&a, &b}); };

    const auto exact = bind({constant(9)}, {constant(4), constant(4)});  // 2 N + 1 = 9
    CHECK(exact.free[0] == constant(4));
    CHECK(exact.conflicts.empty());
    CHECK(exact.constraints.empty());

    const auto conflict = bind({constant(9)}, {constant(5), constant(4)});
    CHECK(conflict.conflicts.size() == 1);
    CHECK(conflict.conflicts[0].param == 1);

    // 2 N + 1 = 4 M + 3, so N = 2 M + 1.
    const auto symbolic = bind({extent(4, 9, 3)}, {extent(1, 8, 0), constant(4)});
    CHECK(symbolic.free[0] == extent(2, 9, 1));
    REQUIRE(symbolic.constraints.size() == 1);
    CHECK(symbolic.constraints[0].wanted == extent(2, 9, 1));

    // The first dimension cannot say what N is, the second can.
    const auto second = bind({extent(1, 9, 0)}, {extent(1, 8, 0), constant(4)});
    CHECK(second.free[0] == extent(1, 8, 0));
    REQUIRE(second.constraints.size() == 1);
    CHECK(second.constraints[0].wanted == extent(2, 8, 1));

    sema::Decl half;
    half.free_extents = {"N"};
    half.params = {tensor({extent(2, 7, 0)})};
    const Dims odd = {constant(7)};
    CHECK(sema::bind_extents(half, {&odd}).unsolved == std::optional<uint32_t>(0));
}

TEST_CASE("every builtin name is owned, and owned names are found") {
    for (const std::string& name : sema::language_names()) CHECK_MESSAGE(!sema::owner_of(name).empty(), name);
    CHECK(sema::owner_of("d").empty());
    CHECK(sema::owner_of("window").empty());
    CHECK(sema::foreign_name("kv_idx") == "k");
    CHECK(sema::foreign_type("bfloat16") == "bf16");
}

TEST_CASE("a program lists its attentions, constant parameters and files") {
    const Checked c(
        "import \"a.flex\"; import std; ## One.\nattention one(const n: i32, x: f32, const m: i32 = 2) { score = score * x + f32(n + m + "
        "A); mask = causal(); }"
        "attention two {}",
        {{"dir/a.flex", "import \"sub/b.flex\"; const A: i32 = B2; attention hidden {}"}, {"dir/sub/b.flex", "const B2: i32 = 1;"}});
    REQUIRE_MESSAGE(c.program, diag::render_all(c.sources, c.sink, false));
    REQUIRE(c.program->attentions().size() == 2);
    CHECK(c.program->attentions()[0].const_params == std::vector<std::string>{"n", "m"});
    CHECK(c.program->files() == std::vector<std::string>{"dir/main.flex", "dir/a.flex", "dir/sub/b.flex"});
}

TEST_CASE("all declarations are checked, used or not, and each mistake once") {
    const Checked c("fn f(x: i32) -> f32 = x; mask m() = score > 0; attention a { score = unknown + unknown2; mask = m() and m(); }");
    CHECK(!c.program);
    CHECK(c.codes() == std::vector<std::string>{"E2003", "E2032", "E2001", "E2001"});
}

TEST_CASE("an error in an imported file or a broken file still lets the rest be checked") {
    const Checked c("import \"a.flex\"; attention a { score = ; } attention b2 { mask = score > 0; }", {{"dir/a.flex", "mask m() = 1;"}});
    CHECK(!c.program);
    CHECK(c.sink.all().size() == 3);
}

TEST_CASE("warnings do not fail a program, and the standard library gives none") {
    const Checked c("import std; attention a(x: f32) { let y = 1; mask = causal(); }");
    REQUIRE(c.program);
    CHECK(c.codes() == std::vector<std::string>{"W2101", "W2102"});
}
