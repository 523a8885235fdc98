#include "driver/gpu_images.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "diag/check.h"
#include "driver/cache.h"
#include "ir/passes.h"
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
                          &image.combine_threads, &image.summarise_threads, &image.max_pack})
            value(*each);
        list(image.summary_flags);
        for (std::string* each : {&image.forward_symbol, &image.combine_symbol, &image.summarise_symbol, &image.ptx}) list(*each);
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
            .help("the interpreter has every clause: `flexc run --device interp`");
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
    return cached_image<nvptx::Image>(session, "image\n" + nvptx::target_identity(target), attention, options,
                                      [&](nvptx::Timings* timings) { return nvptx::compile(attention, target, timings); });
}

std::optional<nvptx::Arch> gpu_target(std::string_view name) {
    for (const nvptx::Arch arch : {nvptx::Arch::Sm80})
        if (nvptx::name(arch) == name) return arch;
    return std::nullopt;
}

bool can_compile(Session& session, const ir::Attention& attention, const nvptx::Options& options) {
    if (!can_lower(session, attention, options.arch, false)) return false;
    if (nvptx::choose(options)) return true;
    report_no_kernel(session, options);
    return false;
}

bool can_compile_backward(Session& session, const ir::Attention& attention, const nvptx::Options& options) {
    if (!can_lower(session, attention, options.arch, true)) return false;
    if (nvptx::choose_backward(options)) return true;
    report_no_kernel(session, options).note("this is of the backward pass, whose kernels are others than those of the forward pass");
    return false;
}

namespace {

/// Which of the two a launch needs: the runtime takes the smallest tile that holds all rows of a KV head, else the largest; and what fits into the device.
struct Needed {
    bool usual = true, small = true;
};
Needed needed(const nvptx::Instance& usual, const nvptx::Instance& small, const std::optional<LaunchShape>& shape) {
    if (!shape || usual.shared_bytes > shape->shared_per_block || small.shared_bytes > shape->shared_per_block) return {};
    const bool holds_all = shape->queries * shape->group <= small.tile_q;
    return {!holds_all, holds_all};
}

}  // namespace

std::optional<std::vector<nvptx::Image>> compile_images(Session& session, const ir::Attention& attention, const ImageOptions& options) {
    std::vector<nvptx::Image> images;
    session.phases.cached = true;
    for (const flex::DType dtype : options.dtypes) {
        nvptx::Options one{options.arch, dtype, options.head_dim, options.v_head_dim, options.allow_tf32, false};
        if (!can_compile(session, attention, one)) return std::nullopt;
        const nvptx::Instance* const usual = nvptx::choose(one);
        nvptx::Options few = one;
        few.short_queries = true;
        const nvptx::Instance* const small = nvptx::choose(few);
        const Needed need = small && small != usual ? needed(*usual, *small, options.only_for) : Needed{true, false};
        if (need.usual) images.push_back(compile_image(session, attention, one, options));
        if (need.small) images.push_back(compile_image(session, attention, few, options));
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
        nvptx::Options one{options.arch, dtype, options.head_dim, options.v_head_dim, options.allow_tf32, false, options.atomic};
        if (!can_compile_backward(session, attention, one)) return std::nullopt;
        images.push_back(compile_backward_image(session, attention, one, options));
    }
    return images;
}

}  // namespace flexc
