#include <dlfcn.h>

#include <cmath>

#include "backend/lowering/describe.h"
#include "backend/nvptx/compile.h"
#include "tests/gradients/checks.h"

namespace numerics {

using flex::DType;
using flex::Status;
using flexc::ir::Attention;
namespace nvptx = flexc::nvptx;

namespace {

/// Forward and backward code of one attention for one type.
struct Compiled {
    flex::KernelDesc desc;
    nvptx::Image forward;
    nvptx::BackwardImage backward;
    flex_gpu_image forward_view{};
    flex_gpu_backward_image backward_view{};
    std::unique_ptr<flex::CudaKernel> kernel;
};

std::unique_ptr<Compiled> compile(const Attention& attention, DType type, const Shape& shape, bool atomic) {
    nvptx::Options options;
    options.dtype = type;
    options.head_dim = shape.d;
    options.v_head_dim = shape.dv;
    options.atomic = atomic;
    if (!nvptx::choose(options) || !nvptx::choose_backward(options)) return nullptr;
    auto out = std::make_unique<Compiled>();
    out->desc = flexc::codegen::describe(attention);
    out->forward = nvptx::compile(attention, options, nullptr);
    out->backward = nvptx::compile_backward(attention, options, nullptr);
    out->forward_view = out->forward.view();
    out->backward_view = out->backward.view();
    const flex_gpu_image* forward[] = {&out->forward_view};
    const flex_gpu_backward_image* backward[] = {&out->backward_view};
    out->kernel = std::make_unique<flex::CudaKernel>(out->desc, forward, 1, backward, 1);
    return out;
}

/// The emulator's schedules; on a real device nothing.
void set_seed(uint64_t seed) {
    static void* const library = dlopen(FLEXC_EMULATED_DRIVER, RTLD_NOW | RTLD_NOLOAD);
    if (!library) return;
    if (auto* set = reinterpret_cast<void (*)(unsigned long long)>(dlsym(library, "flexemu_set_seed"))) set(seed);
}

Status run_on(flex::CudaDevice& device, const Compiled& code, LaunchArrays& arrays, const std::vector<uint64_t>& seeds,
              std::vector<Gradients>* results) {
    DeviceMemory memory(device);
    Arrays& a = arrays.arrays;
    Placed q(a.q), k(a.k), v(a.v), o(a.o), lse(a.lse), max_score(a.max_score), d_o(arrays.d_o), d_lse(arrays.d_lse),
        d_max_score(arrays.d_max_score), dq(arrays.dq), dk(arrays.dk), dv(arrays.dv);
    Status status;
    for (Placed* each : {&q, &k, &v, &o, &lse, &max_score, &d_o, &d_lse, &d_max_score, &dq, &dk, &dv})
        if (status.ok()) status = each->upload(memory);
    for (size_t i = 0; i < arrays.arguments.list.size(); ++i)
        if (flex::Tensor& value = arrays.arguments.list[i].value; status.ok() && value.rank > 0)
            status = memory.copy(arrays.arguments.bytes[i], &value.data);
    if (!status.ok()) return status;

    const flex::AttentionArrays views{q.view, k.view, v.view, o.view, rows_view(lse.view), rows_view(max_score.view)};
    flex::GradientArrays gradients = arrays.gradients();
    const flex::GradientArrays host = gradients;
    gradients.d_o = d_o.view, gradients.d_lse = rows_view(d_lse.view);
    if (gradients.d_max_score.data) gradients.d_max_score = rows_view(d_max_score.view);
    gradients.dq = dq.view, gradients.dk = dk.view, gradients.dv = dv.view;
    std::vector<size_t> bytes;
    for (flex::Argument& each : gradients.d_params) {
        size_t count = 1;
        for (int i = 0; i < each.value.rank; ++i) count *= static_cast<size_t>(each.value.shape[static_cast<size_t>(i)]);
        bytes.push_back(4 * count);
        if (status.ok()) status = memory.room(bytes.back(), &each.value.data);
    }
    flex::CudaOptions options;
    if (status.ok()) status = code.kernel->workspace(views, arrays.arguments.list, options, &options.workspace_bytes);
    if (status.ok() && options.workspace_bytes > 0) status = memory.room(options.workspace_bytes, &options.workspace);
    if (status.ok()) status = code.kernel->launch(views, arrays.arguments.list, options);
    options = {};
    if (status.ok()) status = code.kernel->backward_workspace(views, gradients, arrays.arguments.list, options, &options.workspace_bytes);
    if (status.ok() && options.workspace_bytes > 0) status = memory.room(options.workspace_bytes, &options.workspace);
    for (const uint64_t seed : seeds) {
        set_seed(seed);
        if (status.ok()) status = code.kernel->launch_backward(views, gradients, arrays.arguments.list, options);
        if (status.ok()) status = device.synchronise();
        for (Placed* each : {&dq, &dk, &dv})
            if (status.ok()) status = each->download(device);
        for (size_t i = 0; i < bytes.size(); ++i)
            if (status.ok() && bytes[i] > 0)
                status = device.to_host(host.d_params[i].value.data, gradients.d_params[i].value.data, bytes[i]);
        if (!status.ok()) return status;
        results->push_back(arrays.values());
    }
    return status;
}

class GpuCheck : public Check {
public:
    GpuCheck(Report& to, Gpu& gpu, bool full) : Check(to), gpu_(gpu), full_(full) {}

    /// The first shapes of all programs, and one more of each.
    [[nodiscard]] bool takes(uint32_t shape, uint32_t program) const override {
        return full_ || shape == 0 || shape == 2 || (shape == 1 && program % 4 == 0) || (shape == 3 && program % 4 == 2) ||
               (shape == 4 && program % 4 == 3);
    }

    void problem(const std::string& label, const Attention& attention, const Problem& p, uint32_t seed, bool first) override {
        if (!flexc::ir::no_gradient(attention).empty() || !flexc::nvptx::unsupported_clauses(attention).empty()) return;
        constexpr DType kTypes[] = {DType::F32, DType::BF16, DType::F16};
        for (size_t i = 0; i < (full_ ? 3 : 1); ++i) {
            const DType type = kTypes[(i + turn_) % 3];
            Random random(seed + 77 + static_cast<uint32_t>(i)), again(seed);
            Problem q = p;
            q.in = random_inputs(again, p.in.shape, type);
            // Where many scores lie within rounding of their bound, a GPU and float64 find it at different keys.
            const bool with_peaks = turn_ % 2 == 0 && label != "trig" && !is_approximate(attention);
            random_loss(random, type, with_peaks, &q);
            one(label, attention, q, type, false, full_ || (first && turn_ % 2 == 1));
            // Sums by atomics: right, if not to the bit.
            if (full_ ? first : turn_ % 9 == 4) one(label, attention, q, type, true, false);
        }
        ++turn_;
    }

    void hidden() override {
        for (const DType type : {DType::F32, DType::F16, DType::BF16}) {
            const std::string place = std::string("hidden ") + flex::name(type);
            const auto problem = hidden_problem(type);
            if (!problem) return report.fail(place + ": is refused");
            const auto code = compile(problem->attention, type, problem->clean.in.shape, false);
            const Gradients clean = run(*code, type, problem->clean, {1}), dirty = run(*code, type, problem->dirty, {1});
            if (!clean.error.empty() || !dirty.error.empty())
                report.fail(place + ": " + clean.error + dirty.error);
            else
                report.compare(place, problem->attention, dirty, clean, type);
        }
    }

    /// Elements of a gradient whose contributions differ by 2^78: fixed point keeps those that are not below the unit, which is 2^-61 of all that could come together
    /// (gradients.h), and the same bits under every schedule.
    void magnitudes() {
        const std::string place = "magnitudes";
        const auto attention = differentiated(
            place, "attention a(x: grad f32[40], w: i32[40]) { score = score + x[(q + 3 * k) % 40] * exp2(f32(w[(q + 3 * k) % 40])); }",
            {});
        if (!attention) return report.fail(place + ": is refused");
        Random random(9);
        Problem p;
        p.in = random_inputs(random, {1, 2, 1, 45, 90, 16, 16, 1}, DType::F32);
        Captured x{"x", DType::F32, {40}, std::vector<double>(40, 0.0)};
        std::vector<int> exponents;
        for (int i = 0; i < 40; ++i) exponents.push_back(2 * i - 40);
        p.captured = {x, tensor("w", DType::I32, {40}, exponents)};
        random_loss(random, DType::F32, false, &p);
        const auto code = compile(*attention, DType::F32, p.in.shape, false);
        const Gradients want = expected(*attention, code->desc, p), got = run(*code, DType::F32, p, {1, 2, 3, 4});
        if (!got.error.empty()) return report.fail(place + ": " + got.error);
        const double rows = 2 * 45, most = 90 * std::exp2(exponents.back());
        const double unit = 4 * rows * most * 0x1p-61;
        int kept = 0;
        for (size_t i = 0; i < 40; ++i) {
            const double error = std::fabs(got.d_params[0][i] - want.d_params[0][i]);
            const double allowed =
                2e-5 * std::exp2(exponents[i]) * (1 + std::fabs(want.d_params[0][i]) / std::exp2(exponents[i])) + rows * 90 * unit;
            if (error > allowed) report.fail(place + ": element " + std::to_string(i) + " is wrong by " + std::to_string(error));
            kept += got.d_params[0][i] != 0;
        }
        if (kept < 26) report.fail(place + ": only " + std::to_string(kept) + " elements are not lost");
        report.counted();
    }

    void others(const std::string& filter) override {
        if (std::string("magnitudes").find(filter) != std::string::npos) magnitudes();
    }

private:
    void one(const std::string& label, const Attention& attention, const Problem& p, DType type, bool atomic, bool schedules) {
        const std::string place = label + " " + flex::name(type) + " D " + std::to_string(p.in.shape.d) + " DV " +
                                  std::to_string(p.in.shape.dv) + (p.d_max_score.empty() ? "" : " with dmax_score") +
                                  (atomic ? " by atomics" : "");
        const auto code = compile(attention, type, p.in.shape, atomic);
        if (!code) return report.fail(place + ": there is no instance");
        const Gradients want = expected(attention, code->desc, p);
        if (!want.error.empty()) return report.fail(place + ": " + want.error);
        const Gradients got = run(*code, type, p, schedules ? std::vector<uint64_t>{1, 2} : std::vector<uint64_t>{3});
        if (!got.error.empty()) return report.fail(place + ": " + got.error);
        // tanh.approx is right to 2^-10.9.
        report.compare(place, attention, got, want, type, is_approximate(attention) ? 4 * 0x1p-10 : unit_of_scores(label));
    }

    static bool is_approximate(const Attention& attention) {
        for (uint32_t i = 0; i < attention.graph.size(); ++i)
            if (attention.graph[flexc::ir::NodeId{i}].op == flexc::ir::Op::TanhApprox) return true;
        return false;
    }

    /// The gradients under the first schedule; an error if another gives others.
    Gradients run(const Compiled& code, DType type, const Problem& p, const std::vector<uint64_t>& seeds) {
        LaunchArrays arrays(type, code.desc, p);
        std::vector<Gradients> results;
        const Status status = run_on(gpu_.device(), code, arrays, seeds, &results);
        Gradients out;
        if (!status.ok()) {
            out.error = status.text();
            std::string why;
            if (status.code() == flex::Code::DeviceError && !gpu_.restart(&why))
                out.error += "; and the device does not start again: " + why;
            return out;
        }
        for (const Gradients& each : results)
            if (!same(each, results.front())) results.front().error = "depends on the schedule";
        return results.front();
    }

    Gpu& gpu_;
    const bool full_;
    size_t turn_ = 0;
};

}  // namespace

std::unique_ptr<Check> gpu_check(Report& report, Gpu& gpu, bool full) {
    return std::make_unique<GpuCheck>(report, gpu, full);
}

}  // namespace numerics
