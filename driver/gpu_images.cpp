#include "driver/gpu_images.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <type_traits>

#include "diag/check.h"
#include "driver/cache.h"
#include "ir/passes.h"
#include "runtime/cuda/plan.h"
#include "runtime/cuda/tuned.h"
#include "runtime/gpu_layout.h"

namespace flexc {

namespace {

/// An image as bytes, and back: every member in turn, texts and lists with their length before them.
class Archive {
public:
    Archive() = default;
    explicit Archive(const std::vector<char>& bytes) : bytes_(bytes), reading_(true) {}

    [[nodiscard]] bool sound() const { return sound_ && at_ == bytes_.size(); }
    [[nodiscard]] const std::vector<char>& bytes() const { return bytes_; }

    void image(nvptx::Image& image) {
        list(image.target);
        value(image.dtype);
        value(image.tf32);
        for (int* each : {&image.head_dim, &image.v_head_dim, &image.tile_q, &image.tile_k, &image.threads, &image.shared_bytes,
                          &image.combine_threads, &image.summarise_threads, &image.max_pack, &image.map_columns})
            value(*each);
        list(image.summary_flags);
        for (std::string* each : {&image.instance, &image.forward_symbol, &image.combine_symbol, &image.summarise_symbol, &image.ptx})
            list(*each);
    }
    void image(nvptx::BackwardImage& image) {
        list(image.target);
        value(image.dtype);
        value(image.tf32);
        value(image.atomic);
        for (int* each : {&image.head_dim, &image.v_head_dim, &image.tile_q, &image.tile_k}) value(*each);
        list(image.summary_flags);
        for (nvptx::BackwardImage::Kernel* each :
             {&image.summarise, &image.rows, &image.queries, &image.keys, &image.scale, &image.finish}) {
            list(each->symbol);
            value(each->threads);
            value(each->shared_bytes);
        }
        list(image.ptx);
    }

private:
    template <class T>
    void value(T& x) {
        static_assert(std::is_trivially_copyable_v<T>);
        raw(&x, sizeof x);
    }
    template <class List>
    void list(List& x) {
        uint64_t size = x.size();
        value(size);
        if (reading_) {
            sound_ = sound_ && size <= (bytes_.size() - at_) / sizeof(x[0]);
            x.resize(sound_ ? size : 0);
        }
        raw(x.data(), x.size() * sizeof(x[0]));
    }
    void raw(void* data, size_t size) {
        if (!reading_) {
            const char* from = static_cast<const char*>(data);
            bytes_.insert(bytes_.end(), from, from + size);
            at_ += size;
        } else if (sound_ = sound_ && size <= bytes_.size() - at_; sound_ && size > 0) {
            std::memcpy(data, bytes_.data() + at_, size);
            at_ += size;
        }
    }

    std::vector<char> bytes_;
    size_t at_ = 0;
    bool reading_ = false, sound_ = true;
};

/// From the cache, else by `make(&timings)`, which then goes there.
template <class Image, class Make>
Image cached_image(Session& session, const std::string& identity, const ir::Attention& attention, const ImageOptions& options,
                   const Make& make) {
    const auto dir = options.cache_dir.empty() ? default_cache_dir() : options.cache_dir;
    Image image;
    std::string key;
    if (options.use_cache) {
        key = cache_key(identity + '\n' + ir::print(attention));
        if (const auto bytes = cache_read(dir, key)) {
            Archive archive(*bytes);
            archive.image(image);
            if (archive.sound()) return image;
        }
    }
    session.phases.cached = false;
    nvptx::Timings timings;
    image = make(&timings);
    session.phases.lower += timings.lower * 1e3;
    session.phases.optimise += timings.optimise * 1e3;
    session.phases.codegen += timings.codegen * 1e3;
    if (options.use_cache) {
        Archive archive;
        archive.image(image);
        cache_write(dir, key, archive.bytes());
    }
    return image;
}

/// Clauses that the target lacks, or more captured than a launch can pass: false after a report.
bool can_lower(Session& session, const ir::Attention& attention, nvptx::Arch arch, bool backward) {
    const std::string target(nvptx::name(arch));
    if (const auto unsupported = nvptx::unsupported_clauses(attention); !unsupported.empty()) {
        std::string list;
        for (const std::string& clause : unsupported) list += (list.empty() ? "`" : ", `") + clause + "`";
        session.sink.report(diag::Kind::unsupported_clause, {}, list, attention.name, target)
            .help(cpu::unsupported_clauses(attention).empty() ? "`--device cpu` and the target `cpu` have it"
                                                              : "the interpreter has every clause: `flexc run --device interp`");
        return false;
    }
    if (const size_t bytes = nvptx::parameter_bytes(attention, backward); bytes > flex::kGpuParameterLimit) {
        auto& report = session.sink.report(diag::Kind::too_much_captured, {}, attention.name, std::to_string(bytes), target,
                                           std::to_string(flex::kGpuParameterLimit));
        if (backward) report.note("this is of the backward pass, which passes a gradient for each `grad` parameter too");
        report.help("several tensors of one shape can be passed as one with another dimension");
        return false;
    }
    return true;
}

diag::Diagnostic& report_no_kernel(Session& session, const nvptx::Options& options) {
    return session.sink.report(diag::Kind::no_kernel, {}, std::string(nvptx::name(options.arch)), std::string(flex::name(options.dtype)),
                               std::to_string(options.head_dim), std::to_string(options.v_head_dim));
}

}  // namespace

nvptx::Image compile_image(Session& session, const ir::Attention& attention, const nvptx::Options& target, const ImageOptions& options) {
    return cached_image<nvptx::Image>(session, "image 2\n" + nvptx::target_identity(target), attention, options,
                                      [&](nvptx::Timings* timings) { return nvptx::compile(attention, target, timings); });
}

std::optional<nvptx::Arch> gpu_target(std::string_view name) {
    for (const nvptx::Arch arch : nvptx::kArchs)
        if (nvptx::name(arch) == name) return arch;
    return std::nullopt;
}

std::string known_targets() {
    std::string text = "the targets are `cpu`";
    for (const nvptx::Arch arch : nvptx::kArchs)
        text += std::string(arch == std::end(nvptx::kArchs)[-1] ? " and `" : ", `") + std::string(nvptx::name(arch)) + "`";
    return text;
}

namespace {

void report_no_instance(Session& session, const nvptx::Options& options) {
    std::vector<std::string> names, fitting;
    for (const nvptx::Instance& each : nvptx::instances()) {
        names.emplace_back(each.name);
        if (each.dtype == options.dtype && each.tf32 <= options.allow_tf32 && each.head_dim >= options.head_dim &&
            each.v_head_dim >= options.v_head_dim)
            fitting.emplace_back(each.name);
    }
    const std::string near = diag::nearest(options.instance, names);
    auto& report = session.sink.report(diag::Kind::no_instance, {}, options.instance, std::string(flex::name(options.dtype)),
                                       std::to_string(options.head_dim), std::to_string(options.v_head_dim));
    std::string list;
    for (const std::string& name : fitting) list += (list.empty() ? "`" : ", `") + name + "`";
    if (!near.empty() && near != options.instance) report.help("did you mean `" + near + "`?");
    report.help(list.empty() ? "no kernel is that large" : "these do: " + list);
}

}  // namespace

std::optional<nvptx::Options> resolve(Session& session, const ir::Attention& attention, const nvptx::Options& options) {
    if (!can_lower(session, attention, options.arch, false)) return std::nullopt;
    nvptx::Options out = options;
    const nvptx::Instance* instance = nvptx::choose(out);
    if (!instance) {
        options.instance.empty() ? static_cast<void>(report_no_kernel(session, options)) : report_no_instance(session, options);
        return std::nullopt;
    }
    // Tensor maps leave less room for what is captured.
    if (const size_t bytes = nvptx::parameter_bytes(attention, *instance); bytes > flex::kGpuParameterLimit) {
        out.arch = nvptx::Arch::Sm80;
        const nvptx::Instance* const plain = options.instance.empty() ? nvptx::choose(out) : nullptr;
        if (!plain) {
            session.sink.report(diag::Kind::too_much_captured, {}, attention.name, std::to_string(bytes), std::string(instance->name),
                                std::to_string(flex::kGpuParameterLimit));
            return std::nullopt;
        }
        instance = plain;
    }
    out.arch = instance->arch;
    out.instance = instance->name;
    return out;
}

bool can_compile_backward(Session& session, const ir::Attention& attention, const nvptx::Options& options) {
    if (!can_lower(session, attention, options.arch, true)) return false;
    if (nvptx::choose_backward(options)) return true;
    report_no_kernel(session, options).note("this is of the backward pass, whose kernels are others than those of the forward pass");
    return false;
}

namespace {

/// Of these instances the one that a launch takes, by what is known of them before they are compiled; null if none runs on the device.
const nvptx::Instance* best_of(const std::vector<const nvptx::Instance*>& all, const LaunchShape& shape, bool allow_tf32) {
    constexpr int kMostPack = 64;  // of the kernels for long queries; those for short ones take rows that are fewer than this
    const flex::cuda::LaunchFacts facts{shape.queries, shape.group, shape.mappable, allow_tf32};
    const nvptx::Instance* best = nullptr;
    flex::cuda::Rank rank{};
    for (const nvptx::Instance* instance : all) {
        const std::string target(nvptx::name(instance->arch));
        flex::cuda::Target parsed;
        if (!flex::cuda::parse_target(target.c_str(), &parsed) || !flex::cuda::runs_on(parsed, shape.compute_capability)) continue;
        if (instance->shared_bytes > shape.shared_per_block) continue;
        flex_gpu_image image{};
        image.target = target.c_str();
        image.tf32 = instance->tf32;
        image.head_dim = instance->head_dim;
        image.v_head_dim = instance->v_head_dim;
        image.tile_q = instance->tile_q;
        image.tile_k = instance->tile_k;
        image.max_pack = kMostPack;
        image.map_columns = instance->map_columns;
        const flex::cuda::Rank own = flex::cuda::rank_of(image, facts);
        if (best && !(own < rank)) continue;
        best = instance;
        rank = own;
    }
    return best;
}

}  // namespace

const nvptx::Instance* choose_for(const nvptx::Options& options, const LaunchShape& shape) {
    std::vector<const nvptx::Instance*> all;
    for (const nvptx::Arch arch : nvptx::kArchs)
        for (const bool few : {false, true}) {
            nvptx::Options one = options;
            one.arch = arch;
            one.short_queries = few;
            if (const nvptx::Instance* instance = nvptx::choose(one)) all.push_back(instance);
        }
    return best_of(all, shape, options.allow_tf32);
}

std::optional<std::vector<nvptx::Image>> compile_images(Session& session, const ir::Attention& attention, const ImageOptions& options) {
    std::vector<nvptx::Image> images;
    session.phases.cached = true;
    for (const flex::DType dtype : options.dtypes) {
        std::vector<nvptx::Options> wanted;
        for (const nvptx::Arch arch : options.archs)
            for (const bool few : {false, true}) {
                nvptx::Options one{arch, dtype, options.head_dim, options.v_head_dim, options.allow_tf32, few};
                one.instance = options.instance;
                if (few && (!options.instance.empty() || !nvptx::choose(one))) continue;
                auto resolved = resolve(session, attention, one);
                if (!resolved) return std::nullopt;
                if (std::none_of(wanted.begin(), wanted.end(), [&](const auto& other) { return other.instance == resolved->instance; }))
                    wanted.push_back(std::move(*resolved));
            }
        std::vector<const nvptx::Instance*> all;
        for (const nvptx::Options& each : wanted) all.push_back(nvptx::choose(each));
        const nvptx::Instance* const only = options.only_for ? best_of(all, *options.only_for, options.allow_tf32) : nullptr;
        if (only)
            std::erase_if(wanted, [&](const nvptx::Options& each) { return each.instance != only->name; });  // else the runtime says why
        for (const nvptx::Options& each : wanted) images.push_back(compile_image(session, attention, each, options));
    }
    return images;
}

nvptx::BackwardImage compile_backward_image(Session& session, const ir::Attention& attention, const nvptx::Options& target,
                                            const ImageOptions& options) {
    return cached_image<nvptx::BackwardImage>(session, "backward image\n" + nvptx::backward_identity(target), attention, options,
                                              [&](nvptx::Timings* timings) { return nvptx::compile_backward(attention, target, timings); });
}

std::optional<std::vector<nvptx::BackwardImage>> compile_backward_images(Session& session, const ir::Attention& attention,
                                                                         const ImageOptions& options) {
    FLEX_CHECK(attention.gradient, "the caller has differentiated");
    std::vector<nvptx::BackwardImage> images;
    session.phases.cached = true;
    for (const flex::DType dtype : options.dtypes) {
        nvptx::Options one{options.archs.front(), dtype, options.head_dim, options.v_head_dim, options.allow_tf32, false, options.atomic};
        if (!can_compile_backward(session, attention, one)) return std::nullopt;
        images.push_back(compile_backward_image(session, attention, one, options));
    }
    return images;
}

}  // namespace flexc
