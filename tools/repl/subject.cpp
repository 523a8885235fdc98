#include "tools/repl/subject.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "tools/execute.h"
#include "tools/explain.h"
#include "tools/repl/scan.h"

namespace flexc::repl {
namespace {

constexpr int64_t kMostScores = 1 << 20, kMostKeys = 8192;  // compared of two score clauses
constexpr double kMostElements = 1 << 25;                   // of a mask looked at for one picture or count; beyond, rows are sampled

int64_t stride_for(double elements) {
    return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(elements / kMostElements)));
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
    return text;
}

std::string kind_of_mask(const tools::Visits& keys) {
    const bool upper = keys.to != "K - 1", lower = keys.from != "0";
    // A union of bands and single keys is bounded by its extremes, which says little.
    if (keys.from.find("min(") != std::string::npos || keys.to.find("max(") != std::string::npos) return {};
    if (keys.to == "q1") return lower ? "causal band" : "causal";
    if (upper && lower) return "band";
    if (upper) return "bounded above";
    return lower ? "bounded below" : "";
}

/// Columns of a line that may hold colour codes.
size_t visible_width(std::string_view line) {
    size_t width = 0;
    for (size_t i = 0; i < line.size(); ++i) {
        if (line[i] == '\x1b') {
            while (i < line.size() && line[i] != 'm') ++i;
        } else {
            width += (static_cast<unsigned char>(line[i]) & 0xC0) != 0x80;
        }
    }
    return width;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> out;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        out.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return out;
}

picture::Terminal terminal(int lines, int width, int64_t rows) {
    picture::Terminal out = picture::terminal();
    // A line of colour holds two rows. Without it, somewhat more lines are worth it where they show each row.
    out.lines = out.colour == picture::TerminalColour::None && rows <= lines * 3 / 2 ? lines * 3 / 2 : lines;
    if (width > 0) out.width = width;
    return out;
}

}  // namespace

std::string with_commands(std::string text) {
    for (const char* option : {"set", "shape", "in", "seed"}) {
        text = replaced(std::move(text), std::string("`--") + option + " ", std::string("`:") + option + " ");
        text = replaced(std::move(text), std::string("`--") + option + "`", std::string("`:") + option + "`");
    }
    return replaced(std::move(text), "`-D ", "`:set ");
}

std::string diagnostics_text(const Session& session) {
    const bool colour = picture::terminal().colour != picture::TerminalColour::None;
    return with_commands(diag::render_all(session.sources, session.sink, colour));
}

std::string reasons(const diag::Sink& sink) {
    std::string out;
    for (const diag::Diagnostic& each : sink.all()) {
        if (each.level != diag::Level::Error) continue;
        std::string text = each.message;
        for (const diag::Note& note : each.notes)
            if (note.is_help && !note.span) text += "; " + note.text;
        out += (out.empty() ? "" : "\n         ") + with_commands(text);
    }
    return out;
}

bool open_state(Session& session, const State& state, const std::string& extra, const std::string& origin, uint32_t line) {
    State::Source source = state.source();
    if (!extra.empty()) {
        const auto lines = static_cast<uint32_t>(std::count(source.text.begin(), source.text.end(), '\n'));
        source.parts.push_back({lines + 1, origin.empty() ? kSessionFile : origin, line});
        source.text += extra;
    }
    return session.open_text(kSessionFile, std::move(source.text), std::move(source.parts));
}

std::optional<Wrapped> wrap(const Entry& entry, std::string* why) {
    if (entry.kind == ast::DeclKind::Attention) return Wrapped{entry, {}};
    if (entry.kind != ast::DeclKind::Mask && entry.kind != ast::DeclKind::Score) {
        *why = "`" + entry.name + "` is neither an attention nor a mask nor a score";
        return std::nullopt;
    }
    std::string arguments;
    for (const ParamText& param : entry.params) {
        if (param.base == "mask") {
            *why = "`" + entry.name + "` takes a mask: use it in an attention";
            return std::nullopt;
        }
        arguments += (arguments.empty() ? "" : ", ") + param.name;
    }
    Wrapped out{entry, {}};
    out.attention.name = "_" + entry.name;
    out.attention.kind = ast::DeclKind::Attention;
    out.extra = fmt::format("attention _{}({}) {{ {} = {}({}); }}\n", entry.name, entry.params_text,
                            entry.kind == ast::DeclKind::Mask ? "mask" : "score", entry.name, arguments);
    return out;
}

std::unique_ptr<Subject> open_subject(const State& state, const Entry& entry, const std::string& what) {
    auto subject = std::make_unique<Subject>();
    subject->entry = entry;
    Session& session = subject->drawing.session;
    std::string why;
    const auto wrapped = wrap(entry, &why);
    if (!wrapped) {
        std::fprintf(stderr, "%s\n", why.c_str());
        return nullptr;
    }
    subject->wrapped = *wrapped;
    if (!open_state(session, state, wrapped->extra)) {
        std::fputs(diagnostics_text(session).c_str(), stderr);
        return nullptr;
    }
    tools::InputOptions options = state.input(wrapped->attention);
    // A wrapper is nothing that the user knows of.
    const auto why_not = [&] {
        return wrapped->extra.empty() ? reasons(session.sink)
                                      : replaced(reasons(session.sink), "`_" + entry.name + "`", "`" + entry.name + "`");
    };
    const auto& attentions = session.program().attentions();
    const auto info = std::find_if(attentions.begin(), attentions.end(), [&](const auto& each) { return each.name == options.name; });
    tools::Inputs inputs(session, options);
    std::optional<frontend::ConstValues> consts;
    if (inputs.load()) consts = inputs.consts(*info);
    if (!consts) {
        subject->missing = why_not();
        return subject;
    }
    subject->drawing.consts = *consts;
    subject->drawing.whole = session.lower(options.name, *consts);
    if (!subject->drawing.whole) {
        // A `const` without a value is a lack of values, anything else a fault of the source.
        const auto& all = session.sink.all();
        if (std::any_of(all.begin(), all.end(),
                        [](const auto& each) { return each.level == diag::Level::Error && each.kind != diag::Kind::const_missing; })) {
            std::fputs(diagnostics_text(session).c_str(), stderr);
            return nullptr;
        }
        subject->missing = why_not();
        return subject;
    }
    if (tools::bind_drawing(inputs, what, &subject->drawing)) {
        subject->scores = what == "both" || subject->drawing.is_score;
        return subject;
    }
    // What the mask needs may be there, and only the score lacks something.
    if (what == "both") return open_subject(state, entry, "");
    subject->missing = why_not();
    return subject;
}

std::string facts_text(const Subject& subject) {
    if (!subject.drawing.whole) return {};
    const ir::Attention& attention = *subject.drawing.whole;
    const tools::Explanation facts = tools::explain(attention);
    std::string out;
    const auto line = [&](std::string_view name, const std::string& text) { out += fmt::format("  {:<6} {}\n", name, text); };
    if (facts.everything) {
        line("mask", "every key is kept");
    } else if (facts.nothing) {
        line("mask", facts.mask + ": no key is kept");
    } else {
        const std::string kind = kind_of_mask(facts.keys);
        line("mask", facts.mask + (kind.empty() ? "" : ": " + kind));
        line("keys", fmt::format("of queries q0 to q1: {} to {}{}", facts.keys.from, facts.keys.to,
                                 facts.tables.empty() ? ""
                                                      : fmt::format(", and {} table{} of captured values", facts.tables.size(),
                                                                    facts.tables.size() == 1 ? "" : "s")));
        for (const tools::Loose& loose : facts.loose) line("", loose.text + " " + loose.reason);
    }
    for (const tools::ClauseFact& clause : facts.clauses) {
        if (clause.clause == "mask" || clause.text == clause.clause) continue;
        line(clause.clause,
             fmt::format("{}: {} operation{} an element", clause.text, clause.per_element, clause.per_element == 1 ? "" : "s"));
    }
    std::string unsupported;
    for (const std::string& clause : cpu::unsupported_clauses(attention)) unsupported += (unsupported.empty() ? "" : ", ") + clause;
    if (!unsupported.empty()) line("device", "not on the target cpu: " + unsupported + "; `:run FILE --device interp` has it");
    return out;
}

std::string tiles_text(Subject& subject) {
    if (!subject.drawn() || tools::keeps_all(subject.drawing.attention)) return {};
    Session scratch;
    if (!subject.drawing.rows->prepare_tiles(scratch, 0)) return {};
    const tools::TileCounts counts =
        tools::count_tiles(*subject.drawing.rows, subject.drawing.launch, 128, 128, tools::CountBy::Analysis, 0);
    const auto all = static_cast<double>(std::max<int64_t>(1, counts.full + counts.partial + counts.skip));
    const auto share = [&](int64_t n) { return 100 * static_cast<double>(n) / all; };
    return fmt::format("  {:<6} of 128x128: {:.1f} % full, {:.1f} % partial, {:.1f} % skipped\n", "tiles", share(counts.full),
                       share(counts.partial), share(counts.skip));
}

std::string picture_text(const Subject& subject, int64_t b, int64_t h, int lines, int width) {
    using enum ir::ExtentVar;
    const tools::Drawing& drawing = subject.drawing;
    const int64_t queries = drawing.launch.extent(Q), keys = drawing.launch.extent(K);
    if (queries == 0 || keys == 0 || b >= drawing.launch.extent(B) || h >= drawing.launch.extent(H)) return {};
    const int64_t stride = stride_for(static_cast<double>(queries) * static_cast<double>(keys));
    picture::Picture p = tools::draw(drawing, b, h, picture::Picture::sized(0, queries, 0, keys, 128), stride);
    double kept = 0, total = 0;
    for (size_t i = 0; i < p.kept.size(); ++i) {
        kept += p.kept[i];
        total += p.total[i];
    }
    p.title = subject.entry.name + (drawing.is_score ? ": score" : ": mask");
    p.subtitle = fmt::format("b {}, h {}, {}{:.4g} % kept", b, h, stride > 1 ? "about " : "", 100 * kept / std::max(1.0, total));
    return picture::to_terminal({p}, terminal(lines, width, queries));
}

Change change_between(const Subject& before, const Subject& now, int lines, int width) {
    using enum ir::ExtentVar;
    Change out;
    if (!before.drawn() || !now.drawn()) return out;
    const tools::Launch& launch = now.drawing.launch;
    const int64_t queries = launch.extent(Q), keys = launch.extent(K);
    if (queries == 0 || keys == 0 || before.drawing.launch.builtin != launch.builtin) return out;
    const tools::MaskRows &old_rows = *before.drawing.rows, &new_rows = *now.drawing.rows;
    const int64_t batches = old_rows.varies_b() || new_rows.varies_b() ? launch.extent(B) : 1;
    const int64_t heads = old_rows.varies_h() || new_rows.varies_h() ? launch.extent(H) : 1;
    const int64_t stride = stride_for(static_cast<double>(queries) * static_cast<double>(keys) * static_cast<double>(batches * heads));

    double gained = 0, lost = 0, looked = 0;
    std::optional<picture::Picture> first;
    for (int64_t b = 0; b < batches; ++b) {
        for (int64_t h = 0; h < heads; ++h) {
            picture::Picture p = picture::Picture::sized(0, queries, 0, keys, 128);
            p.gained.assign(p.total.size(), 0);
            p.lost.assign(p.total.size(), 0);
            tools::parallel_for(p.rows, 0, [&](int64_t row) {
                const int r = static_cast<int>(row);
                std::vector<uint8_t> was(static_cast<size_t>(keys)), is(static_cast<size_t>(keys));
                for (int c = 0; c < p.cols; ++c) p.total[p.at(r, c)] = 0;
                for (int64_t q = p.q_edge(r); q < p.q_edge(r + 1); q += stride) {
                    old_rows.mask(b, h, q, 0, keys, was.data());
                    new_rows.mask(b, h, q, 0, keys, is.data());
                    for (int c = 0; c < p.cols; ++c) {
                        const size_t cell = p.at(r, c);
                        for (auto k = static_cast<size_t>(p.k_edge(c)); k < static_cast<size_t>(p.k_edge(c + 1)); ++k) {
                            p.total[cell] += 1;
                            p.kept[cell] += is[k] && was[k];
                            p.gained[cell] += is[k] && !was[k];
                            p.lost[cell] += was[k] && !is[k];
                        }
                    }
                }
            });
            double here = 0;
            for (size_t i = 0; i < p.total.size(); ++i) {
                looked += p.total[i];
                gained += p.gained[i];
                lost += p.lost[i];
                here += p.gained[i] + p.lost[i];
            }
            if (here > 0 && !first) {
                p.title = "difference";
                p.subtitle = fmt::format("b {}, h {}", b, h);
                first = std::move(p);
            }
        }
    }
    if (first) {
        const double scale =
            static_cast<double>(queries) * static_cast<double>(keys) * static_cast<double>(batches * heads) / std::max(1.0, looked);
        out.text =
            fmt::format("  {:<6} mask: {}+{:.0f} -{:.0f} of {} x {} elements{}\n", "change", stride > 1 ? "about " : "", gained * scale,
                        lost * scale, queries, keys, batches * heads > 1 ? fmt::format(", of {} heads", batches * heads) : "");
        out.picture = picture::to_terminal({*first}, terminal(lines, width, queries));
    }

    // Scores: the same raw scores through both clauses, where both keep.
    const bool plain = tools::is_plain_score(before.drawing.attention) && tools::is_plain_score(now.drawing.attention);
    if (!plain && before.scores && now.scores) {
        std::mutex guard;
        double largest = 0, sum = 0, count = 0;
        const int64_t all_heads = std::min<int64_t>(launch.extent(H), 16);
        const int64_t rows =
            std::clamp<int64_t>(kMostScores / (all_heads * std::min<int64_t>(keys, kMostKeys)), 1, std::min<int64_t>(queries, 128));
        tools::parallel_for(rows * all_heads, 0, [&](int64_t i) {
            const int64_t q = i % rows * queries / rows, h = i / rows;
            const auto n = static_cast<size_t>(std::min<int64_t>(keys, kMostKeys));
            std::vector<float> was(n), is(n);
            std::vector<uint8_t> kept(n), kept_before(n);
            uint32_t state = static_cast<uint32_t>(i) * 2654435761U + 12345;
            for (size_t k = 0; k < n; ++k) {
                state = state * 1664525U + 1013904223U;
                was[k] = is[k] = static_cast<float>(state >> 8) * 0x1p-24F * 8 - 4;
            }
            old_rows.score(0, h, q, 0, static_cast<int64_t>(n), was.data());
            new_rows.score(0, h, q, 0, static_cast<int64_t>(n), is.data());
            old_rows.mask(0, h, q, 0, static_cast<int64_t>(n), kept_before.data());
            new_rows.mask(0, h, q, 0, static_cast<int64_t>(n), kept.data());
            double most = 0, total = 0, seen = 0;
            for (size_t k = 0; k < n; ++k) {
                if (!kept[k] || !kept_before[k]) continue;
                const double difference = std::fabs(static_cast<double>(is[k]) - static_cast<double>(was[k]));
                if (!std::isfinite(difference)) continue;
                most = std::max(most, difference);
                total += difference;
                seen += 1;
            }
            const std::lock_guard lock(guard);
            largest = std::max(largest, most);
            sum += total;
            count += seen;
        });
        if (largest > 0)
            out.text += fmt::format("  {:<6} score: by {:.4g} on average, at most {:.4g} (raw scores in [-4, 4])\n", "change",
                                    sum / std::max(1.0, count), largest);
    }
    return out;
}

std::string beside(const std::string& left, const std::string& right, int width) {
    if (right.empty()) return left;
    const std::vector<std::string> a = lines_of(left), b = lines_of(right);
    size_t widest = 0, other = 0;
    for (const std::string& line : a) widest = std::max(widest, visible_width(line));
    for (const std::string& line : b) other = std::max(other, visible_width(line));
    constexpr size_t kGap = 3;
    if (widest + kGap + other > static_cast<size_t>(std::max(0, width))) return left + "\n" + right;
    std::string out;
    for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
        std::string line = i < a.size() ? a[i] : "";
        if (i < b.size() && !b[i].empty()) line += std::string(widest + kGap - visible_width(line), ' ') + b[i];
        out += line + "\n";
    }
    return out;
}

}  // namespace flexc::repl
