#include "driver/linkable.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "backend/embed/embed.h"
#include "driver/cpp_header.h"
#include "driver/gpu_images.h"

namespace flexc {

namespace {

constexpr flex::CpuLevel kLevels[] = {flex::CpuLevel::Generic, flex::CpuLevel::Avx2, flex::CpuLevel::Avx512};

bool compile_cpu_levels(Session& session, const ir::Attention& attention, std::vector<embed::CpuObject>* out) {
    const auto unsupported = cpu::unsupported_clauses(attention);
    if (!unsupported.empty()) {
        std::string list;
        for (const std::string& clause : unsupported) list += (list.empty() ? "`" : ", `") + clause + "`";
        session.sink.report(diag::Kind::unsupported_clause, {}, list, attention.name, std::string("cpu"))
            .help("the interpreter has every clause: `flexc run --device interp`");
        return false;
    }
    for (const flex::CpuLevel level : kLevels) {
        cpu::Timings timings;
        out->push_back({level, cpu::compile_object(attention, {level}, &timings)});
        session.phases.lower += timings.lower * 1e3;
        session.phases.optimise += timings.optimise * 1e3;
        session.phases.codegen += timings.codegen * 1e3;
    }
    return true;
}

ImageOptions image_options(std::vector<nvptx::Arch> archs, const LinkOptions& options) {
    ImageOptions wanted;
    wanted.archs = std::move(archs);
    if (!options.dtypes.empty()) wanted.dtypes = options.dtypes;
    if (options.head_dim > 0) wanted.head_dim = options.head_dim;
    wanted.v_head_dim = options.v_head_dim > 0 ? options.v_head_dim : wanted.head_dim;
    wanted.allow_tf32 = options.allow_tf32;
    wanted.atomic = options.atomic;
    wanted.use_cache = false;
    return wanted;
}

/// "sm_80 and later: bf16, D up to 128, DV up to 128", a line a type. Targets of one architecture are not for later devices.
template <class Image>
void describe_images(const std::vector<Image>& images, const char* pass, std::vector<std::string>* lines) {
    for (const Image& image : images) {
        std::string line =
            fmt::format("{}{}{}: {}{}, D up to {}, DV up to {}", image.target, image.target.ends_with('a') ? "" : " and later", pass,
                        flex::name(image.dtype), image.tf32 ? " by products in tf32" : "", image.head_dim, image.v_head_dim);
        if (std::find(lines->begin(), lines->end(), line) == lines->end()) lines->push_back(std::move(line));
    }
}

/// What a header and its object have in common and no other pair has.
uint64_t fingerprint(const embed::Contents& contents) {
    const std::vector<char> object = embed::make_object(contents);
    return XXH3_64bits(object.data(), object.size());
}

}  // namespace

std::optional<Linkable> make_linkable(Session& session, const ir::Attention& attention, const LinkOptions& options,
                                      const std::string& source, const std::string& object_name) {
    HeaderFacts facts;
    facts.name = options.name.empty() ? cpp_name(attention.name) : options.name;
    facts.source = source;
    facts.doc = attention.doc;
    facts.object = object_name;
    facts.gradients = attention.gradient.has_value();

    embed::Contents contents;
    contents.attention = attention.name;
    contents.name = facts.name;
    for (size_t at; (at = contents.name.find("::")) != std::string::npos;) contents.name.replace(at, 2, "_");
    std::vector<nvptx::Arch> archs;
    for (size_t i = 0; i < options.targets.size(); ++i) {
        if (options.finished) options.finished->store(static_cast<int>(i));
        const std::string& target = options.targets[i];
        const auto here = options.targets.begin() + static_cast<std::ptrdiff_t>(i);
        if (std::find(options.targets.begin(), here, target) != here) continue;  // named twice
        if (target == "cpu") {
            if (!compile_cpu_levels(session, attention, &contents.cpu)) return std::nullopt;
            facts.cpu = true;
        } else if (const auto arch = gpu_target(target)) {
            archs.push_back(*arch);
        } else {
            session.sink.report(diag::Kind::no_emit, {}, std::string("header"), target).help(known_targets());
            return std::nullopt;
        }
    }
    std::vector<nvptx::Image> images;  // views point into them
    std::vector<nvptx::BackwardImage> backward_images;
    if (!archs.empty()) {
        auto made = compile_images(session, attention, image_options(archs, options));
        if (!made) return std::nullopt;
        images = std::move(*made);
        describe_images(images, "", &facts.gpu);
        for (const nvptx::Image& image : images) contents.images.push_back(image.view());
    }
    if (!archs.empty() && attention.gradient) {
        auto made = compile_backward_images(session, attention, image_options(archs, options));
        if (!made) return std::nullopt;
        backward_images = std::move(*made);
        describe_images(backward_images, options.atomic ? ", backward by atomics" : ", backward", &facts.gpu);
        for (const nvptx::BackwardImage& image : backward_images) contents.backward_images.push_back(image.view());
    }
    contents.fingerprint = facts.fingerprint = fingerprint(contents);
    facts.table = embed::table_symbol(contents.name);
    return Linkable{cpp_header(cpu::describe(attention), facts), embed::make_object(contents)};
}

}  // namespace flexc
