// flexc bench: what its parts share. One attention at one shape is timed by itself (bench.cpp); several, or a sweep of shapes, side by side (bench_compare.cpp).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tools/bench_contender.h"

namespace flexc::tools {

/// "Q=K=512,1024": extents, or parameters, that all take the same value, point by point.
struct Sweep {
    std::vector<std::string> names;
    std::vector<int64_t> values;              // rising, at least 1
    [[nodiscard]] std::string label() const;  // "Q = K"
};
/// Nothing, with the fault in words, if it is none.
[[nodiscard]] std::optional<Sweep> parse_sweep(const std::string& text, std::string* fault);

struct BenchOptions {
    InputOptions input;
    ExecuteOptions execute;
    bool backward = false;
    int repeat = 0;  // 0: as many as fit into about a second
    std::vector<std::filesystem::path> files;
    std::vector<std::string> names;
    std::optional<Sweep> sweep;
    std::string against;  // empty: auto where attentions are compared
    std::filesystem::path plot;
    std::string metric = "ms";
};

/// Whether the options ask for more than one number.
[[nodiscard]] bool is_comparison(const BenchOptions& options);
int compare(const BenchOptions& options);

}  // namespace flexc::tools
