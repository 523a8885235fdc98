// gradients: the backward pass of the CPU target against the float64 interpreter, at every level and type that this machine has.
//   gradients [--filter TEXT]
// Each gallery variant is taken with every float tensor marked `grad`; programs of this file add reads in the scale, in reductions, at several places
// and out of range. Every other run has a loss that depends on max_score too. Two runs with different numbers of threads must agree to the last bit.
//
// Tolerances. f32: products and sums of n terms in f32, so 2^-24 times a few sqrt(n) of the largest partial sum, which the largest element of the
// result underestimates where terms cancel; bound = 2e-5 (1 + largest |element|). f16 and bf16: o, which delta is made of, and the result are rounded
// to the type, u = 2^-11 or 2^-8: bound = 4 u (1 + largest |element|); four times that for gradients of captured tensors, which sum the errors of many rows.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "driver/interp_bindings.h"
#include "ir/gradient.h"
#include "ir/interpret_gradient.h"
#include "ir/passes.h"
#include "tests/numerics/buffers.h"
#include "tests/numerics/engines.h"

namespace numerics {
namespace {

using flex::DType;
using flexc::ir::Attention;

struct Gradients {
    std::vector<double> dq, dk, dv;
    std::vector<std::vector<double>> d_params;
    std::string error;
};

int failures = 0, triples = 0;
double worst_of[3] = {};

void fail(const std::string& text) {
    ++failures;
    std::printf("FAILED  %s\n", text.c_str());
}

std::optional<Attention> differentiated(const std::string& label, const std::string& source,
                                        const std::map<std::string, std::string>& consts) {
    flexc::Session session;
    std::optional<Attention> attention;
    if (session.open_text(label + ".flex", source))
        if (const auto name = session.choose("")) attention = session.lower(*name, consts);
    if (!attention) {
        std::printf("%s", flexc::diag::render_all(session.sources, session.sink, false).c_str());
        return std::nullopt;
    }
    for (flexc::ir::Param& param : attention->params)
        if (param.is_tensor && flexc::ir::widened(param.elem) == flexc::ir::Type::F32) param.grad = true;
    flexc::ir::differentiate(*attention);
    flexc::ir::optimise(*attention);
    return attention;
}

struct Problem {
    Inputs in;
    std::vector<Captured> captured;
    std::vector<double> d_o, d_lse, d_max_score;  // the last empty: the loss does not depend on it
};

/// Forward and backward by native code.
Gradients run(const flexc::CpuKernel& kernel, DType type, const Problem& p, int threads) {
    Gradients out;
    const Arrays arrays(type, p.in, Layout::HeadsInner);
    const Arguments arguments(p.captured);
    const flex::AttentionArrays views = arrays.views();
    if (const auto status = flex::launch_cpu(kernel.desc, kernel.code->table(), views, arguments.list, {.threads = threads});
        !status.ok()) {
        out.error = status.text();
        return out;
    }
    const Shape& s = p.in.shape;
    Buffer d_o(type, {s.b, s.h, s.q, s.dv}, Layout::Dense), d_lse(DType::F32, {1, s.b, s.h, s.q}, Layout::Dense),
        d_max_score(DType::F32, {1, s.b, s.h, s.q}, Layout::Dense);
    Buffer dq(type, {s.b, s.h, s.q, s.d}, Layout::HeadsInner), dk(type, {s.kvb, s.hkv, s.k, s.d}, Layout::Dense),
        dv(type, {s.kvb, s.hkv, s.k, s.dv}, Layout::Padded);
    d_o.fill(p.d_o);
    d_lse.fill(p.d_lse);
    flex::GradientArrays gradients;
    gradients.d_o = d_o.view, gradients.d_lse = rows_view(d_lse.view);
    if (!p.d_max_score.empty()) {
        d_max_score.fill(p.d_max_score);
        gradients.d_max_score = rows_view(d_max_score.view);
    }
    gradients.dq = dq.view, gradients.dk = dk.view, gradients.dv = dv.view;
    std::vector<std::vector<float>> d_params(kernel.desc.params.size());
    for (size_t i = 0; i < kernel.desc.params.size(); ++i) {
        const flex::ParamDesc& param = kernel.desc.params[i];
        if (!param.grad) continue;
        const auto given = std::find_if(p.captured.begin(), p.captured.end(), [&](const Captured& c) { return c.name == param.name; });
        d_params[i].assign(std::max<size_t>(given->values.size(), 1), -1.0f);
        flex::Argument argument{param.name, {}};
        argument.value.data = d_params[i].data();
        argument.value.rank = static_cast<int>(given->shape.size());
        int64_t stride = 1;
        for (size_t d = given->shape.size(); d-- > 0;) {
            argument.value.shape[d] = given->shape[d];
            argument.value.stride[d] = stride;
            stride *= given->shape[d];
        }
        gradients.d_params.push_back(argument);
    }
    const auto status =
        flex::launch_cpu_backward(kernel.desc, kernel.code->table(), views, gradients, arguments.list, {.threads = threads});
    if (!status.ok()) {
        out.error = status.text();
        return out;
    }
    out.dq = dq.values(), out.dk = dk.values(), out.dv = dv.values();
    for (size_t i = 0; i < d_params.size(); ++i) {
        out.d_params.emplace_back(d_params[i].begin(), d_params[i].end());
        if (kernel.desc.params[i].grad)
            out.d_params.back().resize(std::find_if(p.captured.begin(), p.captured.end(), [&](const Captured& c) {
                                           return c.name == kernel.desc.params[i].name;
                                       })->values.size());
    }
    return out;
}

void compare(const std::string& place, const char* what, const std::vector<double>& got, const std::vector<double>& want, double unit,
             double* worst) {
    if (got.size() != want.size()) return fail(place + ": " + what + " has another size");
    double largest = 0, error = 0;
    for (const double x : want)
        if (std::isfinite(x)) largest = std::max(largest, std::fabs(x));
    size_t at = 0;
    for (size_t i = 0; i < got.size(); ++i) {
        const bool same = std::isnan(want[i]) ? std::isnan(got[i]) : got[i] == want[i];
        const double difference = same ? 0 : std::isfinite(want[i]) && std::isfinite(got[i]) ? std::fabs(got[i] - want[i]) : HUGE_VAL;
        if (difference > error) error = difference, at = i;
    }
    const double bound = unit * (1 + largest);
    *worst = std::max(*worst, error / bound);
    if (!(error <= bound)) {
        char text[256];
        std::snprintf(text, sizeof text, "%s: %s[%zu] is %.9g, not %.9g (allowed %.2g)", place.c_str(), what, at, got[at], want[at], bound);
        fail(text);
    }
}

void check(const std::string& label, const Attention& attention, Problem p, uint32_t seed, bool all_levels) {
    if (!flexc::ir::no_gradient(attention).empty()) return;
    Random random(seed + 77);
    const Shape& s = p.in.shape;
    flexc::Session session;
    for (const flex::CpuLevel level : levels()) {
        if (!all_levels && level != levels().back()) continue;
        flexc::KernelOptions options;
        options.level = level;
        options.use_cache = false;
        const auto kernel = session.compile_cpu(attention, options);
        if (!kernel) return fail(label + ": does not compile");
        for (const DType type : {DType::F32, DType::F16, DType::BF16}) {
            if (type != DType::F32 && level != levels().back()) continue;
            Problem q = p;
            Random again(seed);
            const Inputs fresh = random_inputs(again, s, type);
            if (type != DType::F32) q.in = fresh;
            q.d_o.clear();
            q.d_lse.clear();
            for (int64_t i = 0; i < int64_t{s.b} * s.h * s.q * s.dv; ++i) q.d_o.push_back(rounded(type, random.normal()));
            for (int64_t i = 0; i < int64_t{s.b} * s.h * s.q; ++i) q.d_lse.push_back(random.normal_f32());
            q.d_max_score.clear();
            // Where many scores lie within rounding of their bound, f32 and float64 find it at different keys.
            const bool with_peaks = triples % 2 == 0 && label != "trig";
            if (with_peaks)
                for (int64_t i = 0; i < int64_t{s.b} * s.h * s.q; ++i) q.d_max_score.push_back(random.normal_f32());
            const std::string place = label + " " + flex::name(type) + " " + flex::name(level) + (with_peaks ? " with dmax_score" : "");
            flex::BoundExtents extents;
            const Arrays arrays(DType::F32, q.in, Layout::Dense);
            const Arguments arguments(q.captured);
            if (const auto status = flex::bind(kernel->desc, arrays.views(), arguments.list, &extents); !status.ok())
                return fail(place + ": " + status.text());
            const auto bindings = flexc::interp_bindings(attention, extents.values, arguments.list);
            const auto want =
                flexc::ir::interpret_gradient(attention, bindings, {q.in.q, q.in.k, q.in.v, s.kvb}, {q.d_o, q.d_lse, q.d_max_score});
            const Gradients got = run(*kernel, type, q, 1);
            if (!got.error.empty()) return fail(place + ": " + got.error);
            const double unit = type == DType::F32 ? 2e-5 : 4 * (type == DType::F16 ? 0x1p-11 : 0x1p-8);
            double* worst = &worst_of[type == DType::F32 ? 0 : type == DType::F16 ? 1 : 2];
            compare(place, "dq", got.dq, want.dq, unit, worst);
            compare(place, "dk", got.dk, want.dk, unit, worst);
            compare(place, "dv", got.dv, want.dv, unit, worst);
            for (size_t i = 0; i < want.d_params.size(); ++i)
                if (attention.params[i].grad)
                    compare(place, ("d_" + attention.params[i].name).c_str(), got.d_params[i], want.d_params[i],
                            type == DType::F32 ? unit : 4 * unit, worst);
            ++triples;
            const Gradients threaded = run(*kernel, type, q, 3);
            const auto same = [](const std::vector<double>& a, const std::vector<double>& b) {
                return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
            };
            if (!same(got.dq, threaded.dq) || !same(got.dk, threaded.dk) || !same(got.dv, threaded.dv))
                fail(place + ": depends on the number of threads");
            for (size_t i = 0; i < got.d_params.size(); ++i)
                if (!same(got.d_params[i], threaded.d_params[i]))
                    fail(place + ": d_" + attention.params[i].name + " depends on the number of threads");
        }
    }
}

Captured floats(Random& random, const char* name, std::vector<int64_t> shape) {
    return random_floats(random, name, std::move(shape));
}

struct Special {
    const char* label;
    const char* source;
    std::function<std::vector<Captured>(Random&, const Shape&)> captured;
};

const Special kSpecials[] = {
    {"scale", "attention a(x: grad f32[H], y: grad f32[H, Q]) { scale = x[h] * y[h, q]; mask = q >= k; }",
     [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.h}), floats(r, "y", {s.h, s.q})}; }},
    {"bias of all kinds",
     "attention a(full: grad f32[B, H, Q, K], rel: grad f32[64], row: grad f16[H, Q], head: grad f32[H], col: grad f32[HKV, K]) {\n"
     "  score = score * row[h, q] + full[b, h, q, k] + rel[q - k + 20] * head[h] + rel[k] + col[hkv, k]; }",
     [](Random& r, const Shape& s) {
         std::vector<Captured> c = {floats(r, "full", {s.b, s.h, s.q, s.k}), floats(r, "rel", {64}), floats(r, "row", {s.h, s.q}),
                                    floats(r, "head", {s.h}), floats(r, "col", {s.hkv, s.k})};
         c[2].dtype = DType::F16;
         for (double& x : c[2].values) x = rounded(DType::F16, x);
         return c;
     }},
    {"in reductions",
     "attention a(x: grad f32[Q, 5], y: grad f32[K, 5], n: i32 = 4) { score = score + sum(j in 0..n: x[q, j] * y[k, j]) * max(j in 0..5: "
     "x[q, j]); }",
     [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.q, 5}), floats(r, "y", {s.k, 5})}; }},
    {"many row reads",
     "attention a(x: grad f32[12, Q]) { score = score * (x[0,q] + x[1,q]*x[2,q] + x[3,q] + x[4,q]*x[5,q]) + tanh(x[6,q]) * x[7,q] * x[8,q] "
     "+ x[9,q]*score + x[10,q]; mask = q - k < 9; }",
     [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {12, s.q})}; }},
    {"gathers",
     "attention a(t: grad bf16[7, H], i: i32[Q], j: i32[K]) { score = softplus(t[i[q] + j[k], h]) + score; mask = j[k] < 9; }\nfn "
     "softplus(x: f32) -> f32 = log(1.0 + exp(x));",
     [](Random& r, const Shape& s) {
         std::vector<Captured> c = {floats(r, "t", {7, s.h})};
         c[0].dtype = DType::BF16;
         for (double& x : c[0].values) x = rounded(DType::BF16, x);
         std::vector<int> i, j;
         for (int n = 0; n < s.q; ++n) i.push_back(r.integer(-1, 6));
         for (int n = 0; n < s.k; ++n) j.push_back(r.integer(-2, 4));
         c.push_back(tensor("i", DType::I32, {s.q}, i));
         c.push_back(tensor("j", DType::I32, {s.k}, j));
         return c;
     }},
    {"scores that are large", "attention a(x: grad f32[H]) { score = score * 40.0 + 900.0 * x[h]; mask = q >= k or k < 3; }",
     [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.h})}; }},
    {"ties", "attention a(x: grad f32[K], i: i32[K]) { score = f32(i[k] % 3) + 0.0 * score + x[k]; mask = q + 30 >= k; }",
     [](Random& r, const Shape& s) {
         Captured x = floats(r, "x", {s.k});
         for (double& value : x.values) value = std::round(value);
         std::vector<int> i;
         for (int n = 0; n < s.k; ++n) i.push_back(r.integer(0, 50));
         return std::vector{x, tensor("i", DType::I32, {s.k}, i)};
     }},
    {"rows without keys", "attention a(x: grad f32[K]) { score = score + x[k]; mask = k < q - 40; }",
     [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.k})}; }},
};

void check_special(const Special& special, uint32_t seed) {
    const Shape shapes[] = {
        {2, 4, 2, 70, 83, 20, 36, 2},   {1, 2, 2, 130, 300, 64, 64, 1}, {2, 3, 1, 1, 5, 7, 3, 1},
        {3, 2, 1, 150, 140, 32, 16, 1}, {1, 1, 1, 40, 2200, 8, 8, 1},  // the last: two chunks of keys
    };
    for (const Shape& shape : shapes) {
        Random random(++seed);
        auto attention = differentiated(special.label, special.source, {});
        if (!attention) return fail(std::string(special.label) + ": is refused");
        Problem p;
        p.in = random_inputs(random, shape, DType::F32);
        p.captured = special.captured(random, shape);
        check(special.label, *attention, p, seed, true);
    }
}

/// What a mask hides may be anything: NaN and inf in K, V, and in rows of Q that see nothing.
void check_hidden() {
    const Shape shape{1, 2, 1, 90, 200, 24, 24, 1};
    auto attention = differentiated("hidden", "attention a(n: i32, m: i32) { mask = k < n and q < m; }", {});
    if (!attention) return fail("hidden: is refused");
    Random random(5);
    Problem p;
    p.in = random_inputs(random, shape, DType::F32);
    p.captured = {scalar("n", 150), scalar("m", 70)};
    for (const flex::CpuLevel level : levels()) {
        flexc::Session session;
        flexc::KernelOptions options;
        options.level = level;
        options.use_cache = false;
        const auto kernel = session.compile_cpu(*attention, options);
        if (!kernel) return fail("hidden: does not compile");
        p.d_o.assign(static_cast<size_t>(shape.h * shape.q * shape.dv), 0.5);
        p.d_lse.assign(static_cast<size_t>(shape.h * shape.q), 0.25);
        p.d_max_score.assign(static_cast<size_t>(shape.h * shape.q), 0.75);
        const Gradients clean = run(*kernel, DType::F32, p, 2);
        Problem dirty = p;
        for (int k = 150; k < shape.k; ++k)
            for (int d = 0; d < shape.d; ++d) {
                dirty.in.k[static_cast<size_t>(k * shape.d + d)] = k % 2 ? HUGE_VAL : std::nan("");
                dirty.in.v[static_cast<size_t>(k * shape.d + d)] = k % 3 ? -HUGE_VAL : std::nan("");
            }
        for (int h = 0; h < shape.h; ++h)
            for (int q = 70; q < shape.q; ++q)
                for (int d = 0; d < shape.d; ++d) {
                    dirty.in.q[static_cast<size_t>((h * shape.q + q) * shape.d + d)] = std::nan("");
                    dirty.d_o[static_cast<size_t>((h * shape.q + q) * shape.d + d)] = HUGE_VAL;
                }
        const Gradients hidden = run(*kernel, DType::F32, dirty, 2);
        const std::string place = std::string("hidden ") + flex::name(level);
        if (!clean.error.empty() || !hidden.error.empty()) return fail(place + ": " + clean.error + hidden.error);
        double worst = 0;
        compare(place, "dq", hidden.dq, clean.dq, 2e-5, &worst);
        compare(place, "dk", hidden.dk, clean.dk, 2e-5, &worst);
        compare(place, "dv", hidden.dv, clean.dv, 2e-5, &worst);
        ++triples;
    }
}

}  // namespace
}  // namespace numerics

int main(int argc, char** argv) {
    using namespace numerics;
    std::string filter;
    for (int i = 1; i + 1 < argc; ++i)
        if (std::strcmp(argv[i], "--filter") == 0) filter = argv[i + 1];
    const auto wanted = [&](const std::string& label) { return label.find(filter) != std::string::npos; };
    uint32_t seed = 1;
    for (const auto& tests : {mask_tests(), score_tests()})
        for (const GalleryTest& test : tests) {
            ++seed;
            if (!wanted(test.file)) continue;
            std::ifstream file(std::filesystem::path(FLEXC_GALLERY_DIR) / (test.file + ".flex"));
            std::stringstream source;
            source << file.rdbuf();
            for (int which = 0; which < test.cases; ++which) {
                Random random(seed * 16 + static_cast<uint32_t>(which));
                const Case c = test.make(random, which);
                const auto attention = differentiated(test.file, source.str(), c.consts);
                if (!attention) {
                    fail(test.file + ": is refused");
                    continue;
                }
                Random inputs(seed);
                check(test.file, *attention, {random_inputs(inputs, c.shape, DType::F32), c.captured, {}, {}, {}}, seed, which == 0);
            }
        }
    for (const Special& special : kSpecials)
        if (wanted(special.label)) check_special(special, seed += 10);
    if (wanted("hidden")) check_hidden();
    std::printf(
        "%d (variant, shape, type, level) checked, %d failures; largest error in units of the bound: f32 %.2f, f16 %.2f, bf16 %.2f\n",
        triples, failures, worst_of[0], worst_of[1], worst_of[2]);
    return failures == 0 ? 0 : 1;
}
