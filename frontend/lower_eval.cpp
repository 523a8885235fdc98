#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "frontend/lower_eval.h"

namespace flexc::sema {

using diag::Kind;
using ir::NodeId;
using ir::Op;

namespace {

size_t mix(size_t seed, uint64_t value) {
    return (seed ^ value) * 0x9E3779B97F4A7C15u + (seed >> 29);
}

}  // namespace

size_t Lowering::KeyHash::operator()(const Key& k) const {
    return mix(mix(mix(reinterpret_cast<uintptr_t>(k.tree), k.frame), k.env), k.nesting);
}

Lowering::Lowering(const Decl& decl, ir::Attention& result, diag::Sink& sink)
    : decl_(decl), result_(result), graph_(result.graph), sink_(sink) {}

// ---- frames and environments ----

uint32_t Lowering::height(NodeId id) {
    for (auto i = static_cast<uint32_t>(heights_.size()); i <= id.value; ++i) {
        const NodeId node{i};
        uint32_t h = graph_[node].op == Op::LoopVar ? graph_[node].payload + 1 : 0;
        for (const NodeId operand : graph_.operands(node)) h = std::max(h, heights_[operand.value]);
        heights_.push_back(h);
    }
    return heights_[id.value];
}

uint32_t Lowering::intern(Frame frame) {
    size_t hash = mix(reinterpret_cast<uintptr_t>(frame.decl), frame.parent.value_or(UINT32_MAX));
    hash = mix(hash, frame.loop.value);
    for (const Binding& b : frame.bindings) {
        hash = mix(mix(hash, b.value.value), b.tensor);
        hash = mix(mix(hash, reinterpret_cast<uintptr_t>(b.mask.tree)), b.mask.frame);
    }
    const auto [first, last] = frame_ids_.equal_range(hash);
    for (auto it = first; it != last; ++it) {
        const Frame& other = frames_[it->second];
        if (other.decl == frame.decl && other.parent == frame.parent && other.loop == frame.loop && other.bindings == frame.bindings)
            return it->second;
    }
    frame.height = frame.parent ? frames_[*frame.parent].height : 0;
    if (frame.loop.valid()) frame.height = std::max(frame.height, height(frame.loop));
    for (const Binding& b : frame.bindings) {
        if (b.kind == Param::Kind::Scalar && b.value.valid()) frame.height = std::max(frame.height, height(b.value));
        if (b.kind == Param::Kind::Mask) frame.height = std::max(frame.height, frames_[b.mask.frame].height);
    }
    const auto id = static_cast<uint32_t>(frames_.size());
    frames_.push_back(std::move(frame));
    frame_ids_.emplace(hash, id);
    return id;
}

uint32_t Lowering::intern(Environment environment) {
    size_t hash = 0;
    for (const NodeId s : environment.slots) hash = mix(hash, s.value);
    const auto [first, last] = environment_ids_.equal_range(hash);
    for (auto it = first; it != last; ++it)
        if (environments_[it->second] == environment) return it->second;
    environment.height = 0;
    for (const NodeId s : environment.slots) environment.height = std::max(environment.height, height(s));
    const auto id = static_cast<uint32_t>(environments_.size());
    environments_.push_back(environment);
    environment_ids_.emplace(hash, id);
    return id;
}

const Frame& Lowering::root(uint32_t frame) const {
    const Frame* f = &frames_[frame];
    while (f->parent) f = &frames_[*f->parent];
    return *f;
}

Environment Lowering::base_environment() {
    Environment e;
    for (const Slot s : {Slot::B, Slot::H, Slot::Q, Slot::K, Slot::Hkv})
        e.slots[static_cast<size_t>(s)] = graph_.index(static_cast<ir::IndexVar>(s));
    e.slots[static_cast<size_t>(Slot::Score)] = graph_.score();
    return e;
}

void Lowering::bind(const std::unordered_map<const Param*, Value>& constants) {
    Frame frame;
    frame.decl = &decl_;
    for (uint32_t i = 0; i < result_.extents.size(); ++i) frame.extents.push_back({1, static_cast<int32_t>(ir::kBuiltinExtents + i), 0});
    uint32_t next = 0;
    for (const Param& p : decl_.params) {
        Binding b;
        b.kind = p.kind;
        if (p.is_const) {
            const Value& v = constants.at(&p);
            b.value = v.type == Type::F32   ? graph_.f32(std::bit_cast<float>(v.bits))
                      : v.type == Type::I32 ? graph_.i32(static_cast<int32_t>(v.bits))
                                            : graph_.boolean(v.bits != 0);
        } else if (p.kind == Param::Kind::Scalar) {
            b.value = graph_.scalar(next++, to_ir(p.type));
        } else {
            b.tensor = next++;
        }
        frame.bindings.push_back(b);
    }
    main_frame_ = intern(std::move(frame));
}

// ---- evaluation ----

NodeId Lowering::fail() {
    failed_ = true;
    return {};
}

NodeId Lowering::clause(const Node* tree, const Environment& environment) {
    return remembered(tree, main_frame_, intern(environment), 0);
}

NodeId Lowering::remembered(const Node* tree, uint32_t frame, uint32_t env, uint32_t nesting) {
    const Key key{tree, frame, env, nesting};
    if (const auto found = memo_.find(key); found != memo_.end()) return found->second;
    const NodeId value = eval(tree, frame, env, nesting);
    if (value.valid()) memo_.emplace(key, value);
    return value;
}

NodeId Lowering::eval(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting) {
    if (failed_) return {};
    if (++steps_ > kMaxSteps || graph_.size() > kMaxGraphNodes) {
        sink_.report(Kind::too_many_nodes, decl_.syntax->name.span, decl_.name)
            .note("the value being computed then", n->span)
            .help("a call doubles its work when it uses a changed argument twice: name what repeats with `let`, or loop with a reduction");
        return fail();
    }
    if (depth_ >= kMaxEvalDepth) {
        sink_.report(Kind::inlining_too_deep, decl_.syntax->name.span, decl_.name).note("this call is the one too many", n->span);
        return fail();
    }
    ++depth_;
    const NodeId value = dispatch(n, frame, env, nesting);
    --depth_;
    return value;
}

NodeId Lowering::dispatch(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting) {
    switch (n->kind) {
        case NodeKind::Literal:
            if (n->type == Type::F32) return graph_.f32(std::bit_cast<float>(n->bits));
            if (n->type == Type::I32) return graph_.i32(static_cast<int32_t>(n->bits));
            return graph_.boolean(n->bits != 0);
        case NodeKind::Slot: return environments_[env].slots[n->index];
        case NodeKind::Extent: return graph_.extent(n->index);
        case NodeKind::FreeExtent: return extent_value(root(frame).extents[n->index]);
        case NodeKind::Param: return root(frame).bindings[n->index].value;
        case NodeKind::LetRef: {
            uint32_t f = frame;
            while (frames_[f].loops > n->let->loops) f = *frames_[f].parent;
            return remembered(n->let->value, f, env, nesting);
        }
        case NodeKind::LoopVar: {
            uint32_t f = frame;
            while (frames_[f].loops > n->index + 1) f = *frames_[f].parent;
            return frames_[f].loop;
        }
        case NodeKind::Out: return graph_.out();
        case NodeKind::ElementIndex: return graph_.index(ir::IndexVar::D);
        case NodeKind::Weight: return graph_.weight();
        case NodeKind::Op: {
            std::array<NodeId, 3> args;
            for (size_t i = 0; i < n->args.size(); ++i) {
                args[i] = eval(n->args[i], frame, env, nesting);
                if (failed_) return {};
            }
            return graph_.make(n->op, std::span<const NodeId>(args).first(n->args.size()));
        }
        case NodeKind::Chain: return chain(n, frame, env, nesting);
        case NodeKind::Load:
        case NodeKind::RowLoad: return load(n, frame, env, nesting);
        case NodeKind::Dot: return dot(n, frame, env, nesting);
        case NodeKind::Reduce: return reduce(n, frame, env, nesting);
        case NodeKind::Call: return call(n, frame, env, nesting);
        case NodeKind::CallMask: return call_mask(n, frame, env, nesting);
        case NodeKind::Error: break;
    }
    return fail();
}

NodeId Lowering::chain(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting) {
    NodeId result;
    NodeId right;
    for (size_t i = 0; i < n->links.size(); ++i) {
        const Link& l = n->links[i];
        // A value between two comparisons is evaluated once: chains may nest in chains.
        const NodeId left = i > 0 && l.left == n->links[i - 1].right ? right : eval(l.left, frame, env, nesting);
        right = eval(l.right, frame, env, nesting);
        if (failed_) return {};
        const NodeId link = l.exchanged ? graph_.make(l.op, {right, left}) : graph_.make(l.op, {left, right});
        result = result.valid() ? graph_.make(Op::And, {result, link}) : link;
    }
    return result;
}

NodeId Lowering::load(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting) {
    std::array<NodeId, ir::kMaxRank> indices;
    for (size_t i = 0; i < n->args.size(); ++i) {
        indices[i] = eval(n->args[i], frame, env, nesting);
        if (failed_) return {};
    }
    if (n->kind == NodeKind::RowLoad) return graph_.row_load(n->row, indices[0]);
    const uint32_t tensor = root(frame).bindings[n->index].tensor;
    return graph_.load(tensor, result_.params[tensor].elem, std::span<const NodeId>(indices).first(n->args.size()));
}

NodeId Lowering::extent_value(const ir::Dim& dim) {
    const auto constant = [&](int64_t v) { return graph_.i32(static_cast<int32_t>(v)); };  // extents are below 2^31
    if (dim.extent_id < 0) return constant(dim.offset);
    NodeId value = graph_.extent(static_cast<uint32_t>(dim.extent_id));
    if (dim.multiplier != 1) value = graph_.make(Op::Mul, {value, constant(dim.multiplier)});
    if (dim.offset != 0) value = graph_.make(Op::Add, {value, constant(dim.offset)});
    return value;
}

NodeId Lowering::loop_variable(uint32_t frame, uint32_t env, uint32_t nesting, NodeId lo, NodeId hi, Span span, uint32_t& depth) {
    depth = std::max({depth, nesting, frames_[frame].height, environments_[env].height, height(lo), height(hi)});
    if (depth >= ir::kMaxLoopDepth) {
        sink_.report(Kind::loops_too_deep, span, std::to_string(ir::kMaxLoopDepth), decl_.name);
        return fail();
    }
    return graph_.loop_var(depth, lo, hi);
}

NodeId Lowering::dot(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting) {
    struct Side {
        std::vector<NodeId> indices;
        uint32_t tensor = 0;
        ir::Dim last;
    };
    std::array<Side, 2> sides;
    uint32_t depth = 0;
    for (size_t s = 0; s < 2; ++s) {
        const Slice& slice = n->sides[s];
        for (const Node* i : slice.indices) {
            sides[s].indices.push_back(eval(i, frame, env, nesting));
            if (failed_) return {};
            depth = std::max(depth, height(sides[s].indices.back()));
        }
        if (slice.is_row) {
            sides[s].last = {1, static_cast<int32_t>(ir::ExtentVar::D), 0};
        } else {
            sides[s].tensor = root(frame).bindings[slice.param].tensor;
            sides[s].last = result_.params[sides[s].tensor].dims.back();
        }
    }
    const Agreement agreement = compare(sides[0].last, sides[1].last);
    if (agreement == Agreement::Different) {
        sink_.report(Kind::extent_mismatch, n->span, "the second row of `dot`", result_.dim_text(sides[1].last),
                     result_.dim_text(sides[0].last));
        return fail();
    }
    if (agreement == Agreement::Unknown) constrain(sides[0].last, sides[1].last, "`dot` takes two rows of one length");

    const NodeId zero = graph_.i32(0);
    const NodeId variable = loop_variable(frame, env, nesting, zero, extent_value(sides[0].last), n->span, depth);
    if (failed_) return {};
    std::array<NodeId, 2> factors;
    for (size_t s = 0; s < 2; ++s) {
        sides[s].indices.push_back(variable);
        factors[s] = n->sides[s].is_row ? graph_.row_load(n->sides[s].row, variable)
                                        : graph_.load(sides[s].tensor, result_.params[sides[s].tensor].elem, sides[s].indices);
    }
    return graph_.reduce(Op::ReduceSum, variable, graph_.make(Op::Mul, {factors[0], factors[1]}));
}

NodeId Lowering::reduce(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting) {
    const NodeId lo = eval(n->args[0], frame, env, nesting);
    const NodeId hi = eval(n->args[1], frame, env, nesting);
    if (failed_) return {};
    uint32_t depth = 0;
    const NodeId variable = loop_variable(frame, env, nesting, lo, hi, n->span, depth);
    if (failed_) return {};
    Frame inner;
    inner.decl = frames_[frame].decl;
    inner.parent = frame;
    inner.loop = variable;
    inner.loops = frames_[frame].loops + 1;
    const NodeId body = eval(n->args[2], intern(std::move(inner)), env, depth + 1);
    if (failed_) return {};
    return graph_.reduce(n->op, variable, body);
}

// ---- calls ----

std::optional<uint32_t> Lowering::replaced(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting) {
    if (n->replacements.empty()) return env;
    Environment result = environments_[env];
    bool hkv_given = false;
    bool h_given = false;
    for (const Replacement& r : n->replacements) {  // all at once: values see the old environment
        const NodeId value = eval(r.value, frame, env, nesting);
        if (failed_) return std::nullopt;
        result.slots[static_cast<size_t>(r.slot)] = value;
        hkv_given |= r.slot == Slot::Hkv;
        h_given |= r.slot == Slot::H;
    }
    if (h_given && !hkv_given) {
        const NodeId h = result.slots[static_cast<size_t>(Slot::H)];
        NodeId& hkv = result.slots[static_cast<size_t>(Slot::Hkv)];
        if (h == graph_.index(ir::IndexVar::H)) {
            hkv = graph_.index(ir::IndexVar::Hkv);
        } else {
            const NodeId group = graph_.make(Op::FloorDiv, {graph_.extent(static_cast<uint32_t>(ir::ExtentVar::H)),
                                                            graph_.extent(static_cast<uint32_t>(ir::ExtentVar::HKV))});
            hkv = graph_.make(Op::FloorDiv, {h, group});
        }
    }
    return intern(result);
}

NodeId Lowering::call_mask(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting) {
    const std::optional<uint32_t> inner = replaced(n, frame, env, nesting);
    if (!inner) return {};
    const Closure closure = root(frame).bindings[n->index].mask;
    return remembered(closure.tree, closure.frame, *inner, nesting);
}

void Lowering::constrain(const ir::Dim& left, const ir::Dim& right, std::string reason) {
    for (const ir::ExtentConstraint& c : result_.constraints)
        if (c.left == left && c.right == right) return;
    result_.constraints.push_back({left, right, std::move(reason)});
}

bool Lowering::bind_call_extents(const Node* n, Frame& inner) {
    const Decl& callee = *n->callee;
    std::vector<const std::vector<ir::Dim>*> passed(callee.params.size(), nullptr);
    bool any = false;
    for (size_t i = 0; i < callee.params.size(); ++i)
        if (callee.params[i].kind == Param::Kind::Tensor) {
            passed[i] = &result_.params[inner.bindings[i].tensor].dims;
            any = true;
        }
    if (!any) return true;
    const BoundExtents bound = bind_extents(callee, passed);
    if (bound.unsolved) {
        sink_.report(Kind::extent_unbound, n->span, callee.free_extents[*bound.unsolved], callee.name);
        return false;
    }
    for (const BoundExtents::Pair& p : bound.conflicts) {
        sink_
            .report(Kind::extent_mismatch, n->span, fmt::format("`{}`", result_.params[inner.bindings[p.param].tensor].name),
                    result_.dim_text(p.passed), result_.dim_text(p.wanted))
            .note(fmt::format("the parameter `{}` of `{}`", callee.params[p.param].name, callee.name), callee.params[p.param].span);
        return false;
    }
    for (const BoundExtents::Pair& p : bound.constraints)
        constrain(p.passed, p.wanted,
                  fmt::format("`{}` has the extent `{}` in `{}`", callee.params[p.param].name,
                              dim_text(callee.params[p.param].dims[p.dim], callee.free_extents), callee.name));
    for (const auto& dim : bound.free) inner.extents.push_back(*dim);
    return true;
}

NodeId Lowering::call(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting) {
    const Decl& callee = *n->callee;
    Frame inner;
    inner.decl = &callee;
    inner.bindings.resize(n->args.size());
    steps_ += 4 * n->args.size();
    for (size_t i = 0; i < n->args.size(); ++i) {
        Binding& b = inner.bindings[i];
        const Node* arg = n->args[i];
        b.kind = callee.params[i].kind;
        if (b.kind == Param::Kind::Tensor) {
            b.tensor = root(frame).bindings[arg->index].tensor;
        } else if (b.kind == Param::Kind::Mask) {
            // A parameter passed on as it is stays the closure it was.
            const bool passed_on = arg->kind == NodeKind::CallMask && arg->replacements.empty();
            b.mask = passed_on ? root(frame).bindings[arg->index].mask : Closure{arg, frame};
        } else {
            b.value = eval(arg, frame, env, nesting);
        }
        if (failed_) return {};
    }
    if (!bind_call_extents(n, inner)) return fail();
    const std::optional<uint32_t> inner_env = replaced(n, frame, env, nesting);
    if (!inner_env) return {};
    return remembered(callee.body, intern(std::move(inner)), callee.kind == ast::DeclKind::Fn ? env : *inner_env, nesting);
}

}  // namespace flexc::sema
