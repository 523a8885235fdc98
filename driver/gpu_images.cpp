#include "driver/gpu_images.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

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

}  // namespace

nvptx::Image compile_image(Session& session, const ir::Attention& attention, const nvptx::Options& target, const ImageOptions& options) {
    const auto dir = options.cache_dir.empty() ? default_cache_dir() : options.cache_dir;
    nvptx::Image image;
    std::string key;
    if (options.use_cache) {
        key = cache_key("image\n" + nvptx::target_identity(target) + '\n' + ir::print(attention));
        if (const auto bytes = cache_read(dir, key)) {
            Archive archive(*bytes);
            archive.image(image);
            if (archive.sound()) return image;
        }
    }
    session.phases.cached = false;
    nvptx::Timings timings;
    image = nvptx::compile(attention, target, &timings);
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

std::optional<nvptx::Arch> gpu_target(std::string_view name) {
    for (const nvptx::Arch arch : {nvptx::Arch::Sm80})
        if (nvptx::name(arch) == name) return arch;
    return std::nullopt;
}

bool can_compile(Session& session, const ir::Attention& attention, const nvptx::Options& options) {
    const std::string target(nvptx::name(options.arch));
    if (const auto unsupported = nvptx::unsupported_clauses(attention); !unsupported.empty()) {
        std::string list;
        for (const std::string& clause : unsupported) list += (list.empty() ? "`" : ", `") + clause + "`";
        session.sink.report(diag::Kind::unsupported_clause, {}, list, attention.name, target)
            .help("the interpreter has every clause: `flexc run --device interp`");
        return false;
    }
    if (const size_t bytes = nvptx::parameter_bytes(attention); bytes > flex::kGpuParameterLimit) {
        session.sink
            .report(diag::Kind::too_much_captured, {}, attention.name, std::to_string(bytes), target,
                    std::to_string(flex::kGpuParameterLimit))
            .help("several tensors of one shape can be passed as one with another dimension");
        return false;
    }
    if (nvptx::choose(options)) return true;
    session.sink.report(diag::Kind::no_kernel, {}, target, std::string(flex::name(options.dtype)), std::to_string(options.head_dim),
                        std::to_string(options.v_head_dim));
    return false;
}

std::optional<std::vector<nvptx::Image>> compile_images(Session& session, const ir::Attention& attention, const ImageOptions& options) {
    std::vector<nvptx::Image> images;
    session.phases.cached = true;
    for (const flex::DType dtype : options.dtypes) {
        nvptx::Options one{options.arch, dtype, options.head_dim, options.v_head_dim, options.allow_tf32, false};
        if (!can_compile(session, attention, one)) return std::nullopt;
        const nvptx::Instance* const usual = nvptx::choose(one);
        images.push_back(compile_image(session, attention, one, options));
        one.short_queries = true;
        const nvptx::Instance* const small = nvptx::choose(one);
        if (small && small != usual) images.push_back(compile_image(session, attention, one, options));
    }
    return images;
}

}  // namespace flexc
