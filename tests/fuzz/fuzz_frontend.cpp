// Any bytes as a .flex file: parsing, printing, checking and lowering must neither crash, hang nor grow without bound, and
// what they accept must satisfy the IR's verifier.
#include <cstddef>
#include <cstdint>
#include <string>

#include "diag/check.h"
#include "frontend/frontend.h"
#include "frontend/parse.h"
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
    return 0;
}
