// Any bytes as a .flex file: parsing, printing, checking, lowering, formatting and an editor's questions must neither crash, hang nor grow without bound, and
// what they accept must satisfy the IR's verifier.
#include <cstddef>
#include <cstdint>
#include <string>

#include "diag/check.h"
#include "frontend/format.h"
#include "frontend/frontend.h"
#include "frontend/parse.h"
#include "frontend/query.h"
#include "frontend/query_context.h"
#include "ir/passes.h"

using namespace flexc;

namespace {

constexpr const char* kImported = "mask imported(w: i32) = q - k <= w;\nfn helper(x: f32) -> f32 = x * x;\n";

void parse_and_print(const std::string& text) {
    diag::SourceManager sources;
    diag::Sink sink;
    const std::unique_ptr<ast::File> file = frontend::parse(sources, sources.add("fuzz.flex", text), sink);
    const std::string printed = ast::print(*file);
    const std::string rendered = diag::render_all(sources, sink, false);
    FLEX_CHECK(sink.has_errors() || rendered.empty(), "only errors come from the parser");
    FLEX_CHECK(!sink.has_errors() || !rendered.empty(), "errors are shown");
    FLEX_CHECK(sink.has_errors() || file->decls.empty() == printed.empty(), "declarations are printed");
}

/// What parses has a layout, which means the same and is its own layout.
std::string formatted(const std::string& text, bool* parsed) {
    diag::SourceManager sources;
    diag::Sink sink;
    const auto result = frontend::format(sources, sources.add("fuzz.flex", text), sink);
    FLEX_CHECK(result.has_value() != sink.has_errors(), "a layout or an error");
    *parsed = result.has_value();
    FLEX_CHECK(!result || result->faithful, "the layout means the same");
    return result ? result->text : std::string();
}

void format_twice(const std::string& text) {
    bool parsed = false;
    const std::string once = formatted(text, &parsed);
    if (!parsed) return;
    FLEX_CHECK(formatted(once, &parsed) == once, "the layout is stable");
}

/// Every name that has a place is found there.
void ask(const std::string& text) {
    diag::SourceManager sources;
    diag::Sink sink;
    const diag::FileId id = sources.add("fuzz.flex", text);
    const auto program = frontend::analyse(sources, id, {}, sink);
    const frontend::NameIndex names(*program);
    for (uint32_t at = 0; at < text.size(); at += 7) {
        if (const frontend::Use* use = names.at(id, at)) FLEX_CHECK(use->span.begin <= at && at <= use->span.end, "a name is where it is found");
        (void)names.type_at(id, at);
    }
    (void)frontend::context_at(text, static_cast<uint32_t>(text.size() / 2));
    (void)frontend::context_at(text, static_cast<uint32_t>(text.size()));
}

void check_and_lower(const std::string& text) {
    diag::SourceManager sources;
    diag::Sink sink;
    frontend::ImportResolver imports;
    imports.read_file = [](const std::filesystem::path& path) -> std::optional<std::string> {
        if (path.filename() == "masks.flex") return kImported;
        return {};
    };
    const diag::FileId id = sources.add("fuzz.flex", text);
    const std::unique_ptr<frontend::Program> program = frontend::check(sources, id, imports, sink);
    FLEX_CHECK((program == nullptr) == sink.has_errors(), "a program is what has no errors");
    if (program) {
        for (const auto& attention : program->attentions()) {
            diag::Sink lowering;
            const auto lowered = frontend::lower(*program, attention.name, {}, lowering);
            FLEX_CHECK(lowered.has_value() != lowering.has_errors(), "an attention is lowered or an error says why not");
            (void)diag::render_all(sources, lowering, false);
            if (lowered) FLEX_CHECK(ir::verify(*lowered).empty(), "lowered IR is well formed");
        }
    }
    (void)diag::render_all(sources, sink, true);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    parse_and_print(text);
    check_and_lower(text);
    format_twice(text);
    ask(text);
    return 0;
}
