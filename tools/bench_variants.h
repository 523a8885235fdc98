// Who takes part in a comparison: the attentions that the command line names, and the plain ones beside them, each with the options that concern it.
#pragma once

#include <set>

#include "tools/bench.h"

namespace flexc::tools {

struct Variant {
    std::string label;
    bool is_baseline = false;
    InputOptions input;                    // of --shape, --set and -D what it knows
    flex::KernelDesc desc;                 // at the first point
    std::set<std::string> params, consts;  // names
    [[nodiscard]] bool has_extent(const std::string& name) const;
};

/// The options of one point of the sweep.
[[nodiscard]] InputOptions input_at(const Variant& variant, const std::optional<Sweep>& sweep, size_t point);

/// Opens and lowers every attention that is named. False after reports to `session`, which must outlive its diagnostics.
bool find_variants(Session& session, const BenchOptions& options, std::vector<Variant>* out);

/// What is measured beside them. `kept` are elements that the variants keep at the first point, of `shape`.
[[nodiscard]] std::vector<Variant> baselines(const BenchOptions& options, const std::vector<int64_t>& kept, const Launch& launch);

/// The options of a baseline beside an attention with these extents.
[[nodiscard]] InputOptions plain_input(const Variant& baseline, const Launch& launch);

/// Binds extents at every point, so that a fault of the last one is not found after all others were measured, and compares what each takes with the memory there is.
/// False after a report.
bool check_points(Session& session, const BenchOptions& options, const std::vector<Variant>& variants);

}  // namespace flexc::tools
