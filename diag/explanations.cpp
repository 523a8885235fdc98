#include "diag/explanations.h"

#include "diag/check.h"
#include "diag/embedded.h"

namespace flexc::diag {

std::span<const EmbeddedFile> explanation_files();  // of the build: explanations/*.txt

namespace {

constexpr std::string_view kIndent = "    ";

std::string_view next_line(std::string_view* text) {
    const size_t end = text->find('\n');
    const std::string_view line = text->substr(0, end);
    text->remove_prefix(end == std::string_view::npos ? text->size() : end + 1);
    return line;
}

/// What stands below the head of one code, in whichever file has it.
std::string_view section(std::string_view code) {
    const std::string head = "= " + std::string(code) + "\n";
    for (const EmbeddedFile& file : explanation_files()) {
        const size_t found = file.text.find(head);
        if (found == std::string_view::npos) continue;
        const std::string_view text = file.text.substr(found + head.size());
        return text.substr(0, text.find("\n= "));
    }
    FLEX_CHECK(false, "every code is explained");
    return {};
}

}  // namespace

Explanation explanation(const KindInfo& kind) {
    std::string_view text = section(kind.code);
    Explanation out;
    std::string* example = nullptr;
    while (!text.empty()) {
        const std::string_view line = next_line(&text);
        if (line == "wrong:")
            example = &out.wrong;
        else if (line == "right:")
            example = &out.right;
        else if (example && line.substr(0, kIndent.size()) == kIndent)
            *example += std::string(line.substr(kIndent.size())) + '\n';
        else if (!line.empty())
            out.paragraphs.emplace_back(line);
    }
    return out;
}

}  // namespace flexc::diag
