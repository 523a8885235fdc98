#include "flexc/flexc.h"

#include <algorithm>
#include <new>

#include "diag/diagnostic.h"
#include "driver/compiler.h"
#include "driver/gpu_images.h"

namespace flexc {

namespace {

Diagnostic converted(const diag::SourceManager& sources, const diag::Diagnostic& from) {
    const diag::KindInfo& info = diag::info(from.kind);
    Diagnostic to;
    to.is_error = from.level == diag::Level::Error;
    to.code = info.code;
    to.name = info.name;
    to.text = from.message;
    if (from.span) {
        const diag::SourceFile& file = sources.file(from.span->file);
        const diag::LineColumn begin = file.position(from.span->begin), end = file.position(from.span->end);
        to.file = file.name();
        to.line = static_cast<int>(begin.line);
        to.column = static_cast<int>(begin.column);
        to.end_line = static_cast<int>(end.line);
        to.end_column = static_cast<int>(end.column);
    }
    for (const diag::Note& note : from.notes) (note.is_help ? to.help : to.notes).push_back(note.text);
    return to;
}

std::vector<Diagnostic> all_diagnostics(const Session& session) {
    std::vector<Diagnostic> out;
    for (const diag::Diagnostic& each : session.sink.all()) out.push_back(converted(session.sources, each));
    return out;
}

Error error_of(const Session& session) {
    return {all_diagnostics(session), diag::render_all(session.sources, session.sink, false)};
}

/// Without the machinery of diagnostics, which may be what has no memory.
Error plain_error(diag::Kind kind, const char* text) {
    Error error;
    Diagnostic& only = error.diagnostics.emplace_back();
    only.code = diag::info(kind).code;
    only.name = diag::info(kind).name;
    only.text = text;
    error.text = "error[" + only.code + "]: " + only.text + "\n";
    return error;
}

/// The code of one kernel and the table that points to it.
struct Code {
    std::unique_ptr<CpuKernel> cpu;
    std::vector<nvptx::Image> images;
    std::vector<flex_gpu_image> views;
    std::vector<const flex_gpu_image*> list;
    std::vector<nvptx::BackwardImage> backward_images;
    std::vector<flex_gpu_backward_image> backward_views;
    std::vector<const flex_gpu_backward_image*> backward_list;
    flex_linked table{};
};

ImageOptions image_options(const CompileOptions& options, std::vector<nvptx::Arch> archs) {
    ImageOptions wanted;
    wanted.archs = std::move(archs);
    wanted.dtypes = options.dtypes;
    wanted.head_dim = options.head_dim;
    wanted.v_head_dim = options.v_head_dim > 0 ? options.v_head_dim : options.head_dim;
    wanted.allow_tf32 = options.allow_tf32;
    wanted.atomic = options.atomic;
    wanted.use_cache = options.use_cache;
    wanted.cache_dir = options.cache_dir;
    return wanted;
}

bool compile_targets(Session& session, const ir::Attention& attention, const CompileOptions& options, Code* code) {
    KernelOptions kernel_options;
    kernel_options.use_cache = options.use_cache;
    kernel_options.cache_dir = options.cache_dir;
    bool cached = true;
    std::vector<nvptx::Arch> archs;
    for (const std::string& target : options.targets) {
        if (target == "cpu") {
            session.phases.cached = false;
            code->cpu = session.compile_cpu(attention, kernel_options);
            if (!code->cpu) return false;
            const auto level = std::min(static_cast<size_t>(kernel_options.level), size_t{FLEX_LINKED_LEVELS - 1});
            code->table.cpu[level] = &code->cpu->code->table();
            cached = cached && session.phases.cached;
        } else if (const auto arch = gpu_target(target)) {
            archs.push_back(*arch);
        } else {
            session.sink.report(diag::Kind::no_emit, {}, std::string("kernel"), target).help(known_targets());
            return false;
        }
    }
    if (!archs.empty()) {
        auto images = compile_images(session, attention, image_options(options, archs));
        if (!images) return false;
        code->images = std::move(*images);
        cached = cached && session.phases.cached;
    }
    if (!archs.empty() && attention.gradient) {
        auto backward = compile_backward_images(session, attention, image_options(options, archs));
        if (!backward) return false;
        code->backward_images = std::move(*backward);
        cached = cached && session.phases.cached;
    }
    session.phases.cached = cached && !options.targets.empty();
    for (const nvptx::Image& image : code->images) code->views.push_back(image.view());
    for (const flex_gpu_image& view : code->views) code->list.push_back(&view);
    code->table.images = code->list.data();
    code->table.image_count = static_cast<uint32_t>(code->list.size());
    for (const nvptx::BackwardImage& image : code->backward_images) code->backward_views.push_back(image.view());
    for (const flex_gpu_backward_image& view : code->backward_views) code->backward_list.push_back(&view);
    code->table.backward_images = code->backward_list.data();
    code->table.backward_image_count = static_cast<uint32_t>(code->backward_list.size());
    return true;
}

Result<detail::Compiled> compile_in(Session& session, std::string_view source, const CompileOptions& options) {
    if (!session.open_text(options.file_name, std::string(source))) return error_of(session);
    const auto name = session.choose(options.attention);
    if (!name) return error_of(session);
    auto attention = session.lower(*name, options.consts);
    if (!attention || (options.gradients && !session.differentiate(&*attention))) return error_of(session);

    auto code = std::make_shared<Code>();
    code->table.version = FLEX_LINKED_VERSION;
    if (!compile_targets(session, *attention, options, code.get())) return error_of(session);
    detail::Compiled compiled;
    compiled.desc = cpu::describe(*attention);
    compiled.doc = attention->doc;
    compiled.code = &code->table;
    compiled.owner = std::move(code);
    compiled.warnings = all_diagnostics(session);
    compiled.from_cache = session.phases.cached;
    return compiled;
}

}  // namespace

namespace detail {

Result<Compiled> compile(std::string_view source, const CompileOptions& options) noexcept {
    try {
        Session session;
        return compile_in(session, source, options);
    } catch (const std::bad_alloc&) {
        return plain_error(diag::Kind::out_of_memory, "out of memory");
    } catch (const std::exception& exception) {
        return plain_error(diag::Kind::cannot_launch, exception.what());
    }
}

}  // namespace detail

}  // namespace flexc
