// The evaluator. Nodes outside of reductions are run in id order, and of those only the ones that read a coordinate
// which moved; the list for each set of moved coordinates is made once. A reduction carries the list of the nodes of its body that depend
// on its own variable and on no deeper one, so what is invariant in a loop is computed outside of it.
#include <algorithm>
#include <bit>
#include <cmath>
#include <unordered_map>

#include "diag/check.h"
#include "ir/interpret.h"
#include "ir/reads.h"
#include "ir/scalar_ops.h"

namespace flexc::ir {

namespace {

union Value {
    double f;
    int32_t i;  // i32, and bool as 0 or 1
};

struct Instr {
    Op op = Op::ConstF32;
    Type type = Type::F32;     // of the result
    Type operand = Type::F32;  // of the first operand, for select of the second
    uint32_t dst = 0;
    uint32_t a = 0, b = 0, c = 0;               // value slots
    uint32_t payload = 0;                       // as in Node; reductions: which loop
    uint32_t first_index = 0, index_count = 0;  // loads: in `indices`
};

struct Loop {
    uint32_t variable = 0, lo = 0, hi = 0, body = 0;
    std::vector<Instr> code;
};

constexpr Reads kEverything = ~Reads{0};

int deepest(uint32_t free_loops) {
    return 31 - std::countl_zero(free_loops);
}

bool same_bits(double a, double b) {
    return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

}  // namespace

struct Evaluator::Impl {
    const Attention& attention;
    const Bindings& bindings;
    const bool round;
    std::vector<NodeId> roots;

    std::vector<Value> values;
    std::vector<uint32_t> indices;  // slots of the indices of loads
    std::vector<Loop> loops;
    std::vector<Instr> closed;  // outside of reductions, in order
    std::vector<Reads> closed_reads;
    std::unordered_map<Reads, std::vector<Instr>> schedules;  // by the coordinates that moved
    Reads last_moved = 0;                                     // the schedule of the last call: mostly the same coordinate moves again
    const std::vector<Instr>* last_schedule = nullptr;
    std::vector<uint32_t> root_slots;
    std::vector<bool> root_is_f32;
    std::vector<double> results;
    Point point;
    bool started = false;
    int32_t heads_a_kv_head = 1;

    Impl(const Attention& attention_, const Bindings& bindings_, std::vector<NodeId> roots_, Arithmetic arithmetic)
        : attention(attention_), bindings(bindings_), round(arithmetic == Arithmetic::F32), roots(std::move(roots_)) {
        build();
    }

    void build();
    std::vector<bool> reachable() const;
    const std::vector<double>& at(const Point& next);
    Reads moved(const Point& next) const;
    const std::vector<Instr>& schedule(Reads moved_bits);
    void run(const std::vector<Instr>& code);
    void step(const Instr& in);
    Value load(const Instr& in) const;
    Value row(const Instr& in) const;
    Value leaf_index(uint32_t which) const;
    Value reduce(const Instr& in);
};

std::vector<bool> Evaluator::Impl::reachable() const {
    const Graph& graph = attention.graph;
    std::vector<bool> wanted(graph.size(), false);
    uint32_t end = 0;
    for (const NodeId root : roots) {
        FLEX_CHECK(root.value < graph.size() && graph.free_loops(root) == 0, "a root is a value outside of reductions");
        wanted[root.value] = true;
        end = std::max(end, root.value + 1);
    }
    for (uint32_t i = end; i-- > 0;)
        if (wanted[i])
            for (const NodeId operand : graph.operands(NodeId{i})) wanted[operand.value] = true;
    return wanted;
}

void Evaluator::Impl::build() {
    const Graph& graph = attention.graph;
    FLEX_CHECK(bindings.extents.size() >= kBuiltinExtents + attention.extents.size(), "every extent is bound");
    const int32_t heads = bindings.extents[static_cast<size_t>(ExtentVar::H)];
    const int32_t kv_heads = bindings.extents[static_cast<size_t>(ExtentVar::HKV)];
    heads_a_kv_head = kv_heads > 0 ? std::max(heads / kv_heads, 1) : 1;

    const std::vector<bool> wanted = reachable();
    const std::vector<Reads> read = reads(graph);
    std::vector<uint32_t> slot(graph.size(), 0);
    uint32_t slots = 0;
    std::vector<Instr> instr(graph.size());
    for (uint32_t i = 0; i < graph.size(); ++i) {
        if (!wanted[i]) continue;
        const NodeId id{i};
        const Node& node = graph[id];
        const std::span<const NodeId> operands = graph.operands(id);
        slot[i] = slots++;
        Instr& in = instr[i];
        in.op = node.op;
        in.type = node.type;
        in.dst = slot[i];
        in.payload = node.payload;
        if (!operands.empty()) in.operand = graph.type(operands[node.op == Op::Select ? 1 : 0]);
        if (node.op == Op::Load) {
            in.first_index = static_cast<uint32_t>(indices.size());
            in.index_count = static_cast<uint32_t>(operands.size());
            for (const NodeId operand : operands) indices.push_back(slot[operand.value]);
        } else {
            if (operands.size() > 0) in.a = slot[operands[0].value];
            if (operands.size() > 1) in.b = slot[operands[1].value];
            if (operands.size() > 2) in.c = slot[operands[2].value];
        }
    }
    values.resize(slots);

    // Bodies first, so that the lists hold the loops' numbers.
    std::vector<uint32_t> stack;
    std::vector<uint32_t> seen(graph.size(), UINT32_MAX);
    for (uint32_t i = 0; i < graph.size(); ++i) {
        const NodeId id{i};
        if (!wanted[i] || info(graph[id].op).kind != OpKind::Reduce) continue;
        const NodeId variable = graph.operand(id, 0), body = graph.operand(id, 1);
        const int depth = static_cast<int>(graph[variable].payload);
        const uint32_t bit = uint32_t{1} << depth;
        std::vector<uint32_t> members;
        stack.assign(1, body.value);
        while (!stack.empty()) {
            const NodeId at{stack.back()};
            stack.pop_back();
            if (!(graph.free_loops(at) & bit) || seen[at.value] == i) continue;  // not of this loop, or bound by another
            seen[at.value] = i;
            if (deepest(graph.free_loops(at)) == depth && at != variable) members.push_back(at.value);
            for (const NodeId operand : graph.operands(at)) stack.push_back(operand.value);
        }
        std::sort(members.begin(), members.end());
        Loop loop;
        loop.variable = slot[variable.value];
        loop.lo = slot[graph.operand(variable, 0).value];
        loop.hi = slot[graph.operand(variable, 1).value];
        loop.body = slot[body.value];
        for (const uint32_t member : members) loop.code.push_back(instr[member]);
        instr[i].payload = static_cast<uint32_t>(loops.size());
        instr[i].operand = graph.type(body);
        loops.push_back(std::move(loop));
    }
    for (uint32_t i = 0; i < graph.size(); ++i) {
        if (!wanted[i] || graph.free_loops(NodeId{i}) != 0) continue;
        closed.push_back(instr[i]);
        closed_reads.push_back(read[i]);
    }
    for (const NodeId root : roots) {
        root_slots.push_back(slot[root.value]);
        root_is_f32.push_back(graph.type(root) == Type::F32);
    }
    results.resize(roots.size());
}

Reads Evaluator::Impl::moved(const Point& next) const {
    // The rows are views: what they hold may have changed, so they always count as moved.
    Reads bits = reads_bit(ClauseVar::QueryRow) | reads_bit(ClauseVar::KeyRow);
    if (next.b != point.b) bits |= reads_bit(IndexVar::B);
    if (next.h != point.h) bits |= reads_bit(IndexVar::H) | reads_bit(IndexVar::Hkv);
    if (next.q != point.q) bits |= reads_bit(IndexVar::Q);
    if (next.k != point.k) bits |= reads_bit(IndexVar::K);
    if (next.d != point.d) bits |= reads_bit(IndexVar::D);
    if (!same_bits(next.score, point.score)) bits |= reads_bit(ClauseVar::Score);
    if (!same_bits(next.out, point.out)) bits |= reads_bit(ClauseVar::Out);
    if (!same_bits(next.weight, point.weight)) bits |= reads_bit(ClauseVar::Weight);
    if (next.q_lo != point.q_lo) bits |= reads_bit(TileBound::QLo);
    if (next.q_hi != point.q_hi) bits |= reads_bit(TileBound::QHi);
    if (next.k_lo != point.k_lo) bits |= reads_bit(TileBound::KLo);
    if (next.k_hi != point.k_hi) bits |= reads_bit(TileBound::KHi);
    return bits;
}

const std::vector<Instr>& Evaluator::Impl::schedule(Reads moved_bits) {
    if (moved_bits == kEverything) return closed;
    if (last_schedule && moved_bits == last_moved) return *last_schedule;
    const auto [entry, fresh] = schedules.try_emplace(moved_bits);
    if (fresh)
        for (size_t i = 0; i < closed.size(); ++i)
            if (closed_reads[i] & moved_bits) entry->second.push_back(closed[i]);
    last_moved = moved_bits;
    last_schedule = &entry->second;  // stays: an unordered_map does not move its values
    return entry->second;
}

const std::vector<double>& Evaluator::Impl::at(const Point& next) {
    const Reads bits = started ? moved(next) : kEverything;
    started = true;
    point = next;
    run(schedule(bits));
    for (size_t i = 0; i < root_slots.size(); ++i) results[i] = root_is_f32[i] ? values[root_slots[i]].f : values[root_slots[i]].i;
    return results;
}

void Evaluator::Impl::run(const std::vector<Instr>& code) {
    for (const Instr& in : code) step(in);
}

Value Evaluator::Impl::leaf_index(uint32_t which) const {
    Value v{};
    switch (static_cast<IndexVar>(which)) {
        case IndexVar::B: v.i = point.b; break;
        case IndexVar::H: v.i = point.h; break;
        case IndexVar::Q: v.i = point.q; break;
        case IndexVar::K: v.i = point.k; break;
        case IndexVar::Hkv: v.i = point.h / heads_a_kv_head; break;
        case IndexVar::D: v.i = point.d; break;
    }
    return v;
}

Value Evaluator::Impl::load(const Instr& in) const {
    Value v{};
    if (in.type == Type::F32) v.f = 0;
    FLEX_CHECK(in.payload < bindings.tensors.size(), "every tensor is bound");
    const InterpTensor& tensor = bindings.tensors[in.payload];
    FLEX_CHECK(tensor.dim.size() == in.index_count, "a bound tensor has the declared rank");
    size_t position = 0;
    for (uint32_t i = 0; i < in.index_count; ++i) {
        const int32_t index = values[indices[in.first_index + i]].i;
        if (index < 0 || index >= tensor.dim[i]) return v;
        position = position * static_cast<size_t>(tensor.dim[i]) + static_cast<size_t>(index);
    }
    FLEX_CHECK(position < tensor.values.size(), "a bound tensor holds all its elements");
    const double element = tensor.values[position];
    if (in.type == Type::F32)
        v.f = element;
    else
        v.i = in.type == Type::Bool ? element != 0 : static_cast<int32_t>(element);
    return v;
}

Value Evaluator::Impl::row(const Instr& in) const {
    const std::span<const double> row = static_cast<ClauseVar>(in.payload) == ClauseVar::QueryRow ? point.query_row : point.key_row;
    const int32_t index = values[in.a].i;
    Value v{};
    v.f = index >= 0 && static_cast<size_t>(index) < row.size() ? row[static_cast<size_t>(index)] : 0.0;
    return v;
}

Value Evaluator::Impl::reduce(const Instr& in) {
    const Loop& loop = loops[in.payload];
    const int32_t lo = values[loop.lo].i, hi = values[loop.hi].i;
    const bool f32 = in.operand == Type::F32;
    const Value& body = values[loop.body];
    Value sum{};
    switch (in.op) {
        case Op::ReduceAll: sum.i = 1; break;
        case Op::ReduceMin: f32 ? void(sum.f = HUGE_VAL) : void(sum.i = scalar::kIntMax); break;
        case Op::ReduceMax: f32 ? void(sum.f = -HUGE_VAL) : void(sum.i = scalar::kIntMin); break;
        default: f32 ? void(sum.f = 0) : void(sum.i = 0); break;
    }
    for (int64_t j = lo; j < hi; ++j) {
        values[loop.variable].i = static_cast<int32_t>(j);
        run(loop.code);
        switch (in.op) {
            case Op::ReduceSum:
                if (f32)
                    sum.f = round ? static_cast<float>(sum.f + body.f) : sum.f + body.f;
                else
                    sum.i = scalar::add(sum.i, body.i);
                break;
            case Op::ReduceAny:
                if (body.i) return body;
                break;
            case Op::ReduceAll:
                if (!body.i) return body;
                break;
            case Op::ReduceMin: f32 ? void(sum.f = scalar::min(sum.f, body.f)) : void(sum.i = std::min(sum.i, body.i)); break;
            default: f32 ? void(sum.f = scalar::max(sum.f, body.f)) : void(sum.i = std::max(sum.i, body.i)); break;
        }
        if (loop.code.empty() && loop.body != loop.variable && in.op != Op::ReduceSum) break;  // the same value each time
    }
    return sum;
}

void Evaluator::Impl::step(const Instr& in) {
    Value& out = values[in.dst];
    const Value a = values[in.a], b = values[in.b], c = values[in.c];
    const bool f32 = in.operand == Type::F32;
    switch (in.op) {
        case Op::ConstF32: out.f = std::bit_cast<float>(in.payload); break;
        case Op::ConstI32:
        case Op::ConstBool: out.i = static_cast<int32_t>(in.payload); break;
        case Op::Index: out = leaf_index(in.payload); break;
        case Op::Extent: out.i = bindings.extents[in.payload]; break;
        case Op::Scalar:
            FLEX_CHECK(in.payload < bindings.scalars.size(), "every scalar is bound");
            if (in.type == Type::F32)
                out.f = bindings.scalars[in.payload];
            else
                out.i = static_cast<int32_t>(bindings.scalars[in.payload]);
            break;
        case Op::TileBound: {
            const int32_t bounds[] = {point.q_lo, point.q_hi, point.k_lo, point.k_hi};
            out.i = in.payload < kFirstSummary ? bounds[in.payload] : point.summaries[in.payload - kFirstSummary];
            break;
        }
        case Op::ClauseVar:
            out.f = static_cast<ClauseVar>(in.payload) == ClauseVar::Score ? point.score
                    : static_cast<ClauseVar>(in.payload) == ClauseVar::Out ? point.out
                                                                           : point.weight;
            break;
        case Op::LoopVar: break;  // set by the reduction

        case Op::Neg: f32 ? void(out.f = -a.f) : void(out.i = scalar::neg(a.i)); break;
        case Op::Abs: f32 ? void(out.f = std::fabs(a.f)) : void(out.i = scalar::abs(a.i)); break;
        case Op::Sign: f32 ? void(out.f = scalar::sign_of(a.f)) : void(out.i = scalar::sign(a.i)); break;
        case Op::BitNot: out.i = ~a.i; break;
        case Op::Not: out.i = !a.i; break;

        case Op::Add: f32 ? void(out.f = a.f + b.f) : void(out.i = scalar::add(a.i, b.i)); break;
        case Op::Sub: f32 ? void(out.f = a.f - b.f) : void(out.i = scalar::sub(a.i, b.i)); break;
        case Op::Mul: f32 ? void(out.f = a.f * b.f) : void(out.i = scalar::mul(a.i, b.i)); break;
        case Op::Div: out.f = a.f / b.f; break;
        case Op::FloorDiv: out.i = scalar::floordiv(a.i, b.i); break;
        case Op::Mod: out.i = scalar::mod(a.i, b.i); break;
        case Op::Min: f32 ? void(out.f = scalar::min(a.f, b.f)) : void(out.i = std::min(a.i, b.i)); break;
        case Op::Max: f32 ? void(out.f = scalar::max(a.f, b.f)) : void(out.i = std::max(a.i, b.i)); break;
        case Op::BitAnd: out.i = a.i & b.i; break;
        case Op::BitOr: out.i = a.i | b.i; break;
        case Op::BitXor: out.i = a.i ^ b.i; break;
        case Op::Shl: out.i = scalar::shl(a.i, b.i); break;
        case Op::Shr: out.i = scalar::shr(a.i, b.i); break;
        case Op::Clamp: f32 ? void(out.f = scalar::clamp(a.f, b.f, c.f)) : void(out.i = std::min(std::max(a.i, b.i), c.i)); break;

        case Op::And: out.i = a.i & b.i; break;
        case Op::Or: out.i = a.i | b.i; break;
        case Op::Eq: out.i = f32 ? a.f == b.f : a.i == b.i; break;
        case Op::Ne: out.i = f32 ? a.f != b.f : a.i != b.i; break;
        case Op::Lt: out.i = f32 ? a.f < b.f : a.i < b.i; break;
        case Op::Le: out.i = f32 ? a.f <= b.f : a.i <= b.i; break;
        case Op::Select: out = a.i ? b : c; break;

        case Op::Exp: out.f = std::exp(a.f); break;
        case Op::Exp2: out.f = std::exp2(a.f); break;
        case Op::Log: out.f = std::log(a.f); break;
        case Op::Log2: out.f = std::log2(a.f); break;
        case Op::Sqrt: out.f = std::sqrt(a.f); break;
        case Op::Rsqrt: out.f = 1.0 / std::sqrt(a.f); break;
        case Op::Tanh:
        case Op::TanhApprox: out.f = std::tanh(a.f); break;
        case Op::Sigmoid: out.f = 1.0 / (1.0 + std::exp(-a.f)); break;
        case Op::Sin: out.f = std::sin(a.f); break;
        case Op::Cos: out.f = std::cos(a.f); break;
        case Op::Tan: out.f = std::tan(a.f); break;
        case Op::Erf: out.f = std::erf(a.f); break;
        case Op::Floor: out.f = std::floor(a.f); break;
        case Op::Ceil: out.f = std::ceil(a.f); break;
        case Op::Round: out.f = std::nearbyint(a.f); break;
        case Op::Pow: out.f = std::pow(a.f, b.f); break;

        case Op::ToF32: out.f = a.i; break;
        case Op::ToI32: out.i = f32 ? scalar::from_float(a.f) : a.i; break;

        case Op::Load: out = load(in); break;
        case Op::RowLoad: out = row(in); break;

        case Op::ReduceSum:
        case Op::ReduceAny:
        case Op::ReduceAll:
        case Op::ReduceMin:
        case Op::ReduceMax: {
            const Value result = reduce(in);
            values[in.dst] = result;
            break;
        }
    }
    if (round && in.type == Type::F32) out.f = static_cast<float>(out.f);
}

Evaluator::Evaluator(const Attention& attention, const Bindings& bindings, std::vector<NodeId> roots, Arithmetic arithmetic)
    : impl_(std::make_unique<Impl>(attention, bindings, std::move(roots), arithmetic)) {}
Evaluator::~Evaluator() = default;
const std::vector<double>& Evaluator::at(const Point& point) {
    return impl_->at(point);
}

}  // namespace flexc::ir
