// Runs the cases through parse, check, lower and the interpreter; each also after the passes of the IR, which must not change a value.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "frontend/frontend.h"
#include "ir/interpret.h"
#include "ir/passes.h"
#include "tests/language/cases.h"

namespace flexc::language {

namespace {

frontend::ImportResolver resolver(const std::map<std::string, std::string>& files, const std::string& main_text) {
    return {[&files, main_text](const std::filesystem::path& path) -> std::optional<std::string> {
        if (path.generic_string() == "main.flex") return main_text;
        const auto found = files.find(path.generic_string());
        return found == files.end() ? std::nullopt : std::optional(found->second);
    }};
}

int32_t value_of(const ir::Dim& d, const std::vector<int32_t>& extents) {
    return static_cast<int32_t>((d.extent_id < 0 ? 0 : int64_t{d.multiplier} * extents[static_cast<size_t>(d.extent_id)]) + d.offset);
}

const Array* find(const Case& c, const std::string& name) {
    const auto found = std::find_if(c.arrays.begin(), c.arrays.end(), [&](const Array& a) { return a.name == name; });
    return found == c.arrays.end() ? nullptr : &*found;
}

/// Binds the case's arrays to the parameters, and the free extents by them.
std::optional<ir::Bindings> bind(const Case& c, const ir::Attention& a) {
    ir::Bindings out;
    out.extents = {c.shape.B, c.shape.H, c.shape.HKV, c.shape.Q, c.shape.K, c.shape.D, c.shape.DV};
    out.extents.resize(ir::kBuiltinExtents + a.extents.size(), -1);
    out.scalars.resize(a.params.size());
    out.tensors.resize(a.params.size());
    for (size_t i = 0; i < a.params.size(); ++i) {
        const ir::Param& p = a.params[i];
        const Array* array = find(c, p.name);
        if (!p.is_tensor) {
            if (!array && !p.default_bits) return std::nullopt;
            if (array)
                out.scalars[i] = array->values[0];
            else if (p.type == ir::Type::F32)
                out.scalars[i] = static_cast<double>(std::bit_cast<float>(*p.default_bits));
            else
                out.scalars[i] = static_cast<int32_t>(*p.default_bits);
            continue;
        }
        if (!array || array->shape.size() != p.dims.size()) return std::nullopt;
        out.tensors[i] = {array->shape, array->values};
        for (size_t d = 0; d < p.dims.size(); ++d) {
            const ir::Dim& dim = p.dims[d];
            if (dim.extent_id < ir::kBuiltinExtents) continue;
            int32_t& extent = out.extents[static_cast<size_t>(dim.extent_id)];
            if (extent < 0) extent = static_cast<int32_t>((array->shape[d] - dim.offset) / dim.multiplier);
        }
    }
    for (size_t i = 0; i < a.params.size(); ++i)
        for (size_t d = 0; d < a.params[i].dims.size(); ++d) CHECK(value_of(a.params[i].dims[d], out.extents) == out.tensors[i].dim[d]);
    for (const ir::ExtentConstraint& k : a.constraints)
        CHECK_MESSAGE(value_of(k.left, out.extents) == value_of(k.right, out.extents), k.reason);
    return out;
}

ir::AttentionInput input(const Case& c) {
    const Shape& s = c.shape;
    const auto ones = [](int32_t n) { return std::vector<double>(static_cast<size_t>(n), 1.0); };
    ir::AttentionInput in;
    in.kv_batch = s.B;
    in.q = ones(s.B * s.H * s.Q * s.D);
    in.k = ones(s.B * s.HKV * s.K * s.D);
    for (int32_t b = 0; b < s.B; ++b)
        for (int32_t h = 0; h < s.HKV; ++h)
            for (int32_t k = 0; k < s.K; ++k)
                for (int32_t d = 0; d < s.DV; ++d) in.v.push_back(100 * b + 10 * h + k);
    if (const Array* a = find(c, "q")) in.q = a->values;
    if (const Array* a = find(c, "k")) in.k = a->values;
    if (const Array* a = find(c, "v")) in.v = a->values;
    return in;
}

void compare(const Case& c, const ir::AttentionOutput& out, const std::string& when) {
    const Shape& s = c.shape;
    for (const Expected& e : c.expected) {
        const std::vector<double>* values = e.output == "o"           ? &out.o
                                            : e.output == "lse"       ? &out.lse
                                            : e.output == "max_score" ? &out.max_score
                                                                      : nullptr;
        int32_t inner = s.Q;
        for (const auto& [name, emitted] : out.emits)
            if (name == e.output) {
                values = &emitted;
                if (emitted.size() == static_cast<size_t>(s.B * s.H * s.K) && s.K != s.Q) inner = s.K;
            }
        CHECK_MESSAGE(values, e.output);
        if (!values) continue;
        size_t at = static_cast<size_t>((e.at[0] * s.H + e.at[1]) * inner + e.at[2]);
        if (e.output == "o") at = at * static_cast<size_t>(s.DV) + static_cast<size_t>(e.at[3]);
        CHECK(at < values->size());
        if (at >= values->size()) continue;
        const double got = (*values)[at];
        CAPTURE(when);
        CAPTURE(e.output);
        CAPTURE(at);
        if (std::isnan(e.value))
            CHECK_MESSAGE(std::isnan(got), got << " is not NaN");
        else if (std::isinf(e.value))
            CHECK(got == e.value);
        else
            CHECK_MESSAGE(std::abs(got - e.value) <= c.tolerance * std::max(1.0, std::abs(e.value)), got << " instead of " << e.value);
    }
}

void run(const Case& c) {
    diag::SourceManager sources;
    diag::Sink sink;
    const diag::FileId main = sources.add("main.flex", c.source);
    const auto program = frontend::check(sources, main, resolver(c.files, c.source), sink);
    CHECK_MESSAGE(program, diag::render_all(sources, sink, false));
    if (!program || program->attentions().size() != 1) return;
    std::optional<ir::Attention> a = frontend::lower(*program, program->attentions()[0].name, c.consts, sink);
    CHECK_MESSAGE(a, diag::render_all(sources, sink, false));
    if (!a) return;
    CHECK(ir::verify(*a) == "");
    const std::optional<ir::Bindings> bindings = bind(c, *a);
    CHECK(bindings);
    if (!bindings) return;
    compare(c, ir::interpret(*a, *bindings, input(c)), "as lowered");
    ir::optimise(*a);
    compare(c, ir::interpret(*a, *bindings, input(c)), "after the passes");
}

void run_section(const std::vector<Case>& cases) {
    CHECK(!cases.empty());
    for (const Case& c : cases) {
        SUBCASE(c.sentence.c_str()) {
            CAPTURE(c.source);
            run(c);
        }
    }
}

}  // namespace

TEST_CASE("language: text") {
    run_section(text_cases());
}
TEST_CASE("language: declarations") {
    run_section(declaration_cases());
}
TEST_CASE("language: expressions") {
    run_section(expression_cases());
}
TEST_CASE("language: the meaning of an attention") {
    run_section(meaning_cases());
}
TEST_CASE("language: clauses") {
    run_section(clause_cases());
}
TEST_CASE("language: std") {
    run_section(std_cases());
}

TEST_CASE("language: what is not allowed") {
    for (const Rejection& r : rejections()) {
        SUBCASE(r.sentence.c_str()) {
            CAPTURE(r.source);
            diag::SourceManager sources;
            diag::Sink sink;
            const auto program = frontend::check(sources, sources.add("main.flex", r.source), resolver(r.files, r.source), sink);
            if (program) CHECK(!frontend::lower(*program, "t", {}, sink));
            CHECK(sink.has_errors());
            size_t errors = 0;
            bool found = false;
            for (const diag::Diagnostic& d : sink.all()) {
                errors += d.level == diag::Level::Error;
                found |= diag::info(d.kind).code.starts_with(r.code);
            }
            CHECK_MESSAGE(found, diag::render_all(sources, sink, false));
            CHECK_MESSAGE(errors == 1, "one mistake, one diagnostic:\n" << diag::render_all(sources, sink, false));
        }
    }
}

TEST_CASE("language: a free name of one parameter list binds to one value at launch") {
    diag::SourceManager sources;
    diag::Sink sink;
    const std::string source = "mask f(a: i32[N], c: i32[N + 1]) = a[0] == c[0]; attention t(a: i32[M], c: i32[P]) { mask = f(a, c); }";
    const auto program = frontend::check(sources, sources.add("main.flex", source), resolver({}, source), sink);
    REQUIRE(program);
    const auto a = frontend::lower(*program, "t", {}, sink);
    REQUIRE(a);
    REQUIRE(a->constraints.size() == 1);
    CHECK(a->dim_text(a->constraints[0].left) == "P");
    CHECK(a->dim_text(a->constraints[0].right) == "M + 1");
    CHECK(a->constraints[0].reason == "`c` has the extent `N + 1` in `f`");
}

TEST_CASE("language: a `##` comment is the documentation of the next declaration") {
    diag::SourceManager sources;
    diag::Sink sink;
    const std::string source = "## First line.\n## Second line.\nattention t {}\n# plain\nattention u {}\n";
    const auto program = frontend::check(sources, sources.add("main.flex", source), resolver({}, source), sink);
    REQUIRE(program);
    REQUIRE(program->attentions().size() == 2);
    CHECK(program->attentions()[0].doc == "First line.\nSecond line.");
    CHECK(program->attentions()[1].doc == "");
}

}  // namespace flexc::language
