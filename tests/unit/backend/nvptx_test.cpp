// PTX as text: what the compiler promises of it, for every attention of the gallery, and facts of single variants that are read off the instructions.
#include <doctest/doctest.h>
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "driver/compiler.h"
#include "gpu_variant.h"
#include "runtime/gpu_layout.h"

using namespace flexc;
using ir::NodeId;
using ir::Op;
using test::Variant;

namespace {

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
}

size_t count(const std::string& text, std::string_view what) {
    size_t n = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) n++;
    return n;
}

std::optional<ir::Attention> lowered(const std::string& source) {
    Session session;
    if (!session.open_text("test.flex", source)) return std::nullopt;
    const auto name = session.choose("");
    return name ? session.lower(*name, {}) : std::nullopt;
}

/// The text of one kernel.
std::string kernel_of(const nvptx::Image& image, const std::string& symbol) {
    const size_t begin = image.ptx.find(".entry " + symbol + "(");
    REQUIRE(begin != std::string::npos);
    return image.ptx.substr(begin, image.ptx.find("\n}\n", begin) - begin);
}

nvptx::Image compiled(const std::string& source, const nvptx::Options& options = {}) {
    const auto attention = lowered(source);
    REQUIRE(attention);
    return nvptx::compile(*attention, options, nullptr);
}

std::string forward_of(const std::string& source, const nvptx::Options& options = {}) {
    const nvptx::Image image = compiled(source, options);
    return kernel_of(image, image.forward_symbol);
}

/// The basic blocks of a kernel and where each may go on.
struct Flow {
    std::vector<std::string> blocks;
    std::vector<std::set<size_t>> next;

    explicit Flow(const std::string& kernel) {
        std::map<std::string, size_t> labels;
        blocks.emplace_back();
        for (const std::string& line : lines_of(kernel)) {
            if (line.starts_with("$L") && line.ends_with(":")) {
                blocks.emplace_back();
                labels[line.substr(0, line.size() - 1)] = blocks.size() - 1;
                continue;
            }
            blocks.back() += line + "\n";
            if (line.find("\tbra") != std::string::npos || line.find(" bra") != std::string::npos) blocks.emplace_back();
        }
        next.resize(blocks.size());
        for (size_t i = 0; i < blocks.size(); i++) {
            const size_t branch = blocks[i].find("bra");
            const bool conditional = branch != std::string::npos && blocks[i].rfind('@', branch) > blocks[i].rfind('\n', branch) + 1 &&
                                     blocks[i].rfind('@', branch) != std::string::npos;
            if (branch != std::string::npos) {
                const size_t label = blocks[i].find("$L", branch);
                REQUIRE(label != std::string::npos);
                next[i].insert(labels.at(blocks[i].substr(label, blocks[i].find(';', label) - label)));
            }
            const bool ends = blocks[i].find("\tret;") != std::string::npos || (branch != std::string::npos && !conditional);
            if (!ends && i + 1 < blocks.size()) next[i].insert(i + 1);
        }
    }
    /// Blocks that can be reached from `from` through blocks that do not hold `mark`; `from` itself only by a way back.
    [[nodiscard]] std::set<size_t> reached(size_t from, const std::string& mark = "no mark") const {
        std::vector<size_t> stack(next[from].begin(), next[from].end());
        std::set<size_t> seen;
        while (!stack.empty()) {
            const size_t at = stack.back();
            stack.pop_back();
            if (!seen.insert(at).second || blocks[at].find(mark) != std::string::npos) continue;
            stack.insert(stack.end(), next[at].begin(), next[at].end());
        }
        return seen;
    }
    /// Whether a block that holds `what` is in a loop with products.
    [[nodiscard]] bool in_product_loop(const std::string& what) const {
        for (size_t i = 0; i < blocks.size(); i++) {
            if (blocks[i].find("mma.sync") == std::string::npos) continue;
            for (const size_t at : reached(i))
                if (blocks[at].find(what) != std::string::npos && (at == i || reached(at).contains(i))) return true;
        }
        return false;
    }
    [[nodiscard]] size_t block_with(const std::string& what, bool last) const {
        for (size_t i = 0; i < blocks.size(); i++) {
            const size_t at = last ? blocks.size() - 1 - i : i;
            if (blocks[at].find(what) != std::string::npos) return at;
        }
        FAIL("no block holds " << what);
        return 0;
    }
};

const char* const kSlopes = "attention a(slope: f32[H]) { score = score + slope[h] * f32(k - q); mask = k <= q; }";

}  // namespace

TEST_CASE("every attention of the gallery compiles for every type and class of head dimension") {
    int compiled_images = 0;
    for (const auto& file : std::filesystem::directory_iterator(FLEX_TEST_GALLERY)) {
        if (file.path().extension() != ".flex") continue;
        Session session;
        REQUIRE(session.open(file.path()));
        for (const auto& info : session.program().attentions()) {
            CAPTURE(info.name);
            const auto attention = session.lower(info.name, {});
            REQUIRE(attention);
            if (!nvptx::unsupported_clauses(*attention).empty()) continue;
            // One combination each; all meet each other over the whole of the gallery.
            static constexpr flex::DType kTypes[] = {flex::DType::BF16, flex::DType::F16, flex::DType::F32};
            nvptx::Options options;
            options.dtype = kTypes[compiled_images % 3];
            options.head_dim = options.v_head_dim = 64 << (compiled_images / 3 % 3);
            options.short_queries = compiled_images % 2 != 0;
            options.allow_tf32 = compiled_images % 5 == 0;
            const nvptx::Image image = nvptx::compile(*attention, options, nullptr);
            compiled_images++;
            CHECK(image.ptx.find(".version 7.0\n.target sm_80\n.address_size 64\n") != std::string::npos);
            CHECK(count(image.ptx, ".entry ") == (image.summary_flags.empty() ? 2 : 3));
            CHECK(count(image.ptx, ".maxntid " + std::to_string(image.threads) + ", 1, 1") >= 1);
            const std::string bytes = std::to_string(nvptx::parameter_bytes(*attention));
            CHECK(image.ptx.find(".param .align 8 .b8 " + info.name + "_forward_param_0[" + bytes + "]") != std::string::npos);
            CHECK(image.ptx.find(".extern .func") == std::string::npos);
            CHECK(image.ptx.find("trap;") == std::string::npos);
            CHECK(image.head_dim >= options.head_dim);

            options.arch = nvptx::Arch::Sm90a;
            options.dtype = kTypes[compiled_images % 2];
            options.short_queries = false;
            const nvptx::Image own = nvptx::compile(*attention, options, nullptr);
            CHECK(own.target == "sm_90a");
            CHECK(own.map_columns > 0);
            CHECK(own.ptx.find(".version 8.0\n.target sm_90a\n.address_size 64\n") != std::string::npos);
            CHECK(own.ptx.find(".param .align 8 .b8 " + info.name + "_forward_param_0[" + bytes + "]") != std::string::npos);
            CHECK(own.ptx.find(".param .align 64 .b8 " + info.name + "_forward_param_1[576]") != std::string::npos);
            CHECK(own.ptx.find(".maxntid " + std::to_string(own.threads) + ", 1, 1\n.minnctapersm 1\n") != std::string::npos);
            CHECK(count(own.ptx, "setmaxnreg") >= 2);
            CHECK(own.ptx.find("cvta.param") != std::string::npos);  // the maps stay among the parameters
            CHECK(own.ptx.find(".extern .func") == std::string::npos);
            CHECK(own.summary_flags == image.summary_flags);
        }
    }
    CHECK(compiled_images >= 40);
}

TEST_CASE("ordinary variants use no local memory") {
    for (const char* source :
         {"attention a() {}", "attention a() { mask = k <= q; }", kSlopes, "import std; attention a() { score = softcap(30.0); }",
          "import std; attention a() { mask = sliding_window(1024); }",
          "import std; attention a(doc: i32[N]) { mask = doc[q] == doc[k] and causal(); }"})
        for (const nvptx::Arch arch : nvptx::kArchs)
            for (const flex::DType dtype : {flex::DType::BF16, flex::DType::F16, flex::DType::F32}) {
                CAPTURE(source);
                nvptx::Options options;
                options.arch = arch;
                options.dtype = dtype;
                const nvptx::Image image = compiled(source, options);
                CHECK(image.ptx.find(".local") == std::string::npos);
                CHECK(image.ptx.find("call") == std::string::npos);
            }
}

TEST_CASE("a value of the row is computed before the loop over keys") {
    // slope[h] is all that is loaded from constant global memory.
    const std::string kernel = forward_of(kSlopes);
    CHECK(kernel.find("ld.global.nc") != std::string::npos);
    CHECK(!Flow(kernel).in_product_loop("ld.global.nc"));
    CHECK(Flow(forward_of("attention a(bias: f32[K]) { score = score + bias[k]; }")).in_product_loop("ld.global.nc"));
    // So is costly arithmetic: a division of integers that the key has no part in.
    CHECK(!Flow(forward_of("attention a(n: i32) { score = score + f32(q // n); }")).in_product_loop("div.s32"));
    CHECK(Flow(forward_of("attention a(n: i32) { score = score + f32(k // n); }")).in_product_loop("div.s32"));
}

TEST_CASE("a full tile goes past the mask") {
    // 19088743 marks the mask, 30257 the score clause: from one product to the other there is a way without the one, none without the other.
    const std::string kernel = forward_of("attention a() { score = score + f32(k ^ 30257); mask = (k ^ 19088743) < 19088000 or k < q; }");
    const Flow flow(kernel);
    const size_t first = flow.block_with("mma.sync", false), last = flow.block_with("mma.sync", true);
    REQUIRE(first != last);
    CHECK(kernel.find("19088743") != std::string::npos);
    CHECK(flow.reached(first, "19088743").contains(last));
    CHECK(!flow.reached(first, "30257").contains(last));
}

TEST_CASE("no mask, no code for it") {
    // The tile walk and the hook are gone: no product is reached through a vote on tile states.
    const std::string none = forward_of("attention a() {}"), some = forward_of("attention a() { mask = k <= q; }");
    CHECK(none.size() < some.size());
    CHECK(count(none, "vote.sync.ballot") < count(some, "vote.sync.ballot"));
}

TEST_CASE("a score clause is rounded as written") {
    const std::string kernel = forward_of("attention a(x: f32, y: f32) { score = score * x + y; }");
    CHECK(count(kernel, "mul.rn.f32") >= 64);
    CHECK(count(kernel, "add.rn.f32") >= 64);
    const std::string divided = forward_of("attention a(x: f32) { score = x / score; }");
    CHECK(count(divided, "div.rn.f32") >= 64);
    CHECK(count(divided, "ex2.approx.ftz.f32") >= 64);
}

TEST_CASE("what divides all keys is inverted once") {
    const std::string by_scalar = forward_of("attention a(x: f32) { score = score / x; }");
    const std::string plain = forward_of("attention a(x: f32) { score = score * x; }");
    CHECK(count(by_scalar, "div.rn.f32") == count(plain, "div.rn.f32"));
    CHECK(count(by_scalar, "rcp.rn.f32") <= count(plain, "rcp.rn.f32") + 4);
    CHECK(count(by_scalar, "fma.rn.f32") >= count(plain, "fma.rn.f32") + 128);
}

TEST_CASE("a long clause is written once for a tile") {
    const std::string kernel = forward_of("attention a() { score = erf(erf(score)); }");
    CHECK(count(kernel, "ex2.approx.f32") <= 32);
    CHECK(kernel.find("ld.local") != std::string::npos);
    const std::string loop = forward_of("attention a(t: i32[J]) { mask = any(j in 0..J: t[j] == k); }");
    CHECK(count(loop, "ld.global.nc.u32") <= 32);
}

TEST_CASE("arguments are read where the layout puts them") {
    const auto attention = lowered("attention a(x: f32, t: i32[N], y: f32 = 2.0) { score = score * x + y; mask = t[q] < k; }");
    REQUIRE(attention);
    const nvptx::Image image = nvptx::compile(*attention, nvptx::Options(), nullptr);
    const flex::GpuLayout layout = flex::gpu_layout(codegen::describe(*attention), image.summary_flags.size());
    const std::string kernel = kernel_of(image, image.forward_symbol);
    const auto reads = [&](size_t offset) {
        const std::string end = "+" + std::to_string(offset) + "];";
        const auto lines = lines_of(kernel);
        return std::any_of(lines.begin(), lines.end(),
                           [&](const std::string& line) { return line.find("ld.param") != std::string::npos && line.ends_with(end); });
    };
    CHECK(reads(layout.extents + 4 * 3));
    CHECK(reads(layout.scalars));
    CHECK(reads(layout.scalars + 8));
    CHECK(reads(layout.tensors[1]));
    CHECK(reads(layout.tensors[1] + 8));
    CHECK(nvptx::parameter_bytes(*attention) == layout.bytes);
}

TEST_CASE("the same attention gives the same PTX") {
    const auto attention = lowered(kSlopes);
    REQUIRE(attention);
    CHECK(nvptx::compile(*attention, nvptx::Options(), nullptr).ptx == nvptx::compile(*attention, nvptx::Options(), nullptr).ptx);
    nvptx::Options other;
    other.head_dim = other.v_head_dim = 64;
    CHECK(nvptx::target_identity({}) != nvptx::target_identity(other));
}

TEST_CASE("the smallest instance that fits is chosen") {
    nvptx::Options options;
    for (const int d : {1, 63, 64, 65, 96, 128, 129, 256}) {
        options.head_dim = options.v_head_dim = d;
        const nvptx::Instance* instance = nvptx::choose(options);
        REQUIRE(instance);
        CHECK(instance->head_dim >= d);
        CHECK(instance->v_head_dim >= d);
        CHECK(!instance->tf32);
        for (const nvptx::Instance& each : nvptx::instances())
            if (each.dtype == options.dtype && each.head_dim >= d && each.v_head_dim >= d && (each.tile_q == 16) == options.short_queries)
                CHECK(instance->head_dim + instance->v_head_dim <= each.head_dim + each.v_head_dim);
    }
    options.head_dim = 257;
    CHECK(nvptx::choose(options) == nullptr);
    options = {};
    options.dtype = flex::DType::F32;
    options.allow_tf32 = true;
    CHECK(nvptx::choose(options)->tf32);
    options.dtype = flex::DType::F16;
    CHECK(!nvptx::choose(options)->tf32);
}

TEST_CASE("for a device, its own instance or one that it runs") {
    nvptx::Options options;
    options.arch = nvptx::Arch::Sm90a;
    for (const flex::DType dtype : {flex::DType::BF16, flex::DType::F16})
        for (const int d : {1, 64, 96, 128, 192, 256}) {
            options.dtype = dtype;
            options.head_dim = options.v_head_dim = d;
            REQUIRE(nvptx::choose(options));
            CHECK(nvptx::choose(options)->arch == nvptx::Arch::Sm90a);
        }
    options = {};
    options.arch = nvptx::Arch::Sm90a;
    options.short_queries = true;
    CHECK(nvptx::choose(options)->tile_q == 16);
    options.short_queries = false;
    options.dtype = flex::DType::F32;
    CHECK(nvptx::choose(options)->arch == nvptx::Arch::Sm80);
    CHECK(nvptx::choose_backward(options)->arch == nvptx::Arch::Sm80);

    options = {};
    for (const nvptx::Instance& each : nvptx::instances()) {
        options.instance = each.name;
        options.dtype = each.dtype;
        options.allow_tf32 = each.tf32;
        options.head_dim = options.v_head_dim = 1;
        CHECK(nvptx::choose(options) == &each);
        options.head_dim = each.head_dim + 1;
        CHECK(nvptx::choose(options) == nullptr);
        options.head_dim = each.head_dim;
        options.dtype = each.dtype == flex::DType::F32 ? flex::DType::F16 : flex::DType::F32;
        CHECK(nvptx::choose(options) == nullptr);
    }
}

TEST_CASE("an image as the runtime takes it") {
    const nvptx::Image image = compiled("attention near(doc: i32[N]) { mask = doc[q] == doc[k]; }");
    const flex_gpu_image view = image.view();
    CHECK(view.abi_version == FLEX_GPU_ABI_VERSION);
    CHECK(std::string(view.target) == "sm_80");
    CHECK(view.dtype == FLEX_GPU_BF16);
    CHECK(std::string(view.forward.symbol) == "near_forward");
    CHECK(std::string(view.combine.symbol) == "near_combine");
    CHECK(std::string(view.summarise.symbol) == "near_summarise");
    CHECK(view.summary_count == 2);
    CHECK(view.forward.shared_bytes == image.shared_bytes);
    CHECK(std::string(view.code).size() == view.code_bytes);
    const nvptx::Image plain = compiled("attention plain() {}");
    CHECK(plain.view().summarise.symbol == nullptr);
    CHECK(plain.view().summary_count == 0);
}
