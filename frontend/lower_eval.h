// Evaluates typed trees into an ir::Graph with every call inlined.
//
// A frame is a declaration's parameters bound to values, tensors, or closures (a mask argument: a tree and the frame it came
// from), plus the reduction variables around the present place. An environment is the value of each slot (b h q k hkv score).
// Frames and environments are interned, so that (tree, frame, environment) names a value, and lets, calls and closures are
// evaluated once for each: sharing in the source is sharing in the graph, and work is bounded by distinct values.
//
// Loop depths: a reduction gets a depth above every one around it and every one inside the values its body can name. So the variables along
// a path of the graph all differ, and hoisting a closed reduction out of a loop or leaving it there mean the same.
#pragma once

#include <array>

#include "diag/diagnostic.h"
#include "frontend/sema_dims.h"
#include "frontend/sema_tree.h"

namespace flexc::sema {

inline constexpr size_t kMaxGraphNodes = 200'000;
inline constexpr uint64_t kMaxSteps = 1'000'000;  // tree nodes evaluated
inline constexpr int kMaxEvalDepth = 3000;        // nesting of the evaluation, bounds the stack

struct Closure {
    const Node* tree = nullptr;
    uint32_t frame = 0;
};

/// What a parameter of the declaration under evaluation is bound to.
struct Binding {
    Param::Kind kind = Param::Kind::Error;
    ir::NodeId value;     // Scalar
    uint32_t tensor = 0;  // Tensor: index into Attention::params
    Closure mask;         // Mask
    friend bool operator==(const Binding& a, const Binding& b) {
        return a.kind == b.kind && a.value == b.value && a.tensor == b.tensor && a.mask.tree == b.mask.tree && a.mask.frame == b.mask.frame;
    }
};

struct Frame {
    const Decl* decl = nullptr;
    std::vector<Binding> bindings;   // by parameter; empty in a frame that adds a loop variable
    std::vector<ir::Dim> extents;    // the free extents, in those of the attention
    std::optional<uint32_t> parent;  // a frame with one loop variable less
    ir::NodeId loop;
    uint32_t loops = 0;   // how many loop variables it has
    uint32_t height = 0;  // 1 + the greatest loop depth inside anything it binds
};

struct Environment {
    std::array<ir::NodeId, kSlots> slots;
    uint32_t height = 0;
    friend bool operator==(const Environment& a, const Environment& b) { return a.slots == b.slots; }
};

class Lowering {
public:
    Lowering(const Decl& decl, ir::Attention& result, diag::Sink& sink);

    /// Binds the attention's own parameters; `constants` holds a value for each `const` one.
    void bind(const std::unordered_map<const Param*, Value>& constants);
    /// A clause's tree in the given environment. Invalid after an error was reported.
    ir::NodeId clause(const Node* tree, const Environment& environment);
    [[nodiscard]] Environment base_environment();

private:
    ir::NodeId eval(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting);
    ir::NodeId dispatch(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting);
    ir::NodeId remembered(const Node* tree, uint32_t frame, uint32_t env, uint32_t nesting);
    ir::NodeId chain(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting);
    ir::NodeId load(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting);
    ir::NodeId dot(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting);
    ir::NodeId reduce(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting);
    ir::NodeId call(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting);
    ir::NodeId call_mask(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting);
    std::optional<uint32_t> replaced(const Node* n, uint32_t frame, uint32_t env, uint32_t nesting);
    bool bind_call_extents(const Node* n, Frame& inner);

    ir::NodeId extent_value(const ir::Dim& dim);
    ir::NodeId loop_variable(uint32_t frame, uint32_t env, uint32_t nesting, ir::NodeId lo, ir::NodeId hi, Span span, uint32_t& depth);
    const Frame& root(uint32_t frame) const;
    uint32_t intern(Frame frame);
    uint32_t intern(Environment environment);
    uint32_t height(ir::NodeId id);
    ir::NodeId fail();
    /// A constraint that the launch checks, once.
    void constrain(const ir::Dim& left, const ir::Dim& right, std::string reason);

    struct Key {
        const Node* tree;
        uint32_t frame, env, nesting;
        friend bool operator==(const Key&, const Key&) = default;
    };
    struct KeyHash {
        size_t operator()(const Key& k) const;
    };

    const Decl& decl_;
    ir::Attention& result_;
    ir::Graph& graph_;
    diag::Sink& sink_;
    std::deque<Frame> frames_;
    std::unordered_multimap<size_t, uint32_t> frame_ids_;
    std::deque<Environment> environments_;
    std::unordered_multimap<size_t, uint32_t> environment_ids_;
    std::unordered_map<Key, ir::NodeId, KeyHash> memo_;
    std::vector<uint32_t> heights_;  // by node: 1 + the greatest loop depth inside, 0 if none
    uint32_t main_frame_ = 0;
    uint64_t steps_ = 0;
    int depth_ = 0;
    bool failed_ = false;
};

/// What simple reasoning about ranges says of a mask: always true, always false, or neither.
[[nodiscard]] std::optional<bool> constant_mask(const ir::Attention& attention);
/// Whether the constant 0 divides in what counts for the value of `root`: `softcap(0.0)`.
[[nodiscard]] bool divides_by_zero(const ir::Attention& attention, ir::NodeId root);

}  // namespace flexc::sema
