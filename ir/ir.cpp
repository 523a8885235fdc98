// The graph: interning and the typed builder.
#include "ir/ir.h"

#include <utility>

#include <array>
#include <bit>

#include <fmt/format.h>

#include "diag/check.h"

namespace flexc::ir {

namespace {

constexpr size_t kMaxOperands = kMaxRank;
constexpr size_t kFirstTableSize = 256;

uint32_t hash_of(Op op, Type type, uint32_t payload, std::span<const NodeId> operands) {
    // Multiply and fold: ids are small and dense, so every step must spread low bits upwards.
    uint64_t h = (static_cast<uint64_t>(op) << 8 | static_cast<uint64_t>(type)) * 0x9E3779B97F4A7C15u ^ payload;
    h *= 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    for (const NodeId operand : operands) {
        h = (h ^ operand.value) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    h *= 0xD6E8FEB86659FD93u;
    return static_cast<uint32_t>(h >> 32);
}

uint32_t loop_bit(uint32_t depth) {
    return uint32_t{1} << depth;
}

}  // namespace

Graph::Graph() : table_(kFirstTableSize, 0) {}

void Graph::grow_table() {
    std::vector<uint32_t> table(table_.size() * 2, 0);
    const size_t mask = table.size() - 1;
    for (uint32_t id = 0; id < nodes_.size(); ++id) {
        size_t slot = hashes_[id] & mask;
        while (table[slot] != 0) slot = (slot + 1) & mask;
        table[slot] = id + 1;
    }
    table_ = std::move(table);
}

NodeId Graph::intern(Op op, Type type, uint32_t payload, std::span<const NodeId> operand_list) {
    FLEX_CHECK(operand_list.size() <= kMaxOperands, "a node has at most kMaxRank operands");
    const uint32_t hash = hash_of(op, type, payload, operand_list);
    const size_t mask = table_.size() - 1;
    size_t slot = hash & mask;
    for (; table_[slot] != 0; slot = (slot + 1) & mask) {
        const uint32_t id = table_[slot] - 1;
        if (hashes_[id] != hash) continue;
        const Node& node = nodes_[id];
        if (node.op != op || node.type != type || node.payload != payload || node.operand_count != operand_list.size()) continue;
        bool same = true;
        for (size_t i = 0; i < operand_list.size() && same; ++i) same = operand_pool_[node.first_operand + i] == operand_list[i];
        if (same) return NodeId{id};
    }

    const auto id = static_cast<uint32_t>(nodes_.size());
    uint32_t free = 0;
    std::array<NodeId, kMaxOperands> copy;  // operand_list may point into operand_pool_, which is about to grow
    for (size_t i = 0; i < operand_list.size(); ++i) {
        copy[i] = operand_list[i];
        FLEX_CHECK(copy[i].value < id, "operands are built before their user");
        free |= free_loops_[copy[i].value];
    }
    if (op == Op::LoopVar) {
        FLEX_CHECK(payload < kMaxLoopDepth, "reductions nest at most kMaxLoopDepth deep");
        FLEX_CHECK((free >> payload) == 0, "the bounds of a reduction depend on outer variables only");
        free |= loop_bit(payload);
    } else if (info(op).kind == OpKind::Reduce) {
        const uint32_t depth = nodes_[copy[0].value].payload;
        free &= ~loop_bit(depth);
        FLEX_CHECK((free >> depth) == 0, "a reduction's body depends on its variable and outer ones only");
    }

    Node node;
    node.op = op;
    node.type = type;
    node.operand_count = static_cast<uint16_t>(operand_list.size());
    node.first_operand = static_cast<uint32_t>(operand_pool_.size());
    node.payload = payload;
    operand_pool_.insert(operand_pool_.end(), copy.begin(), copy.begin() + node.operand_count);
    nodes_.push_back(node);
    free_loops_.push_back(free);
    hashes_.push_back(hash);
    table_[slot] = id + 1;
    if (nodes_.size() * 2 > table_.size()) grow_table();
    return NodeId{id};
}

NodeId Graph::f32(float value) {
    return intern(Op::ConstF32, Type::F32, std::bit_cast<uint32_t>(value), {});
}
NodeId Graph::i32(int32_t value) {
    return intern(Op::ConstI32, Type::I32, static_cast<uint32_t>(value), {});
}
NodeId Graph::boolean(bool value) {
    return intern(Op::ConstBool, Type::Bool, value ? 1 : 0, {});
}
NodeId Graph::index(IndexVar which) {
    return intern(Op::Index, Type::I32, static_cast<uint32_t>(which), {});
}
NodeId Graph::extent(uint32_t extent_id) {
    return intern(Op::Extent, Type::I32, extent_id, {});
}
NodeId Graph::scalar(uint32_t param, Type type) {
    return intern(Op::Scalar, type, param, {});
}
NodeId Graph::tile_bound(TileBound which) {
    return intern(Op::TileBound, Type::I32, static_cast<uint32_t>(which), {});
}
NodeId Graph::tile_summary(uint32_t index, bool upper) {
    return intern(Op::TileBound, Type::I32, kFirstSummary + 2 * index + upper, {});
}
NodeId Graph::score() {
    return intern(Op::ClauseVar, Type::F32, static_cast<uint32_t>(ClauseVar::Score), {});
}
NodeId Graph::out() {
    return intern(Op::ClauseVar, Type::F32, static_cast<uint32_t>(ClauseVar::Out), {});
}
NodeId Graph::weight() {
    return intern(Op::ClauseVar, Type::F32, static_cast<uint32_t>(ClauseVar::Weight), {});
}

NodeId Graph::make(Op op, std::initializer_list<NodeId> operand_list) {
    return make(op, std::span<const NodeId>(operand_list.begin(), operand_list.size()));
}

NodeId Graph::make(Op op, std::span<const NodeId> operand_list) {
    FLEX_CHECK(operand_list.size() <= kMaxOperands, "a node has at most kMaxRank operands");
    std::array<Type, kMaxOperands> types{};
    for (size_t i = 0; i < operand_list.size(); ++i) {
        FLEX_CHECK(operand_list[i].value < nodes_.size(), "operands are built before their user");
        types[i] = type(operand_list[i]);
    }
    const OpKind kind = info(op).kind;
    if (kind == OpKind::Reduce) {
        FLEX_CHECK(operand_list.size() == 2, "a reduction has a variable and a body");
        return reduce(op, operand_list[0], operand_list[1]);
    }
    FLEX_CHECK(kind != OpKind::Leaf && kind != OpKind::Load, "leaves and loads have builders of their own");
    if (operand_list.size() == 1 && ((op == Op::ToF32 && types[0] == Type::F32) || (op == Op::ToI32 && types[0] == Type::I32)))
        return operand_list[0];
    const std::optional<Type> result = result_type(op, std::span(types).first(operand_list.size()));
    FLEX_CHECK(result.has_value(), "operands fit the ops table");
    return intern(op, *result, 0, operand_list);
}

NodeId Graph::like(Node node, std::span<const NodeId> operand_list) {
    FLEX_CHECK(node.operand_count == operand_list.size(), "a copy has as many operands");
    return intern(node.op, node.type, node.payload, operand_list);
}

NodeId Graph::load(uint32_t param, ElemType elem, std::span<const NodeId> indices) {
    FLEX_CHECK(!indices.empty() && indices.size() <= kMaxRank, "a load has one index a dimension");
    for (const NodeId index : indices) FLEX_CHECK(index.value < nodes_.size() && type(index) == Type::I32, "indices are i32");
    return intern(Op::Load, widened(elem), param, indices);
}

NodeId Graph::row_load(ClauseVar which, NodeId index) {
    FLEX_CHECK(which == ClauseVar::QueryRow || which == ClauseVar::KeyRow, "a row is of the query or of the key");
    FLEX_CHECK(index.value < nodes_.size() && type(index) == Type::I32, "indices are i32");
    return intern(Op::RowLoad, Type::F32, static_cast<uint32_t>(which), std::span(&index, 1));
}

NodeId Graph::loop_var(uint32_t depth, NodeId lo, NodeId hi) {
    FLEX_CHECK(lo.value < nodes_.size() && hi.value < nodes_.size() && type(lo) == Type::I32 && type(hi) == Type::I32,
               "the bounds of a reduction are i32");
    const std::array<NodeId, 2> bounds = {lo, hi};
    return intern(Op::LoopVar, Type::I32, depth, bounds);
}

NodeId Graph::reduce(Op op, NodeId variable, NodeId body) {
    FLEX_CHECK(info(op).kind == OpKind::Reduce, "reduce takes a reduction");
    FLEX_CHECK(variable.value < nodes_.size() && body.value < nodes_.size(), "operands are built before their user");
    FLEX_CHECK(nodes_[variable.value].op == Op::LoopVar, "a reduction binds a loop variable");
    const std::array<Type, 2> types = {Type::I32, type(body)};
    const std::optional<Type> result = result_type(op, types);
    FLEX_CHECK(result.has_value(), "the body fits the reduction");
    const std::array<NodeId, 2> operand_list = {variable, body};
    return intern(op, *result, 0, operand_list);
}

std::span<const NodeId> Graph::operands(NodeId id) const {
    const Node& node = nodes_[id.value];
    return std::span(operand_pool_).subspan(node.first_operand, node.operand_count);
}

std::optional<float> Graph::as_f32(NodeId id) const {
    const Node& node = nodes_[id.value];
    if (node.op != Op::ConstF32) return std::nullopt;
    return std::bit_cast<float>(node.payload);
}

std::optional<int32_t> Graph::as_i32(NodeId id) const {
    const Node& node = nodes_[id.value];
    if (node.op != Op::ConstI32) return std::nullopt;
    return static_cast<int32_t>(node.payload);
}

std::optional<bool> Graph::as_bool(NodeId id) const {
    const Node& node = nodes_[id.value];
    if (node.op != Op::ConstBool) return std::nullopt;
    return node.payload != 0;
}

std::string Attention::extent_name(uint32_t id) const {
    static constexpr std::string_view kNames[kBuiltinExtents] = {"B", "H", "HKV", "Q", "K", "D", "DV"};
    if (id < kBuiltinExtents) return std::string(kNames[id]);
    FLEX_CHECK(id - kBuiltinExtents < extents.size(), "an extent is declared");
    return extents[id - kBuiltinExtents];
}

std::string Attention::dim_text(const Dim& dim) const {
    if (dim.extent_id < 0) return fmt::format("{}", dim.offset);
    std::string text = extent_name(static_cast<uint32_t>(dim.extent_id));
    if (dim.multiplier != 1) text = fmt::format("{} * {}", dim.multiplier, text);
    if (dim.offset > 0) text += fmt::format(" + {}", dim.offset);
    if (dim.offset < 0) text += fmt::format(" - {}", 0 - static_cast<uint64_t>(dim.offset));
    return text;
}

std::vector<NodeId> Attention::roots() const {
    std::vector<NodeId> all;
    for (const NodeId id : {scale, score, mask, sink, output, query, key})
        if (id.valid()) all.push_back(id);
    for (const Emit& emit : emits)
        if (emit.value.valid()) all.push_back(emit.value);
    if (!gradient) return all;
    all.push_back(gradient->score);
    for (const auto* reads : std::as_const(*gradient).reads())
        for (const GradientRead& read : *reads) {
            all.push_back(read.load);
            all.push_back(read.adjoint);
            all.insert(all.end(), read.loops.begin(), read.loops.end());
        }
    return all;
}

}  // namespace flexc::ir
