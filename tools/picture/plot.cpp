// One plot: title, subtitle, the label of y, the area with its grid, the label of x, the legend, the footer; all on the 12 x 14 grid of the pixel font, so that PNG and
// SVG are the same picture. Series differ by colour, by mark and, in the end, by dashes, so that they are told apart in print and with any kind of colour blindness.
#include "tools/picture/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tools/io/atomic_file.h"
#include "tools/picture/canvas.h"
#include "tools/picture/png.h"

namespace flexc::picture {
namespace {

constexpr Colour kInk{0x1f, 0x24, 0x2b}, kSoft{0x5c, 0x65, 0x70}, kFrame{0x8a, 0x92, 0x9c}, kGrid{0xe4, 0xe7, 0xeb},
    kBase{0x6b, 0x72, 0x7c};
// Okabe and Ito's, without black and yellow.
constexpr Colour kColours[] = {{0x00, 0x72, 0xb2}, {0xd5, 0x5e, 0x00}, {0x00, 0x9e, 0x73},
                               {0xcc, 0x79, 0xa7}, {0x56, 0xb4, 0xe9}, {0xe6, 0x9f, 0x00}};
constexpr int kColourCount = std::size(kColours);
constexpr int kWidth = 760, kHeight = 420;  // of the area
constexpr int kMargin = 24, kLine = kGlyphHeight + 8;
constexpr int kSample = 34;  // of a line, in the legend
constexpr int kBarHeight = 22, kBarStep = 34;

int text_width(const std::string& text) {
    return static_cast<int>(
               std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; })) *
           kGlyphWidth;
}

std::string number(double value) {
    const double magnitude = std::fabs(value);
    if (magnitude >= 1e6 || (magnitude > 0 && magnitude < 1e-3)) return fmt::format("{:.3g}", value);
    return fmt::format("{:.6g}", value);
}

struct Style {
    Colour colour;
    int mark = 0;
    bool dashed = false;
};

std::vector<Style> styles(const Plot& plot) {
    std::vector<Style> out;
    int variants = 0, baselines = 0;
    for (const Series& series : plot.series) {
        if (series.is_baseline) {
            out.push_back({kBase, baselines++, true});
        } else {
            out.push_back({kColours[variants % kColourCount], variants, variants >= kColourCount});
            ++variants;
        }
    }
    return out;
}

void mark(Canvas& canvas, Spot at, const Style& style) {
    constexpr double kRadius = 5;
    const auto regular = [&](int corners, double turn, double radius) {
        std::vector<Spot> points;
        for (int i = 0; i < corners; ++i) {
            const double angle = 2 * std::numbers::pi * (i + turn) / corners;
            points.push_back({at.x + radius * std::sin(angle), at.y - radius * std::cos(angle)});
        }
        return points;
    };
    switch (style.mark % 5) {
        case 0: canvas.polygon(regular(24, 0, kRadius), style.colour); break;
        case 1: canvas.polygon(regular(4, 0.5, kRadius * 1.25), style.colour); break;
        case 2: canvas.polygon(regular(3, 0, kRadius * 1.35), style.colour); break;
        case 3: canvas.polygon(regular(4, 0, kRadius * 1.35), style.colour); break;
        default: canvas.polygon(regular(3, 0.5, kRadius * 1.35), style.colour); break;
    }
}

struct Legend {
    struct Entry {
        int x, y;
    };
    std::vector<Entry> entries;
    int height = 0;
};

Legend place_legend(const Plot& plot, int width) {
    Legend out;
    int x = 0, y = 0;
    for (const Series& series : plot.series) {
        const int room = kSample + 8 + text_width(series.name) + 28;
        if (x > 0 && x + room > width + 28) {
            x = 0;
            y += kLine;
        }
        out.entries.push_back({x, y});
        x += room;
    }
    out.height = y + kLine;
    return out;
}

/// Where everything lies.
struct Frame {
    int left = 0, top = 0, width = kWidth, height = kHeight;  // of the area
    int total_width = 0, total_height = 0;
    Legend legend;
    std::vector<double> ticks;  // of y
    double low = 0, high = 1;
};

std::vector<double> value_ticks(const Plot& plot) {
    double low = 0, high = 0;
    for (const Series& series : plot.series)
        for (const double y : series.y) {
            if (!std::isfinite(y) || y <= 0) continue;
            low = low == 0 ? y : std::min(low, y);
            high = std::max(high, y);
        }
    if (high == 0) return {0, 1};
    return plot.log_y ? log_ticks(low, high) : linear_ticks(high);
}

int header_height(const Plot& plot) {
    return kMargin + kLine + (plot.subtitle.empty() ? 0 : kLine) + 24;
}

Frame measure(const Plot& plot) {
    Frame out;
    out.ticks = value_ticks(plot);
    out.low = out.ticks.front();
    out.high = out.ticks.back();
    int widest = 0;
    for (const double tick : out.ticks) widest = std::max(widest, text_width(number(tick)));
    out.left = kMargin + widest + 14;
    const int texts = std::max({text_width(plot.title), text_width(plot.subtitle), text_width(plot.footer)});
    out.width = std::max(kWidth, texts - (out.left - kMargin));
    out.legend = place_legend(plot, out.width);
    out.top = header_height(plot) + kLine;
    out.total_width = out.left + out.width + kMargin + kGlyphWidth;
    out.total_height = out.top + out.height + 2 * kLine + 16 + out.legend.height + (plot.footer.empty() ? 0 : kLine) + kMargin;
    return out;
}

void draw_header(const Plot& plot, Canvas& canvas) {
    canvas.text(kMargin, kMargin, plot.title, Anchor::Start, kInk);
    if (!plot.subtitle.empty()) canvas.text(kMargin, kMargin + kLine, plot.subtitle, Anchor::Start, kSoft);
}

void draw_lines(const Plot& plot, const Frame& frame, Canvas& canvas) {
    const double x0 = std::log2(plot.x.front()), x1 = std::log2(plot.x.back());
    constexpr double kInset = 24;
    const auto at_x = [&](double x) {
        const double share = x1 > x0 ? (std::log2(x) - x0) / (x1 - x0) : 0.5;
        return frame.left + kInset + share * (frame.width - 2 * kInset);
    };
    const auto at_y = [&](double y) {
        const auto scaled = [&](double value) { return plot.log_y ? std::log(value) : value; };
        return frame.top + frame.height * (1 - (scaled(y) - scaled(frame.low)) / (scaled(frame.high) - scaled(frame.low)));
    };
    const int bottom = frame.top + frame.height;
    canvas.text(kMargin, frame.top - kLine - 12, plot.y_label, Anchor::Start, kSoft);
    for (const double tick : frame.ticks) {
        const int y = static_cast<int>(std::lround(at_y(tick)));
        canvas.rect(frame.left, y, frame.width, 1, kGrid);
        canvas.text(frame.left - 10, y - kGlyphHeight / 2, number(tick), Anchor::End, kSoft);
    }
    int free_from = 0;
    for (const double x : plot.x) {
        const int at = static_cast<int>(std::lround(at_x(x)));
        const std::string label = number(x);
        canvas.rect(at, bottom, 1, 6, kFrame);
        if (at - text_width(label) / 2 < free_from) continue;
        canvas.rect(at, frame.top, 1, frame.height, kGrid);
        canvas.text(at, bottom + 10, label, Anchor::Middle, kSoft);
        free_from = at + text_width(label) / 2 + kGlyphWidth;
    }
    canvas.rect(frame.left, frame.top, 1, frame.height, kFrame);
    canvas.rect(frame.left, bottom, frame.width, 1, kFrame);
    canvas.text(frame.left + frame.width / 2, bottom + 10 + kLine, plot.x_label, Anchor::Middle, kInk);

    const std::vector<Style> style = styles(plot);
    const int legend = bottom + 2 * kLine + 16;
    // Baselines below the variants.
    for (const bool baselines : {true, false})
        for (size_t s = 0; s < plot.series.size(); ++s) {
            const Series& series = plot.series[s];
            if (series.is_baseline != baselines) continue;
            std::vector<Spot> points;
            for (size_t i = 0; i < plot.x.size(); ++i)
                if (std::isfinite(series.y[i]) && (series.y[i] > 0 || (series.y[i] == 0 && !plot.log_y)))
                    points.push_back({at_x(plot.x[i]), at_y(series.y[i])});
            canvas.line(points, 2.5, style[s].dashed, style[s].colour);
            for (const Spot& point : points) mark(canvas, point, style[s]);
        }
    for (size_t s = 0; s < plot.series.size(); ++s) {
        const int x = frame.left + frame.legend.entries[s].x, y = legend + frame.legend.entries[s].y;
        const double middle = y + kGlyphHeight / 2.0;
        canvas.line({{static_cast<double>(x), middle}, {static_cast<double>(x + kSample), middle}}, 2.5, style[s].dashed, style[s].colour);
        mark(canvas, {x + kSample / 2.0, middle}, style[s]);
        canvas.text(x + kSample + 8, y, plot.series[s].name, Anchor::Start, kInk);
    }
    if (!plot.footer.empty()) canvas.text(kMargin, legend + frame.legend.height + 4, plot.footer, Anchor::Start, kSoft);
}

/// One point: a bar each, from 0.
Frame measure_bars(const Plot& plot) {
    Frame out;
    int names = 0, numbers = 0;
    for (const Series& series : plot.series) {
        names = std::max(names, text_width(series.name));
        numbers = std::max(numbers, text_width(number(series.y.front())));
    }
    out.left = kMargin + names + 14;
    const int texts = std::max({text_width(plot.title), text_width(plot.subtitle), text_width(plot.footer), text_width(plot.y_label)});
    out.width = std::max(kWidth / 2, texts - (out.left - kMargin) - numbers - 8);
    out.top = header_height(plot) + kLine;
    out.height = static_cast<int>(plot.series.size()) * kBarStep;
    out.total_width = out.left + out.width + 8 + numbers + kMargin;
    out.total_height = out.top + out.height + (plot.footer.empty() ? 0 : kLine) + kMargin;
    return out;
}

void draw_bars(const Plot& plot, const Frame& frame, Canvas& canvas) {
    double most = 0;
    for (const Series& series : plot.series) most = std::max(most, series.y.front());
    canvas.text(kMargin, frame.top - kLine - 6, plot.y_label, Anchor::Start, kSoft);
    const std::vector<Style> style = styles(plot);
    for (size_t s = 0; s < plot.series.size(); ++s) {
        const double value = plot.series[s].y.front();
        const int y = frame.top + static_cast<int>(s) * kBarStep;
        const int length = most > 0 ? std::max(1, static_cast<int>(std::lround(value / most * frame.width))) : 1;
        const int text = y + (kBarHeight - kGlyphHeight) / 2;
        canvas.text(frame.left - 14, text, plot.series[s].name, Anchor::End, kInk);
        canvas.rect(frame.left, y, length, kBarHeight, style[s].colour);
        canvas.text(frame.left + length + 8, text, number(value), Anchor::Start, kInk);
    }
    if (!plot.footer.empty()) canvas.text(kMargin, frame.top + frame.height + 8, plot.footer, Anchor::Start, kSoft);
}

void draw(const Plot& plot, const Frame& frame, Canvas& canvas) {
    draw_header(plot, canvas);
    (plot.x.size() > 1 ? draw_lines : draw_bars)(plot, frame, canvas);
}

}  // namespace

std::vector<double> log_ticks(double low, double high) {
    constexpr size_t kMost = 12;
    const auto all = [&](std::initializer_list<double> steps) {
        std::vector<double> out;
        const int first = static_cast<int>(std::floor(std::log10(low))), last = static_cast<int>(std::floor(std::log10(high))) + 1;
        for (int power = first; power <= last; ++power)
            for (const double step : steps) out.push_back(step * std::pow(10.0, power));
        constexpr double kSlack = 1e-9;
        while (out.size() > 2 && out[1] <= low * (1 + kSlack)) out.erase(out.begin());
        while (out.size() > 2 && out[out.size() - 2] >= high * (1 - kSlack)) out.pop_back();
        return out;
    };
    std::vector<double> out = all({1, 2, 5});
    if (out.size() > kMost) out = all({1});
    return out;
}

std::vector<double> linear_ticks(double high) {
    constexpr int kAbout = 6;
    const double power = std::pow(10.0, std::floor(std::log10(high / kAbout)));
    double step = power;
    for (const double factor : {1.0, 2.0, 5.0, 10.0})
        if (high / (step = factor * power) <= kAbout) break;
    std::vector<double> out = {0};
    while (out.back() < high * (1 - 1e-9)) out.push_back(step * static_cast<double>(out.size()));
    return out;
}

bool is_plot_name(const std::filesystem::path& path) {
    return path.extension() == ".svg" || path.extension() == ".png";
}

flex::Status write_plot(const std::filesystem::path& path, const Plot& plot) {
    const Frame frame = plot.x.size() > 1 ? measure(plot) : measure_bars(plot);
    if (path.extension() == ".png") {
        PixelCanvas canvas(frame.total_width, frame.total_height, kBackground);
        draw(plot, frame, canvas);
        return write_png(path, canvas);
    }
    SvgCanvas canvas(frame.total_width, frame.total_height, kBackground);
    draw(plot, frame, canvas);
    const std::string text = canvas.finish();
    return io::write_file(path, std::as_bytes(std::span(text)));
}

}  // namespace flexc::picture
