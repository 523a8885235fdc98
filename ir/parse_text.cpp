// Reads the textual form. The text may come from anyone, so everything that the builder would FLEX_CHECK is checked here first.
#include <bit>
#include <cctype>
#include <charconv>
#include <limits>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

#include "ir/passes.h"
#include "ir/text.h"

namespace flexc::ir {

namespace {

/// One line of text. Every reader skips blanks first; it gives false or nothing, and stays, if the line goes on otherwise.
class Line {
public:
    explicit Line(std::string_view text) : rest_(text) {}

    bool done() {
        skip();
        return rest_.empty();
    }
    bool symbol(std::string_view wanted) {
        skip();
        if (!rest_.starts_with(wanted)) return false;
        rest_.remove_prefix(wanted.size());
        return true;
    }
    std::optional<std::string> word() {
        skip();
        size_t n = 0;
        while (n < rest_.size() && (std::isalnum(static_cast<unsigned char>(rest_[n])) || rest_[n] == '_')) ++n;
        if (n == 0 || (rest_[0] >= '0' && rest_[0] <= '9')) return std::nullopt;
        return take(n);
    }
    bool keyword(std::string_view wanted) {
        const std::string_view before = rest_;
        if (word() == wanted) return true;
        rest_ = before;
        return false;
    }
    /// A bare word or a quoted string.
    std::optional<std::string> name() {
        skip();
        return rest_.starts_with('"') ? string() : word();
    }
    std::optional<std::string> string();
    template <typename T>
    std::optional<T> number(int base = 10) {
        skip();
        T value{};
        const auto [end, fault] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
        if (fault != std::errc{}) return std::nullopt;
        rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
        return value;
    }
    std::optional<float> floating() {
        skip();
        if (symbol("nan:")) {
            const auto bits = number<uint32_t>(16);
            if (!bits || !((*bits & 0x7f800000u) == 0x7f800000u && (*bits & 0x7fffffu) != 0)) return std::nullopt;
            return std::bit_cast<float>(*bits);
        }
        float value = 0;
        const auto [end, fault] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
        if (fault != std::errc{} || value != value) return std::nullopt;
        rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
        return value;
    }

private:
    void skip() {
        while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t' || rest_[0] == '\r')) rest_.remove_prefix(1);
    }
    std::string take(size_t n) {
        std::string taken(rest_.substr(0, n));
        rest_.remove_prefix(n);
        return taken;
    }
    std::string_view rest_;
};

std::optional<std::string> Line::string() {
    if (!symbol("\"")) return std::nullopt;
    std::string out;
    while (!rest_.empty()) {
        const char c = rest_[0];
        rest_.remove_prefix(1);
        if (c == '"') return out;
        if (c != '\\') {
            out += c;
            continue;
        }
        if (rest_.empty()) return std::nullopt;
        const char escape = rest_[0];
        rest_.remove_prefix(1);
        if (escape == 'n') {
            out += '\n';
        } else if (escape == '"' || escape == '\\') {
            out += escape;
        } else if (escape == 'x' && rest_.size() >= 2) {
            unsigned value = 0;
            const auto [end, fault] = std::from_chars(rest_.data(), rest_.data() + 2, value, 16);
            if (fault != std::errc{} || end != rest_.data() + 2) return std::nullopt;
            out += static_cast<char>(value);
            rest_.remove_prefix(2);
        } else {
            return std::nullopt;
        }
    }
    return std::nullopt;
}

template <typename Enum>
std::optional<Enum> by_name(std::string_view word, std::initializer_list<Enum> all) {
    for (const Enum candidate : all)
        if (text::name(candidate) == word) return candidate;
    return std::nullopt;
}

template <typename Enum>
std::optional<Enum> by_ir_name(std::string_view word, std::initializer_list<Enum> all) {
    for (const Enum candidate : all)
        if (name(candidate) == word) return candidate;
    return std::nullopt;
}

constexpr std::initializer_list<Type> kTypes = {Type::F32, Type::I32, Type::Bool};
constexpr std::initializer_list<ElemType> kElems = {ElemType::F32, ElemType::F16, ElemType::BF16, ElemType::I32,
                                                    ElemType::I16, ElemType::I8,  ElemType::U8,   ElemType::Bool};

/// Reads line by line into an attention. A reader gives false after `fail`.
class Reader {
public:
    bool read_line(std::string_view text) {
        Line line(text);
        if (line.done() || line.symbol("#")) return true;
        const bool fine = line.symbol("%") ? node(line) : statement(line);
        return fine && (line.done() || fail("text after the end of the statement"));
    }
    const std::string& message() const { return message_; }
    Attention attention;

private:
    bool fail(std::string text) {
        if (message_.empty()) message_ = std::move(text);
        return false;
    }

    bool statement(Line& line);
    bool param(Line& line);
    bool dim(Line& line, Dim& out);
    bool constant(Line& line, Type type, uint32_t& bits);
    bool root(Line& line, NodeId& out);
    bool emit(Line& line);
    bool read(Line& line, std::vector<GradientRead>& out);
    Gradient& gradient() {
        if (!attention.gradient) attention.gradient.emplace();
        return *attention.gradient;
    }
    bool node(Line& line);
    bool leaf(Line& line, std::string_view op, Type type, NodeId& out);
    bool loop(Line& line, NodeId& out);
    bool load(Line& line, bool of_row, NodeId& out);
    bool operation(Line& line, std::string_view word, NodeId& out);
    bool value(Line& line, NodeId& out);
    bool i32_value(Line& line, NodeId& out);

    std::optional<uint32_t> find_extent(std::string_view wanted) const {
        for (uint32_t id = 0; id < kBuiltinExtents + attention.extents.size(); ++id)
            if (attention.extent_name(id) == wanted) return id;
        return std::nullopt;
    }
    std::optional<uint32_t> find_param(std::string_view wanted) const {
        const auto found = params_.find(std::string(wanted));
        if (found == params_.end()) return std::nullopt;
        return found->second;
    }

    std::string message_;
    std::unordered_map<uint32_t, NodeId> labels_;
    std::unordered_map<std::string, uint32_t> params_;
};

bool Reader::statement(Line& line) {
    const auto word = line.word();
    if (!word) return fail("a statement or a node `%N: ...` was expected");
    if (*word == "attention") {
        const auto name = line.name();
        if (!name) return fail("a name was expected");
        attention.name = *name;
        return true;
    }
    if (*word == "doc") {
        const auto text = line.string();
        if (!text) return fail("a quoted text was expected");
        attention.doc = *text;
        return true;
    }
    if (*word == "extent") {
        const auto name = line.name();
        if (!name) return fail("the name of an extent was expected");
        if (find_extent(*name)) return fail(fmt::format("the extent `{}` is declared twice", *name));
        attention.extents.push_back(*name);
        return true;
    }
    if (*word == "param") return param(line);
    if (*word == "require") {
        ExtentConstraint rule;
        if (!dim(line, rule.left)) return false;
        if (!line.symbol("==")) return fail("`==` was expected");
        if (!dim(line, rule.right)) return false;
        const auto reason = line.symbol(":") ? line.string() : std::nullopt;
        if (!reason) return fail("`: \"reason\"` was expected");
        rule.reason = *reason;
        attention.constraints.push_back(std::move(rule));
        return true;
    }
    if (*word == "normalize") {
        const auto kind = by_name(line.word().value_or(""), {Normalize::Softmax, Normalize::Sigmoid, Normalize::None});
        if (!kind) return fail("`softmax`, `sigmoid` or `none` was expected");
        attention.normalize = *kind;
        return true;
    }
    if (*word == "blocks") {
        const auto index = find_param(line.name().value_or(""));
        if (!index) return fail("the name of a parameter was expected");
        attention.blocks = *index;
        return true;
    }
    if (*word == "scale") return root(line, attention.scale);
    if (*word == "score") return root(line, attention.score);
    if (*word == "mask") return root(line, attention.mask);
    if (*word == "sink") return root(line, attention.sink);
    if (*word == "output") return root(line, attention.output);
    if (*word == "query") return root(line, attention.query);
    if (*word == "key") return root(line, attention.key);
    if (*word == "emit") return emit(line);
    if (*word == "d_score") return root(line, gradient().score);
    if (*word == "d_read") return read(line, gradient().score_reads);
    if (*word == "d_scale_read") return read(line, gradient().scale_reads);
    if (*word == "d_sink_read") return read(line, gradient().sink_reads);
    return fail(fmt::format("unknown statement `{}`", *word));
}

bool Reader::param(Line& line) {
    Param param;
    const auto name = line.name();
    if (!name || !line.symbol(":")) return fail("`param NAME: TYPE` was expected");
    param.name = *name;
    param.grad = line.keyword("grad");
    const std::string type = line.word().value_or("");
    if (line.symbol("[")) {
        param.is_tensor = true;
        const auto elem = by_ir_name(type, kElems);
        if (!elem) return fail(fmt::format("unknown element type `{}`", type));
        param.elem = *elem;
        do {
            Dim extent;
            if (!dim(line, extent)) return false;
            param.dims.push_back(extent);
            if (param.dims.size() > kMaxRank) return fail(fmt::format("a tensor has at most {} dimensions", kMaxRank));
        } while (line.symbol(","));
        if (!line.symbol("]")) return fail("`]` was expected");
    } else {
        const auto scalar = by_ir_name(type, kTypes);
        if (!scalar) return fail(fmt::format("unknown type `{}`", type));
        param.type = *scalar;
        if (line.symbol("=")) {
            uint32_t bits = 0;
            if (!constant(line, param.type, bits)) return false;
            param.default_bits = bits;
        }
    }
    const auto index = static_cast<uint32_t>(attention.params.size());
    if (!params_.emplace(param.name, index).second) return fail(fmt::format("the parameter `{}` is declared twice", param.name));
    attention.params.push_back(std::move(param));
    return true;
}

bool Reader::dim(Line& line, Dim& out) {
    const auto leading = line.number<int64_t>();
    if (leading && !line.symbol("*")) {
        out.offset = *leading;
        return true;
    }
    if (leading && (*leading < std::numeric_limits<int32_t>::min() || *leading > std::numeric_limits<int32_t>::max()))
        return fail("the factor of an extent is an i32");
    const std::string name = line.name().value_or("");
    const auto id = find_extent(name);
    if (!id) return fail(fmt::format("unknown extent `{}`", name));
    out.extent_id = static_cast<int32_t>(*id);
    out.multiplier = static_cast<int32_t>(leading.value_or(1));
    const bool minus = line.symbol("-");
    if (!minus && !line.symbol("+")) return true;
    const auto magnitude = line.number<uint64_t>();
    const uint64_t most = uint64_t{std::numeric_limits<int64_t>::max()} + (minus ? 1 : 0);
    if (!magnitude || *magnitude > most) return fail("the offset of an extent was expected");
    out.offset = static_cast<int64_t>(minus ? 0 - *magnitude : *magnitude);
    return true;
}

bool Reader::constant(Line& line, Type type, uint32_t& bits) {
    switch (type) {
        case Type::F32: {
            const auto value = line.floating();
            if (!value) return fail("an f32 constant was expected");
            bits = std::bit_cast<uint32_t>(*value);
            return true;
        }
        case Type::I32: {
            const auto value = line.number<int32_t>();
            if (!value) return fail("an i32 constant was expected");
            bits = static_cast<uint32_t>(*value);
            return true;
        }
        case Type::Bool: break;
    }
    const std::string word = line.word().value_or("");
    if (word != "true" && word != "false") return fail("`true` or `false` was expected");
    bits = word == "true" ? 1 : 0;
    return true;
}

bool Reader::root(Line& line, NodeId& out) {
    if (!line.symbol("=")) return fail("`=` was expected");
    if (out.valid()) return fail("the clause is given twice");
    return value(line, out);
}

bool Reader::emit(Line& line) {
    Emit emit;
    const auto name = line.name();
    if (!name || !line.symbol("=")) return fail("`emit NAME = KIND %N` was expected");
    emit.name = *name;
    const auto kind = by_name(line.word().value_or(""), {Emit::Kind::Mean, Emit::Kind::ColumnSum});
    if (!kind) return fail("`mean` or `column_sum` was expected");
    emit.kind = *kind;
    if (!value(line, emit.value)) return false;
    attention.emits.push_back(std::move(emit));
    return true;
}

bool Reader::read(Line& line, std::vector<GradientRead>& out) {
    GradientRead read;
    if (!value(line, read.load)) return false;
    if (!line.symbol("=")) return fail("`%LOAD = %ADJOINT over %LOOP, ...` was expected");
    if (!value(line, read.adjoint)) return false;
    if (line.keyword("over")) {
        do {
            if (!value(line, read.loops.emplace_back())) return false;
        } while (line.symbol(","));
    }
    out.push_back(std::move(read));
    return true;
}

bool Reader::value(Line& line, NodeId& out) {
    const auto label = line.symbol("%") ? line.number<uint32_t>() : std::nullopt;
    if (!label) return fail("a value `%N` was expected");
    const auto found = labels_.find(*label);
    if (found == labels_.end()) return fail(fmt::format("`%{}` is used before it is defined", *label));
    out = found->second;
    return true;
}

bool Reader::i32_value(Line& line, NodeId& out) {
    if (!value(line, out)) return false;
    return attention.graph.type(out) == Type::I32 || fail("an i32 value was expected");
}

bool Reader::node(Line& line) {
    const auto label = line.number<uint32_t>();
    if (!label || !line.symbol(":")) return fail("`%N: TYPE = ...` was expected");
    const auto type = by_ir_name(line.word().value_or(""), kTypes);
    if (!type || !line.symbol("=")) return fail("`%N: TYPE = ...` was expected");
    const auto op = line.word();
    if (!op) return fail("an operation was expected");
    NodeId id;
    const bool is_leaf =
        *op == "const" || *op == "index" || *op == "extent" || *op == "param" || *op == "tile_bound" || *op == "clause_var";
    const bool fine = is_leaf                              ? leaf(line, *op, *type, id)
                      : *op == "loop"                      ? loop(line, id)
                      : *op == "load" || *op == "row_load" ? load(line, *op == "row_load", id)
                                                           : operation(line, *op, id);
    if (!fine) return false;
    if (attention.graph.type(id) != *type)
        return fail(fmt::format("the value is of type {}, not {}", name(attention.graph.type(id)), name(*type)));
    return labels_.emplace(*label, id).second || fail(fmt::format("`%{}` is defined twice", *label));
}

bool Reader::leaf(Line& line, std::string_view op, Type type, NodeId& out) {
    Graph& graph = attention.graph;
    if (op == "const") {
        uint32_t bits = 0;
        if (!constant(line, type, bits)) return false;
        out = type == Type::F32   ? graph.f32(std::bit_cast<float>(bits))
              : type == Type::I32 ? graph.i32(static_cast<int32_t>(bits))
                                  : graph.boolean(bits != 0);
        return true;
    }
    const std::string word = line.name().value_or("");
    if (op == "index") {
        const auto which = by_ir_name(word, {IndexVar::B, IndexVar::H, IndexVar::Q, IndexVar::K, IndexVar::Hkv, IndexVar::D});
        if (which) return out = graph.index(*which), true;
    } else if (op == "tile_bound") {
        const auto which = by_ir_name(word, {TileBound::QLo, TileBound::QHi, TileBound::KLo, TileBound::KHi});
        if (which) return out = graph.tile_bound(*which), true;
    } else if (op == "clause_var") {
        if (word == name(ClauseVar::Score)) return out = graph.score(), true;
        if (word == name(ClauseVar::Out)) return out = graph.out(), true;
        if (word == name(ClauseVar::Weight)) return out = graph.weight(), true;
    } else if (op == "extent") {
        if (const auto id = find_extent(word)) return out = graph.extent(*id), true;
    } else if (const auto index = find_param(word)) {
        if (attention.params[*index].is_tensor) return fail(fmt::format("`{}` is a tensor, not a scalar", word));
        return out = graph.scalar(*index, attention.params[*index].type), true;
    }
    return fail(fmt::format("unknown {} `{}`", op, word));
}

bool Reader::loop(Line& line, NodeId& out) {
    const auto depth = line.number<uint32_t>();
    if (!depth || *depth >= kMaxLoopDepth) return fail(fmt::format("a nesting depth below {} was expected", kMaxLoopDepth));
    NodeId lo, hi;
    if (!line.keyword("in")) return fail("`in %LO..%HI` was expected");
    if (!i32_value(line, lo)) return false;
    if (!line.symbol("..")) return fail("`..` was expected");
    if (!i32_value(line, hi)) return false;
    const uint32_t free = attention.graph.free_loops(lo) | attention.graph.free_loops(hi);
    if (free >> *depth) return fail("the bounds depend on a loop variable of the same or a deeper nesting");
    out = attention.graph.loop_var(*depth, lo, hi);
    return true;
}

bool Reader::load(Line& line, bool of_row, NodeId& out) {
    const std::string word = line.name().value_or("");
    if (!line.symbol("[")) return fail("`NAME[%I, ...]` was expected");
    std::vector<NodeId> indices;
    do {
        NodeId index;
        if (!i32_value(line, index)) return false;
        indices.push_back(index);
        if (indices.size() > kMaxRank) return fail(fmt::format("a load has at most {} indices", kMaxRank));
    } while (line.symbol(","));
    if (!line.symbol("]")) return fail("`]` was expected");
    if (of_row) {
        if (indices.size() != 1) return fail("a row has one index");
        if (word != name(ClauseVar::QueryRow) && word != name(ClauseVar::KeyRow)) return fail("`query_row` or `key_row` was expected");
        out = attention.graph.row_load(word == name(ClauseVar::QueryRow) ? ClauseVar::QueryRow : ClauseVar::KeyRow, indices[0]);
        return true;
    }
    const auto param = find_param(word);
    if (!param || !attention.params[*param].is_tensor) return fail(fmt::format("unknown tensor `{}`", word));
    if (attention.params[*param].dims.size() != indices.size())
        return fail(fmt::format("`{}` has {} dimensions, not {}", word, attention.params[*param].dims.size(), indices.size()));
    out = attention.graph.load(*param, attention.params[*param].elem, indices);
    return true;
}

bool Reader::operation(Line& line, std::string_view word, NodeId& out) {
    Graph& graph = attention.graph;
    std::optional<Op> op;
    for (size_t i = 0; i < kOpCount && !op; ++i) {
        const OpInfo& candidate = info(static_cast<Op>(i));
        if (candidate.name == word && candidate.kind != OpKind::Leaf && candidate.kind != OpKind::Load) op = static_cast<Op>(i);
    }
    if (!op) return fail(fmt::format("unknown operation `{}`", word));

    std::vector<NodeId> operands;
    std::vector<Type> types;
    do {
        NodeId operand;
        if (!value(line, operand)) return false;
        operands.push_back(operand);
        types.push_back(graph.type(operand));
        if (operands.size() > kMaxRank) return fail(fmt::format("too many operands of `{}`", word));
    } while (line.symbol(","));
    if (!result_type(*op, types)) return fail(fmt::format("the operands do not fit `{}`", word));
    if (info(*op).kind == OpKind::Reduce) {
        const Node& variable = graph[operands[0]];
        if (variable.op != Op::LoopVar) return fail(fmt::format("the first operand of `{}` is a loop variable", word));
        const uint32_t bit = uint32_t{1} << variable.payload;
        const uint32_t free = (graph.free_loops(operands[1]) & ~bit) | (graph.free_loops(operands[0]) & ~bit);
        if (free >> variable.payload) return fail("the body depends on a loop variable of a deeper nesting");
    }
    out = graph.make(*op, operands);
    return true;
}

}  // namespace

std::optional<Attention> parse_text(std::string_view text, std::string* error) {
    Reader reader;
    size_t line = 0;
    while (!text.empty()) {
        ++line;
        const size_t end = text.find('\n');
        if (!reader.read_line(text.substr(0, end))) {
            if (error) *error = fmt::format("line {}: {}", line, reader.message());
            return std::nullopt;
        }
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    }
    if (std::string fault = verify(reader.attention); !fault.empty()) {
        if (error) *error = fmt::format("line {}: {}", line, fault);
        return std::nullopt;
    }
    return std::move(reader.attention);
}

}  // namespace flexc::ir
