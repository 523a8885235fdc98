// Every invariant that ir.h and ops.def state, checked without trusting the builder.
#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "ir/passes.h"
#include "ir/reads.h"

namespace flexc::ir {

namespace {

constexpr Reads kB = reads_bit(IndexVar::B), kH = reads_bit(IndexVar::H) | reads_bit(IndexVar::Hkv), kQ = reads_bit(IndexVar::Q),
                kK = reads_bit(IndexVar::K), kD = reads_bit(IndexVar::D), kHkv = reads_bit(IndexVar::Hkv);

/// What a clause may read, and its type.
struct ClauseRule {
    std::string_view name;
    Type type;
    Reads allowed;
};
constexpr ClauseRule kScaleRule{"scale", Type::F32, kB | kH | kQ};
constexpr ClauseRule kScoreRule{"score", Type::F32, kB | kH | kQ | kK | reads_bit(ClauseVar::Score)};
constexpr ClauseRule kMaskRule{"mask", Type::Bool, kB | kH | kQ | kK};
constexpr ClauseRule kSinkRule{"sink", Type::F32, kB | kH | kQ};
constexpr ClauseRule kOutputRule{"output", Type::F32, kB | kH | kQ | kD | reads_bit(ClauseVar::Out)};
constexpr ClauseRule kQueryRule{"query", Type::F32, kB | kH | kQ | kD | reads_bit(ClauseVar::QueryRow)};
constexpr ClauseRule kKeyRule{"key", Type::F32, kB | kHkv | kK | kD | reads_bit(ClauseVar::KeyRow)};
constexpr ClauseRule kEmitRule{"emit", Type::F32, kB | kH | kQ | kK | reads_bit(ClauseVar::Score) | reads_bit(ClauseVar::Weight)};

class Verifier {
public:
    explicit Verifier(const Attention& attention) : attention_(attention), graph_(attention.graph) {}

    std::string run() {
        captures();
        for (uint32_t i = 0; i < graph_.size() && fault_.empty(); ++i) node(NodeId{i});
        if (fault_.empty()) loops();
        if (fault_.empty()) clauses();
        return fault_;
    }

private:
    template <typename... Args>
    void fail(fmt::format_string<Args...> format, Args&&... args) {
        if (fault_.empty()) fault_ = fmt::format(format, std::forward<Args>(args)...);
    }

    size_t extent_count() const { return kBuiltinExtents + attention_.extents.size(); }

    void dim(const Dim& dim, std::string_view where) {
        if (dim.extent_id >= 0 && static_cast<size_t>(dim.extent_id) >= extent_count()) fail("an extent in {} is not declared", where);
        if (dim.extent_id < 0 && dim.multiplier != 0) fail("a constant extent in {} has a factor", where);
        if (dim.extent_id >= 0 && dim.multiplier == 0) fail("an extent in {} has the factor 0", where);
    }

    void captures() {
        std::set<std::string> names;
        for (uint32_t id = 0; id < extent_count(); ++id)
            if (!names.insert(attention_.extent_name(id)).second) fail("the extent `{}` is declared twice", attention_.extent_name(id));
        names.clear();
        for (const Param& param : attention_.params) {
            if (!names.insert(param.name).second) fail("the parameter `{}` is declared twice", param.name);
            if (param.is_tensor && (param.dims.empty() || param.dims.size() > kMaxRank))
                fail("the tensor `{}` has {} dimensions", param.name, param.dims.size());
            if (!param.is_tensor && !param.dims.empty()) fail("the scalar `{}` has dimensions", param.name);
            if (param.is_tensor && param.default_bits) fail("the tensor `{}` has a default", param.name);
            if (param.grad && !(param.is_tensor && widened(param.elem) == Type::F32)) fail("`{}` is grad but no float tensor", param.name);
            if (param.default_bits && param.type == Type::Bool && *param.default_bits > 1)
                fail("the default of `{}` is no bool", param.name);
            for (const Dim& d : param.dims) dim(d, param.name);
        }
        for (const ExtentConstraint& rule : attention_.constraints) {
            dim(rule.left, "a requirement");
            dim(rule.right, "a requirement");
        }
        if (attention_.blocks) {
            const bool known = *attention_.blocks < attention_.params.size();
            if (!known || !attention_.params[*attention_.blocks].is_tensor || attention_.params[*attention_.blocks].elem != ElemType::I32 ||
                attention_.params[*attention_.blocks].dims.size() != 4)
                fail("`blocks` is an i32 tensor of rank 4");
        }
    }

    void node(NodeId id);
    void leaf(NodeId id, const Node& node);
    void loops();
    void clauses();
    void clause(const ClauseRule& rule, NodeId root, bool required);
    void gradient_read(const GradientRead& read, Reads allowed);

    const Attention& attention_;
    const Graph& graph_;
    std::vector<Reads> reads_;
    std::string fault_;
};

void Verifier::node(NodeId id) {
    const Node& node = graph_[id];
    if (static_cast<size_t>(node.op) >= kOpCount) return fail("%{}: unknown operation", id.value);
    const OpInfo& op = info(node.op);
    const std::span<const NodeId> operands = graph_.operands(id);
    if (op.arity >= 0 ? operands.size() != static_cast<size_t>(op.arity) : operands.empty() || operands.size() > kMaxRank)
        return fail("%{}: {} has {} operands", id.value, op.name, operands.size());
    std::vector<Type> types;
    for (const NodeId operand : operands) {
        if (operand.value >= id.value) return fail("%{}: an operand is not defined before it", id.value);
        types.push_back(graph_.type(operand));
    }
    if (node.op == Op::Load) {
        if (node.payload >= attention_.params.size() || !attention_.params[node.payload].is_tensor)
            return fail("%{}: load of what is no tensor", id.value);
        const Param& param = attention_.params[node.payload];
        if (param.dims.size() != operands.size()) return fail("%{}: load of `{}` with {} indices", id.value, param.name, operands.size());
        if (widened(param.elem) != node.type) return fail("%{}: load of `{}` as {}", id.value, param.name, name(node.type));
        if (std::any_of(types.begin(), types.end(), [](Type t) { return t != Type::I32; }))
            return fail("%{}: an index is no i32", id.value);
        return;
    }
    if (operands.empty()) return leaf(id, node);
    if (result_type(node.op, types) != node.type) return fail("%{}: the types do not fit {}", id.value, op.name);
    if (node.op == Op::RowLoad && node.payload != static_cast<uint32_t>(ClauseVar::QueryRow) &&
        node.payload != static_cast<uint32_t>(ClauseVar::KeyRow))
        fail("%{}: unknown row", id.value);
    if (node.op == Op::LoopVar && node.payload >= kMaxLoopDepth) fail("%{}: nesting deeper than {}", id.value, kMaxLoopDepth);
    if (op.kind == OpKind::Reduce && graph_[operands[0]].op != Op::LoopVar) fail("%{}: {} binds no loop variable", id.value, op.name);
}

void Verifier::leaf(NodeId id, const Node& node) {
    const auto wrong_type = [&](Type wanted) {
        if (node.type != wanted) fail("%{}: {} of type {}", id.value, info(node.op).name, name(node.type));
    };
    switch (node.op) {
        case Op::ConstF32: return wrong_type(Type::F32);
        case Op::ConstI32: return wrong_type(Type::I32);
        case Op::ConstBool:
            if (node.payload > 1) fail("%{}: a bool that is neither true nor false", id.value);
            return wrong_type(Type::Bool);
        case Op::Index:
            if (node.payload >= kIndexVars) fail("%{}: unknown index", id.value);
            return wrong_type(Type::I32);
        case Op::Extent:
            if (node.payload >= extent_count()) fail("%{}: the extent is not declared", id.value);
            return wrong_type(Type::I32);
        case Op::TileBound:
            if (node.payload >= kFirstSummary + 2 * kMaxSummaries) fail("%{}: unknown tile bound", id.value);
            return wrong_type(Type::I32);
        case Op::ClauseVar:
            if (node.payload != static_cast<uint32_t>(ClauseVar::Score) && node.payload != static_cast<uint32_t>(ClauseVar::Out) &&
                node.payload != static_cast<uint32_t>(ClauseVar::Weight))
                fail("%{}: unknown clause variable", id.value);
            return wrong_type(Type::F32);
        case Op::Scalar:
            if (node.payload >= attention_.params.size() || attention_.params[node.payload].is_tensor)
                return fail("%{}: a parameter that is no scalar", id.value);
            return wrong_type(attention_.params[node.payload].type);
        default: return fail("%{}: {} without operands", id.value, info(node.op).name);
    }
}

/// A body may have free one variable a depth, that of the reductions around it; and the graph's summary of this must be right.
void Verifier::loops() {
    using FreeVars = std::vector<uint32_t>;  // ids of loop variables, sorted
    std::vector<FreeVars> free(graph_.size());
    for (uint32_t i = 0; i < graph_.size(); ++i) {
        const NodeId id{i};
        const Node& node = graph_[id];
        FreeVars& mine = free[i];
        for (const NodeId operand : graph_.operands(id))
            for (const uint32_t variable : free[operand.value])
                if (std::find(mine.begin(), mine.end(), variable) == mine.end()) mine.push_back(variable);
        if (node.op == Op::LoopVar) {
            for (const uint32_t outer : mine)
                if (graph_[NodeId{outer}].payload >= node.payload) return fail("%{}: the bounds depend on an inner variable", i);
            mine.push_back(i);
        }
        if (info(node.op).kind == OpKind::Reduce) {
            const uint32_t bound = graph_.operand(id, 0).value;
            std::erase(mine, bound);
            for (const uint32_t outer : mine)
                if (graph_[NodeId{outer}].payload >= graph_[NodeId{bound}].payload)
                    return fail("%{}: a variable of the body is not bound by it or around it", i);
        }
        uint32_t depths = 0;
        for (const uint32_t variable : mine) {
            const uint32_t bit = uint32_t{1} << graph_[NodeId{variable}].payload;
            if (depths & bit) return fail("%{}: two loop variables of one depth", i);
            depths |= bit;
        }
        if (depths != graph_.free_loops(id)) return fail("%{}: the summary of free loop variables is wrong", i);
    }
}

void Verifier::clause(const ClauseRule& rule, NodeId root, bool required) {
    if (!root.valid()) {
        if (required) fail("the clause `{}` is missing", rule.name);
        return;
    }
    if (root.value >= graph_.size()) return fail("`{}` refers to no node", rule.name);
    if (graph_.type(root) != rule.type) return fail("`{}` is of type {}", rule.name, name(graph_.type(root)));
    if (graph_.free_loops(root) != 0) return fail("`{}` depends on a loop variable outside of its reduction", rule.name);
    if (const Reads extra = reads_[root.value] & ~rule.allowed) fail("`{}` reads {}", rule.name, first_read(extra));
}

void Verifier::clauses() {
    reads_ = reads(graph_);
    clause(kScaleRule, attention_.scale, false);
    clause(kScoreRule, attention_.score, true);
    clause(kMaskRule, attention_.mask, true);
    clause(kSinkRule, attention_.sink, false);
    clause(kOutputRule, attention_.output, false);
    clause(kQueryRule, attention_.query, false);
    clause(kKeyRule, attention_.key, false);
    std::set<std::string> names;
    for (const Emit& emit : attention_.emits) {
        clause(kEmitRule, emit.value, true);
        if (!names.insert(emit.name).second) fail("the output `{}` is emitted twice", emit.name);
    }
    if (!attention_.gradient) return;
    clause({"d_score", Type::F32, kScoreRule.allowed}, attention_.gradient->score, true);
    for (const GradientRead& read : attention_.gradient->score_reads) gradient_read(read, kScoreRule.allowed);
    for (const GradientRead& read : attention_.gradient->scale_reads) gradient_read(read, kScaleRule.allowed);
    for (const GradientRead& read : attention_.gradient->sink_reads) gradient_read(read, kSinkRule.allowed);
}

void Verifier::gradient_read(const GradientRead& read, Reads allowed) {
    const auto known = [&](NodeId id) { return id.valid() && id.value < graph_.size(); };
    if (!known(read.load) || !known(read.adjoint) || !std::all_of(read.loops.begin(), read.loops.end(), known))
        return fail("the gradient of a read refers to no node");
    const Node& load = graph_[read.load];
    if (load.op != Op::Load || !attention_.params[load.payload].grad)
        return fail("%{}: a gradient of what is no read of a `grad` tensor", read.load.value);
    if (graph_.type(read.adjoint) != Type::F32) return fail("%{}: an adjoint is no f32", read.adjoint.value);
    if (const Reads extra = (reads_[read.adjoint.value] | reads_[read.load.value]) & ~allowed)
        return fail("a gradient reads {}", first_read(extra));
    uint32_t depths = 0;
    for (const NodeId loop : read.loops) {
        if (graph_[loop].op != Op::LoopVar) return fail("%{}: no loop variable", loop.value);
        const uint32_t bit = uint32_t{1} << graph_[loop].payload;
        if (depths >= bit) return fail("%{}: the loops of a gradient go inwards", loop.value);
        depths |= bit;
    }
    if ((graph_.free_loops(read.load) | graph_.free_loops(read.adjoint)) & ~depths)
        fail("%{}: a loop variable that no loop of the gradient binds", read.load.value);
}

}  // namespace

std::string verify(const Attention& attention) {
    return Verifier(attention).run();
}

}  // namespace flexc::ir
