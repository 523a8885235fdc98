#include "tools/explain_code.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "diag/explanations.h"

namespace flexc::tools {

namespace {

constexpr size_t kWidth = 100;

std::string wrapped(std::string_view paragraph) {
    std::string out;
    size_t column = 0;
    while (!paragraph.empty()) {
        const size_t end = std::min(paragraph.find(' '), paragraph.size());
        if (column > 0 && column + 1 + end > kWidth) {
            out += '\n';
            column = 0;
        } else if (column > 0) {
            out += ' ';
            ++column;
        }
        out += paragraph.substr(0, end);
        column += end;
        paragraph.remove_prefix(std::min(end + 1, paragraph.size()));
    }
    return out + '\n';
}

std::string indented(std::string_view source) {
    std::string out;
    while (!source.empty()) {
        const size_t end = source.find('\n') + 1;
        out += "    " + std::string(source.substr(0, end));
        source.remove_prefix(end);
    }
    return out;
}

}  // namespace

std::optional<diag::KindInfo> diagnostic_of(const std::filesystem::path& file) {
    std::error_code ignored;
    if (std::filesystem::exists(file, ignored)) return std::nullopt;
    std::string text = file.string();
    for (const diag::KindInfo& kind : diag::all_kinds())
        if (text == kind.name) return kind;
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    for (const diag::KindInfo& kind : diag::all_kinds())
        if (text == kind.code) return kind;
    return std::nullopt;
}

bool is_unknown_code(const std::filesystem::path& file) {
    std::error_code ignored;
    const std::string text = file.string();
    return text.size() == 5 && std::string_view("EWew").find(text[0]) != std::string_view::npos &&
           std::all_of(text.begin() + 1, text.end(), [](unsigned char c) { return std::isdigit(c) != 0; }) &&
           !std::filesystem::exists(file, ignored) && !diagnostic_of(file);
}

std::string code_page(const diag::KindInfo& kind) {
    const diag::Explanation explanation = diag::explanation(kind);
    std::string out =
        fmt::format("{}[{}] {}: {}\n", kind.level == diag::Level::Error ? "error" : "warning", kind.code, kind.name, kind.message);
    for (const std::string& paragraph : explanation.paragraphs) out += '\n' + wrapped(paragraph);
    if (!explanation.wrong.empty()) out += "\nThis gives it:\n\n" + indented(explanation.wrong);
    if (!explanation.right.empty()) out += "\nThis does not:\n\n" + indented(explanation.right);
    return out;
}

Json code_json(const diag::KindInfo& kind) {
    const diag::Explanation explanation = diag::explanation(kind);
    Json out = {{"code", kind.code}, {"name", kind.name}, {"message", kind.message}, {"text", explanation.paragraphs}};
    if (!explanation.wrong.empty()) out["wrong"] = explanation.wrong;
    if (!explanation.right.empty()) out["right"] = explanation.right;
    return out;
}

}  // namespace flexc::tools
