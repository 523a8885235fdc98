// Any bytes as a .flex file: parsing, printing and rendering must neither crash, hang nor grow without bound.
#include <cstddef>
#include <cstdint>
#include <string>

#include "diag/check.h"
#include "frontend/parse.h"

using namespace flexc;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    diag::SourceManager sources;
    diag::Sink sink;
    const diag::FileId id = sources.add("fuzz.flex", std::string(reinterpret_cast<const char*>(data), size));
    const std::unique_ptr<ast::File> file = frontend::parse(sources, id, sink);
    const std::string printed = ast::print(*file);
    const std::string rendered = diag::render_all(sources, sink, false);
    FLEX_CHECK(sink.has_errors() != rendered.empty(), "errors are shown");
    return 0;
}
