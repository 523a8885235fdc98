// An expression alone at the prompt. Its type is found by asking which clause takes it; its value by lowering it as that clause: a number, a list along
// the one axis that it depends on, or a picture.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ir/variance.h"
#include "tools/repl/answer.h"
#include "tools/repl/scan.h"
#include "tools/repl/subject.h"

namespace flexc::repl {
namespace {

constexpr const char* kName = "_it";

enum class Type : uint8_t { Bool, I32, F32 };

const char* name_of(Type type) {
    return type == Type::Bool ? "bool" : type == Type::I32 ? "i32" : "f32";
}

/// The current attention's parameters and lets around `clause`, whose own lines are the expression's.
struct Scope {
    Entry attention;
    std::string before, after;  // the text around the expression, each whole lines
};

Scope scope_of(const State& state, const std::string& clause, const std::string& tail) {
    Scope out;
    if (const Entry* current = state.current_attention()) out.attention = *current;
    out.attention.name = kName;
    out.attention.kind = ast::DeclKind::Attention;
    out.before = fmt::format("attention {}({}) {{ {} {}\n", kName, out.attention.params_text, out.attention.lets, clause);
    out.after = tail + "; }\n";
    return out;
}

/// Opens the session with the expression as a clause. Lines of `before` are counted away, so that a message shows those of the input.
bool open_clause(Session& session, const State& state, const Scope& scope, const std::string& text, const std::string& origin,
                 uint32_t line) {
    State::Source source = state.source();
    const auto lines = [](const std::string& part) { return static_cast<uint32_t>(std::count(part.begin(), part.end(), '\n')); };
    const uint32_t first = lines(source.text) + 1;
    source.parts.push_back({first, kSessionFile, 1});
    source.parts.push_back({first + lines(scope.before), origin, line});
    source.text += scope.before + text + "\n" + scope.after;
    return session.open_text(kSessionFile, std::move(source.text), std::move(source.parts));
}

std::string value_text(Type type, double value) {
    if (type == Type::Bool) return value != 0 ? "true" : "false";
    if (type == Type::I32) return fmt::format("{:.0f}", value);
    return fmt::format("{:.7g}", value);
}

/// The values along one axis, shortened.
std::string list_text(Type type, const std::vector<double>& values, int width) {
    std::string out;
    size_t i = 0;
    for (; i < values.size(); ++i) {
        const std::string next = (i ? " " : "") + (type == Type::F32 ? fmt::format("{:.4g}", values[i]) : value_text(type, values[i]));
        if (out.size() + next.size() + 12 > static_cast<size_t>(std::max(40, width))) break;
        out += next;
    }
    if (i < values.size()) out += fmt::format(" ... ({})", values.size());
    return out;
}

/// Whether a value depends on the raw score and on no index.
bool reads_score_alone(const ir::Graph& graph, ir::NodeId root) {
    std::vector<bool> marks(graph.size(), false);
    marks[root.value] = true;
    bool score = false;
    for (uint32_t i = root.value + 1; i-- > 0;) {
        if (!marks[i]) continue;
        const ir::NodeId id{i};
        if (graph[id].op == ir::Op::Index) return false;
        score = score || graph[id].op == ir::Op::ClauseVar;
        for (const ir::NodeId operand : graph.operands(id)) marks[operand.value] = true;
    }
    return score;
}

struct Evaluation {
    tools::Drawing drawing;
    Type type = Type::F32;

    /// One value; `raw` stands for the score.
    [[nodiscard]] double at(int64_t b, int64_t h, int64_t q, int64_t k, float raw = 0) const {
        if (type == Type::Bool) {
            uint8_t value = 0;
            drawing.rows->mask(b, h, q, k, 1, &value);
            return value;
        }
        drawing.rows->score(b, h, q, k, 1, &raw);
        return static_cast<double>(raw);
    }
};

/// A constant i32, whole: by its halves, since a clause holds it as f32.
std::optional<int64_t> constant_i32(const State& state, const std::string& text, const frontend::ConstValues& consts) {
    int64_t halves[2] = {};
    for (const int half : {0, 1}) {
        Session session;
        const Scope scope = scope_of(state, "score = f32((", half == 0 ? ") >> 16)" : ") & 65535)");
        if (!open_clause(session, state, scope, text, kSessionFile, 1)) return std::nullopt;
        const auto lowered = session.lower(kName, consts);
        const auto value = lowered ? lowered->graph.as_f32(lowered->score) : std::nullopt;
        if (!value) return std::nullopt;
        halves[half] = static_cast<int64_t>(*value);
    }
    return halves[0] * 65536 + halves[1];
}

/// Prints what the expression is worth. An exit code.
int print_value(const State& state, const Scope& scope, const std::string& text, Evaluation& it, const Context& context) {
    using enum ir::ExtentVar;
    tools::Drawing& drawing = it.drawing;
    Session& session = drawing.session;
    const tools::InputOptions options = state.input(scope.attention);
    tools::Inputs inputs(session, options);
    const auto& attentions = session.program().attentions();
    const auto info = std::find_if(attentions.begin(), attentions.end(), [&](const auto& each) { return each.name == kName; });
    const auto without_value = [&] {
        std::printf("%s\n  value  none: %s\n", name_of(it.type), reasons(session.sink).c_str());
        return tools::kOk;
    };
    if (!inputs.load()) return without_value();
    const auto consts = inputs.consts(*info);
    if (!consts) return without_value();
    drawing.consts = *consts;
    drawing.whole = session.lower(kName, *consts);
    if (!drawing.whole) {
        std::fputs(diagnostics_text(session).c_str(), stderr);
        return tools::kInputWrong;
    }
    const ir::Attention& attention = *drawing.whole;
    const ir::NodeId root = it.type == Type::Bool ? attention.mask : attention.score;
    if (it.type == Type::Bool && attention.graph.as_bool(root)) {
        std::printf("bool = %s\n", *attention.graph.as_bool(root) ? "true" : "false");
        return tools::kOk;
    }
    if (it.type == Type::F32 && attention.graph.as_f32(root)) {
        std::printf("f32 = %s\n", value_text(Type::F32, static_cast<double>(*attention.graph.as_f32(root))).c_str());
        return tools::kOk;
    }
    if (it.type == Type::I32 && attention.graph.as_f32(root)) {
        std::printf("i32 = %lld\n", static_cast<long long>(constant_i32(state, text, *consts).value_or(0)));
        return tools::kOk;
    }
    if (!tools::bind_drawing(inputs, it.type == Type::Bool ? "mask" : "score", &drawing)) return without_value();
    std::string names;
    for (const std::string& name : drawing.launch.made_up)
        if (!context.said.contains(name)) {
            names += (names.empty() ? "`" : ", `") + name + "`";
            context.note("made " + name);
        }
    if (!names.empty()) std::printf("  made   %s: random numbers until `:set` or `:in` gives others\n", names.c_str());

    const ir::Variance varies = ir::variance(attention.graph)[root.value];
    const auto extent = [&](ir::ExtentVar which) { return drawing.launch.extent(which); };
    if (extent(B) == 0 || extent(H) == 0 || extent(Q) == 0 || extent(K) == 0) {
        std::printf("%s\n", name_of(it.type));
        return tools::kOk;
    }
    const int width = picture::terminal().width;
    if (varies == 0) {
        std::printf("%s = %s\n", name_of(it.type), value_text(it.type, it.at(0, 0, 0, 0)).c_str());
        return tools::kOk;
    }
    const auto along = [&](const char* axis, int64_t n, const std::function<double(int64_t)>& value) {
        std::vector<double> values;
        for (int64_t i = 0; i < n; ++i) values.push_back(value(i));
        const auto [low, high] = std::minmax_element(values.begin(), values.end());
        std::printf("%s along %s: %s\n", name_of(it.type), axis, list_text(it.type, values, width).c_str());
        if (it.type != Type::Bool && n > 1)
            std::printf("  range  %s to %s\n", value_text(it.type, *low).c_str(), value_text(it.type, *high).c_str());
        return tools::kOk;
    };
    if (varies == ir::kVariesB) return along("b", extent(B), [&](int64_t i) { return it.at(i, 0, 0, 0); });
    if (varies == ir::kVariesH) return along("h", extent(H), [&](int64_t i) { return it.at(0, i, 0, 0); });
    if (varies == ir::kVariesQ) return along("q", extent(Q), [&](int64_t i) { return it.at(0, 0, i, 0); });
    if (varies == ir::kVariesK) return along("k", extent(K), [&](int64_t i) { return it.at(0, 0, 0, i); });
    if (reads_score_alone(attention.graph, root) && !drawing.launch.q.data) {
        std::string list;
        for (const float raw : {-10.0F, -4.0F, -2.0F, -1.0F, 0.0F, 1.0F, 2.0F, 4.0F, 10.0F})
            list += fmt::format("{}{:g}: {:.4g}", list.empty() ? "" : ", ", raw, it.at(0, 0, 0, 0, raw));
        std::printf("%s of the score, at %s\n", name_of(it.type), list.c_str());
        return tools::kOk;
    }
    std::printf("%s\n", name_of(it.type));
    Subject subject;
    subject.entry.name = "value";
    subject.drawing.is_score = it.type != Type::Bool;
    const int64_t stride = std::max<int64_t>(1, extent(Q) * extent(K) >> 25);
    picture::Picture p = tools::draw(drawing, 0, 0, picture::Picture::sized(0, extent(Q), 0, extent(K), 128), stride);
    p.title = "value";
    p.subtitle = "b 0, h 0";
    picture::Terminal screen = picture::terminal();
    screen.lines = context.lines;
    return tools::print_out(picture::to_terminal({p}, screen)) ? tools::kOk : tools::kInputWrong;
}

}  // namespace

int answer_expression(const State& state, const std::string& typed, const std::string& origin, uint32_t line, const Context& context) {
    std::string text = typed;
    while (!text.empty() && std::string_view("; \t\r\n").find(text.back()) != std::string_view::npos) text.pop_back();
    const std::string word(trim(text));
    const Entry* current = state.current_attention();
    if (word_begin(word, word.size()) == 0) {
        const Entry* entry = state.find(word);
        const std::string what = describe_name(state, word);
        if (!what.empty() && !(entry && entry->kind == ast::DeclKind::Const)) {
            std::fputs(what.c_str(), stdout);
            return tools::kOk;
        }
        if (current)
            for (const ParamText& param : current->params)
                if (param.name == word && param.is_tensor) {
                    std::printf("%s: a parameter of `%s`; with an index for each dimension it has a value\n", param.type.c_str(),
                                current->name.c_str());
                    return tools::kOk;
                }
    }
    // Each attempt takes one type alone. A literal would pass as f32 as well, so i32 is asked for first.
    struct Attempt {
        Type type;
        const char *clause, *tail;
    };
    for (const Attempt& attempt : {Attempt{Type::Bool, "mask = (", ")"}, Attempt{Type::I32, "mask = (", ") == q"},
                                   Attempt{Type::F32, "score = (", ")"}, Attempt{Type::I32, "score = f32(", ")"}}) {
        Evaluation it;
        it.type = attempt.type;
        Scope scope = scope_of(state, attempt.clause, attempt.tail);
        if (!open_clause(it.drawing.session, state, scope, text, origin, line)) {
            if (std::string_view(attempt.clause) != "score = f32(") continue;
            std::fputs(diagnostics_text(it.drawing.session).c_str(), stderr);
            return tools::kInputWrong;
        }
        if (attempt.type != Type::I32) return print_value(state, scope, text, it, context);
        Evaluation number;
        number.type = Type::I32;
        scope = scope_of(state, "score = f32(", ")");
        if (!open_clause(number.drawing.session, state, scope, text, origin, line)) continue;
        return print_value(state, scope, text, number, context);
    }
    return tools::kInputWrong;
}

}  // namespace flexc::repl
