// What a comparison has found, and its page for the terminal.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "tools/picture/picture.h"
#include "tools/report.h"

namespace flexc::tools {

struct ComparedRow {
    std::string label;
    bool is_baseline = false;
    double ms = 0, gflops = 0;
    uint64_t instructions = 0;  // of the emulated device, which has no ms
    size_t rounds = 0;
    std::map<std::string, double> against;  // baseline -> its time is 1
    Json report;
};
struct ComparedPoint {
    int64_t value = 0;
    std::array<int32_t, 7> extents{};
    std::vector<ComparedRow> rows;
};
struct Comparison {
    std::string axis;  // "Q = K", or empty: one point
    std::string pass, dtype, fixed, machine;
    bool is_emulated = false;
    std::vector<ComparedPoint> points;  // at least one; rows of all stand in one order
};

/// Rows of numbers with a bar for the time beside the longest of the same point; what a narrow terminal has no room for is left out, bars first.
[[nodiscard]] std::string table_text(const Comparison& all, const picture::Terminal& terminal);

}  // namespace flexc::tools
