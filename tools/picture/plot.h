// Lines over a swept quantity, or bars where there is one point only, as PNG or SVG: what `flexc bench --plot` draws.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace flexc::picture {

class Canvas;

struct Series {
    std::string name;
    std::vector<double> y;     // one for each of Plot::x
    bool is_baseline = false;  // drawn dashed and grey
};

struct Plot {
    std::string title, subtitle;
    std::string x_label, y_label;
    std::string footer;     // what was measured on
    std::vector<double> x;  // rising and positive: the axis is logarithmic, and each of them a tick if there is room
    std::vector<Series> series;
    bool log_y = false;  // else from 0; what is not positive has no place on a logarithmic axis, and no mark
};

/// The numbers at the ticks of an axis that shows [low, high]: 1, 2 and 5 times powers of ten, or those alone where that would be many; the first is at most `low` and the
/// last at least `high`.
[[nodiscard]] std::vector<double> log_ticks(double low, double high);
/// The same of an axis from 0, with equal steps.
[[nodiscard]] std::vector<double> linear_ticks(double high);

/// PNG or SVG by the name's end, written to a temporary name and renamed. `series` and `x` must not be empty.
flex::Status write_plot(const std::filesystem::path& path, const Plot& plot);
/// Whether write_plot knows the name's end.
[[nodiscard]] bool is_plot_name(const std::filesystem::path& path);

}  // namespace flexc::picture
