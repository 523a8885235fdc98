#include "diag/explanations.h"

#include "diag/check.h"

namespace flexc::diag {

extern const std::string_view kExplanations;  // of the build: explanations/*.txt

namespace {

constexpr std::string_view kIndent = "    ";

std::string_view next_line(std::string_view* text) {
    const size_t end = text->find('\n');
    const std::string_view line = text->substr(0, end);
    text->remove_prefix(end == std::string_view::npos ? text->size() : end + 1);
    return line;
}

}  // namespace

Explanation explanation(const KindInfo& kind) {
    const std::string head = "= " + std::string(kind.code) + "\n";
    const size_t found = kExplanations.find(head);
    FLEX_CHECK(found != std::string_view::npos, "every code is explained");
    std::string_view text = kExplanations.substr(found + head.size());
    text = text.substr(0, text.find("\n= "));
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
