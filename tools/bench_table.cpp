#include "tools/bench_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace flexc::tools {
namespace {

std::string bar(double share, int width, bool blocks) {
    share = std::clamp(share, 0.0, 1.0);
    if (!blocks) return std::string(static_cast<size_t>(std::max(1L, std::lround(share * width))), '#');
    static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const auto eighths = std::max(1L, std::lround(share * width * 8));
    std::string out;
    for (long i = 0; i < eighths / 8; ++i) out += "█";
    return out + kEighths[eighths % 8];
}

struct Column {
    std::string head;
    std::vector<std::string> cells;
    bool left = false;
    [[nodiscard]] size_t width() const {
        size_t out = head.size();
        for (const std::string& cell : cells) out = std::max(out, cell.size());
        return out;
    }
};

size_t width_of(const std::vector<Column>& columns) {
    size_t out = 0;
    for (const Column& column : columns) out += (out ? 2 : 0) + column.width();
    return out;
}

std::string padded(const std::string& text, size_t width, bool left) {
    const std::string space(width - std::min(width, text.size()), ' ');
    return left ? text + space : space + text;
}

void trim_end(std::string& line) {
    while (!line.empty() && line.back() == ' ') line.pop_back();
}

}  // namespace

std::string table_text(const Comparison& all, const picture::Terminal& terminal) {
    Column at{all.axis, {}}, who{"", {}, true}, time{all.is_emulated ? "instructions" : "ms", {}}, rate{"GFLOP/s", {}};
    std::vector<Column> quotients;
    for (const ComparedRow& row : all.points.front().rows)
        if (row.is_baseline) quotients.push_back({"x " + row.label, {}});
    std::vector<double> shares;
    size_t fewest = SIZE_MAX, most = 0;
    for (const ComparedPoint& point : all.points) {
        const auto length = [&](const ComparedRow& row) { return all.is_emulated ? static_cast<double>(row.instructions) : row.ms; };
        double longest = 0;
        for (const ComparedRow& row : point.rows) longest = std::max(longest, length(row));
        for (const ComparedRow& row : point.rows) {
            at.cells.push_back(&row == &point.rows.front() && !all.axis.empty() ? std::to_string(point.value) : "");
            who.cells.push_back(row.label);
            time.cells.push_back(all.is_emulated ? std::to_string(row.instructions) : fmt::format("{:#.4g}", row.ms));
            rate.cells.push_back(fmt::format("{:.4g}", row.gflops));
            for (Column& quotient : quotients) {
                const auto found = row.against.find(quotient.head.substr(2));
                quotient.cells.push_back(found == row.against.end() ? "1" : fmt::format("{:.2f}", found->second));
            }
            shares.push_back(longest > 0 ? length(row) / longest : 0);
            fewest = std::min(fewest, row.rounds);
            most = std::max(most, row.rounds);
        }
    }
    std::vector<Column> columns;
    if (!all.axis.empty()) columns.push_back(at);
    columns.push_back(who);
    columns.push_back(time);
    if (!all.is_emulated) columns.push_back(rate);
    columns.insert(columns.end(), quotients.begin(), quotients.end());
    const auto room = static_cast<size_t>(std::max(terminal.width, 1));
    // The quotients say what the rates say, the times are what was asked for.
    const size_t needed = all.axis.empty() ? 2 : 3;
    while (columns.size() > needed && width_of(columns) > room) columns.erase(columns.begin() + static_cast<long>(needed));
    constexpr size_t kLeastBar = 8, kMostBar = 40;
    const size_t used = width_of(columns) + 2;
    const size_t bars = room >= used + kLeastBar ? std::min(room - used, kMostBar) : 0;

    std::string text = fmt::format("{}, {}, {}", all.pass, all.dtype, all.fixed);
    text += all.is_emulated ? "; warp instructions of a launch\n"
                            : fmt::format("; medians of {}{} rounds\n", fewest, most > fewest ? fmt::format(" to {}", most) : "");
    text += all.machine + "\n\n";
    std::string head;
    for (const Column& column : columns) head += (head.empty() ? "" : "  ") + padded(column.head, column.width(), column.left);
    trim_end(head);
    text += head + "\n";
    const bool blocks = terminal.colour != picture::TerminalColour::None;
    for (size_t row = 0; row < who.cells.size(); ++row) {
        std::string line;
        for (size_t c = 0; c < columns.size(); ++c)
            line += (c ? "  " : "") + padded(columns[c].cells[row], columns[c].width(), columns[c].left);
        if (bars) line += "  " + bar(shares[row], static_cast<int>(bars), blocks);
        trim_end(line);
        text += line + "\n";
    }
    return text;
}

}  // namespace flexc::tools
