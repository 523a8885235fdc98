#include "tools/explain_gpu.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "driver/cache.h"
#include "driver/ptxas.h"
#include "tools/progress.h"

namespace flexc::tools {
namespace {

constexpr int64_t kManyQueries = 4096;  // where no shape is given
constexpr double kSeconds = 20;         // for ptxas

/// The devices that kernels are chosen for.
struct TargetDevice {
    nvptx::Arch arch;
    int compute_capability, shared_per_block;
};
constexpr TargetDevice kDevices[] = {{nvptx::Arch::Sm80, 80, 166912}, {nvptx::Arch::Sm90a, 90, 232448}};

/// What a multiprocessor has; CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
struct Multiprocessor {
    std::string_view target;
    int shared_bytes;  // of all blocks together; each takes 1 KiB more than it asks for
};
constexpr Multiprocessor kMultiprocessors[] = {{"sm_80", 164 * 1024}, {"sm_90a", 228 * 1024}};
constexpr int kRegisters = 65536, kThreads = 2048, kBlocks = 32, kRegisterUnit = 256, kReserved = 1024;

void choose(const TargetDevice& device, const InputOptions& input, std::optional<flex::DType> dtype,
            const std::optional<std::vector<int32_t>>& extents, bool has_gradient, GpuTargetFacts* out) {
    const auto extent = [&](const char* name, ir::ExtentVar which, int absent) {
        if (const auto given = input.shape.find(name); given != input.shape.end()) return static_cast<int>(given->second);
        return extents ? (*extents)[static_cast<size_t>(which)] : absent;
    };
    nvptx::Options& target = out->target;
    target.arch = device.arch;
    target.dtype = dtype.value_or(flex::DType::BF16);
    target.head_dim = extent("D", ir::ExtentVar::D, 128);
    target.v_head_dim = extent("DV", ir::ExtentVar::DV, target.head_dim);
    const auto size = static_cast<int64_t>(flex::size_of(target.dtype));
    LaunchShape launch;
    launch.queries = kManyQueries;
    if (extents) {
        const auto e = [&](ir::ExtentVar which) { return int64_t{(*extents)[static_cast<size_t>(which)]}; };
        launch.queries = e(ir::ExtentVar::Q);
        launch.group = e(ir::ExtentVar::H) / std::max<int64_t>(e(ir::ExtentVar::HKV), 1);
    }
    launch.mappable = target.head_dim * size % 16 == 0 && target.v_head_dim * size % 16 == 0;
    launch.compute_capability = device.compute_capability;
    launch.shared_per_block = device.shared_per_block;
    out->forward = choose_for(target, launch);
    // There is one backward pass, which every architecture runs.
    if (has_gradient && device.arch == nvptx::Arch::Sm80) out->backward = nvptx::choose_backward(target);
}

/// Adds what ptxas says; false, with the reason, if it says nothing.
bool ask(const std::filesystem::path& ptxas, std::string_view target, std::string_view ptx, std::vector<GpuKernelFacts>& kernels,
         std::string* error) {
    const auto all = kernel_resources(ptxas, target, ptx, kSeconds, default_cache_dir(), error);
    if (!all) return false;
    for (GpuKernelFacts& kernel : kernels)
        for (const KernelResources& each : *all) {
            if (each.kernel != kernel.symbol) continue;
            kernel.registers = each.registers;
            kernel.spill_bytes = each.spill_stores;
            kernel.stack_bytes = each.stack;
            kernel.shared_bytes += each.static_shared;
            kernel.blocks = resident_blocks(target, kernel.threads, kernel.registers, kernel.shared_bytes);
        }
    return true;
}

/// The kernels of one target; where there is a ptxas, compiles them and asks about them. Where something cannot be compiled, that is `flexc build`'s to report.
void describe(const ir::Attention& attention, const std::filesystem::path& ptxas, Progress& progress, GpuTargetFacts* out,
              std::string* error) {
    if (ptxas.empty()) {
        if (out->forward) out->kernels.push_back({"forward", "", out->forward->warps * 32, out->forward->shared_bytes});
        if (out->backward) {
            out->kernels.push_back({"backward, dq", "", out->backward->query_warps * 32, out->backward->query_shared_bytes});
            out->kernels.push_back({"backward, dk and dv", "", out->backward->key_warps * 32, out->backward->key_shared_bytes});
        }
        return;
    }
    ImageOptions images;
    const std::string where(nvptx::name(out->target.arch));
    Session apart;
    nvptx::Options forward = out->target;
    if (out->forward) forward.instance = std::string(out->forward->name);
    const auto resolved = out->forward ? resolve(apart, attention, forward) : std::nullopt;
    if (!resolved) return;
    {
        const auto step = progress.step("kernels of " + where);
        const nvptx::Image image = compile_image(apart, attention, *resolved, images);
        std::vector<GpuKernelFacts> kernels = {{"forward", image.forward_symbol, image.threads, image.shared_bytes}};
        ask(ptxas, image.target, image.ptx, kernels, error);
        out->kernels = std::move(kernels);
    }
    if (!out->backward || !error->empty()) return;
    ir::Attention differentiated = attention;
    if (!apart.differentiate(&differentiated) || !can_compile_backward(apart, differentiated, out->target)) return;
    const auto step = progress.step("backward kernels of " + where);
    const nvptx::BackwardImage image = compile_backward_image(apart, differentiated, out->target, images);
    std::vector<GpuKernelFacts> kernels;
    for (const auto& [what, kernel] : {std::pair{"backward, dq", &image.queries}, {"backward, dk and dv", &image.keys}})
        if (!kernel->symbol.empty()) kernels.push_back({what, kernel->symbol, kernel->threads, kernel->shared_bytes});
    ask(ptxas, image.target, image.ptx, kernels, error);
    out->kernels.insert(out->kernels.end(), kernels.begin(), kernels.end());
}

std::string kernel_text(const GpuKernelFacts& kernel) {
    std::string text =
        fmt::format("  {}: {} threads and {} bytes of shared memory a block", kernel.what, kernel.threads, kernel.shared_bytes);
    if (kernel.registers < 0) return text + "\n";
    text += fmt::format("; {} registers a thread, ", kernel.registers);
    text += kernel.spill_bytes > 0 ? fmt::format("{} bytes of it spilled to memory", kernel.spill_bytes) : "none spilled";
    if (kernel.spill_bytes <= 0 && kernel.stack_bytes > 0) text += fmt::format(", {} bytes of local memory", kernel.stack_bytes);
    if (kernel.blocks > 0) text += fmt::format("; {} block{} a multiprocessor", kernel.blocks, kernel.blocks == 1 ? "" : "s");
    if (kernel.blocks == 0) text += "; more than a multiprocessor has";
    return text + "\n";
}

Json kernel_json(const GpuKernelFacts& kernel) {
    Json out = {{"what", kernel.what}, {"threads", kernel.threads}, {"shared_bytes", kernel.shared_bytes}};
    if (!kernel.symbol.empty()) out["kernel"] = kernel.symbol;
    if (kernel.registers >= 0)
        out.update({{"registers", kernel.registers}, {"spill_bytes", kernel.spill_bytes}, {"stack_bytes", kernel.stack_bytes}});
    if (kernel.blocks >= 0) out["blocks_per_multiprocessor"] = kernel.blocks;
    return out;
}

Json kernels_json(const GpuTargetFacts& gpu) {
    Json out = Json::array();
    for (const GpuKernelFacts& kernel : gpu.kernels) out.push_back(kernel_json(kernel));
    return out;
}

Json forward_json(const nvptx::Instance& instance) {
    return {{"instance", instance.name}, {"tile", {instance.tile_q, instance.tile_k}}, {"shared_bytes", instance.shared_bytes}};
}

}  // namespace

int resident_blocks(std::string_view target, int threads, int registers, int shared_bytes) {
    const auto found =
        std::find_if(std::begin(kMultiprocessors), std::end(kMultiprocessors), [&](const auto& each) { return each.target == target; });
    if (found == std::end(kMultiprocessors) || threads <= 0) return -1;
    const int warps = (threads + 31) / 32;
    const int of_warp = (registers * 32 + kRegisterUnit - 1) / kRegisterUnit * kRegisterUnit;
    int out = std::min(kBlocks, kThreads / (warps * 32));
    if (of_warp > 0) out = std::min(out, kRegisters / of_warp / warps);
    return std::min(out, found->shared_bytes / (shared_bytes + kReserved));
}

GpuExplanation explain_gpu(const ir::Attention& attention, const InputOptions& input, std::optional<flex::DType> dtype,
                           const std::optional<std::vector<int32_t>>& extents, bool has_gradient, const std::filesystem::path& ptxas) {
    GpuExplanation out;
    out.unsupported = nvptx::unsupported_clauses(attention);
    if (!out.unsupported.empty()) return out;
    const std::filesystem::path assembler = ptxas == "none" ? std::filesystem::path() : ptxas.empty() ? find_ptxas() : ptxas;
    if (assembler.empty())
        out.unknown = ptxas == "none" ? "ptxas was not asked"
                                      : "they need ptxas of the CUDA toolkit, in $PATH, $CUDA_HOME/bin or named by $FLEXC_PTXAS or --ptxas";
    Progress progress("flexc explain", input.json);
    for (const TargetDevice& device : kDevices) {
        GpuTargetFacts& facts = out.targets.emplace_back();
        choose(device, input, dtype, extents, has_gradient, &facts);
        std::string error;
        describe(attention, assembler, progress, &facts, &error);
        if (!error.empty() && out.unknown.empty())
            out.unknown = fmt::format("`{}`: {}", assembler.string(), error.substr(0, error.find('\n')));
    }
    return out;
}

std::string gpu_page(const GpuExplanation& gpu) {
    if (!gpu.unsupported.empty()) return fmt::format("Not on {}: {}.\n", nvptx::name(nvptx::Arch::Sm80), fmt::join(gpu.unsupported, ", "));
    std::string text;
    bool any = false;
    for (const GpuTargetFacts& facts : gpu.targets) {
        const bool first = &facts == &gpu.targets.front();
        if (!first && !facts.forward) continue;
        text += fmt::format("On {}", nvptx::name(facts.target.arch));
        if (first)
            text +=
                fmt::format(" with {}, D = {} and DV = {}", flex::name(facts.target.dtype), facts.target.head_dim, facts.target.v_head_dim);
        if (!facts.forward) {
            text += ": no kernel is that large.\n";
            continue;
        }
        text += fmt::format(": {}, tiles of {}x{}", facts.forward->name, facts.forward->tile_q, facts.forward->tile_k);
        if (facts.backward)
            text += fmt::format("; {}, tiles of {}x{}", facts.backward->name, facts.backward->tile_q, facts.backward->tile_k);
        text += ".\n";
        for (const GpuKernelFacts& kernel : facts.kernels) {
            text += kernel_text(kernel);
            any = true;
        }
    }
    if (any && !gpu.unknown.empty()) text += "  Registers and spills are not known: " + gpu.unknown + ".\n";
    return text;
}

Json gpu_page_json(const GpuExplanation& gpu) {
    if (!gpu.unsupported.empty()) return {{"target", nvptx::name(nvptx::Arch::Sm80)}, {"unsupported", gpu.unsupported}};
    const GpuTargetFacts& first = gpu.targets.front();
    Json out = {{"target", nvptx::name(first.target.arch)},
                {"dtype", flex::name(first.target.dtype)},
                {"head_dim", first.target.head_dim},
                {"v_head_dim", first.target.v_head_dim}};
    if (first.forward) out["forward"] = forward_json(*first.forward);
    if (first.backward)
        out["backward"] = {{"instance", first.backward->name},
                           {"tile", {first.backward->tile_q, first.backward->tile_k}},
                           {"shared_bytes", std::max(first.backward->query_shared_bytes, first.backward->key_shared_bytes)}};
    out["kernels"] = kernels_json(first);
    for (size_t i = 1; i < gpu.targets.size(); ++i)
        if (const GpuTargetFacts& each = gpu.targets[i]; each.forward)
            out[std::string(nvptx::name(each.target.arch))] = {{"forward", forward_json(*each.forward)}, {"kernels", kernels_json(each)}};
    if (!gpu.unknown.empty()) out["registers_unknown"] = gpu.unknown;
    return out;
}

}  // namespace flexc::tools
