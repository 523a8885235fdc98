// A variant built from the IR by hand, with its captured data, for running compiled hooks beside ir::Evaluator.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/compile.h"
#include "ir/interpret.h"
#include "ir/ir.h"

namespace flexc::test {

/// All levels that this machine can execute.
std::vector<flex::CpuLevel> levels();

/// How a tensor lies in memory. Generated code must read nothing but its elements: what is between and around them is
/// a page that faults (`tensor ends at a guard page`) or poison.
enum class Layout { Contiguous, Strided, Reversed };

class Variant {
public:
    /// Extents B H HKV Q K D DV.
    explicit Variant(std::vector<int32_t> extents = {2, 4, 2, 5, 37, 8, 8});
    /// An attention made elsewhere, with the data of a launch; tensors get `layout`.
    Variant(ir::Attention made, const ir::Bindings& bound, Layout layout);
    ~Variant();
    Variant(const Variant&) = delete;
    Variant& operator=(const Variant&) = delete;

    ir::Attention attention;
    ir::Graph& g;
    std::vector<int32_t> extents;

    // Shorthands.
    ir::NodeId b, h, q, k, hkv, score;
    ir::NodeId make(ir::Op op, std::initializer_list<ir::NodeId> operands) { return g.make(op, operands); }
    ir::NodeId extent(ir::ExtentVar e) { return g.extent(uint32_t(e)); }

    ir::NodeId scalar_f32(float value);
    ir::NodeId scalar_i32(int32_t value);
    ir::NodeId scalar_bool(bool value);
    /// Adds a captured tensor of the given extents, row-major values; returns the parameter's number.
    uint32_t tensor(ir::ElemType elem, std::vector<int32_t> dims, const std::vector<double>& values, Layout layout = Layout::Contiguous);
    /// The same with an extent that is free: named, and bound to the value given.
    uint32_t free_tensor(ir::ElemType elem, int32_t n, const std::vector<double>& values, Layout layout = Layout::Contiguous);
    ir::NodeId load(uint32_t param, std::initializer_list<ir::NodeId> indices);

    /// Compiled and loaded; null (and a failed check) if that fails.
    std::unique_ptr<cpu::LoadedKernel> compile(flex::CpuLevel level) const;
    [[nodiscard]] const flex_args* args() const { return &args_; }
    [[nodiscard]] const ir::Bindings& bindings() const { return bindings_; }
    /// The bytes of the captured tensors; nothing else may be read.
    struct Span {
        void* data;
        size_t bytes;
    };
    [[nodiscard]] std::vector<Span> memory() const;

private:
    struct Storage;
    uint32_t add_tensor(ir::ElemType elem, std::vector<ir::Dim> dims, const std::vector<int32_t>& sizes, const std::vector<double>& values,
                        Layout layout);
    void bind_tensor(ir::ElemType elem, const std::vector<int32_t>& sizes, const std::vector<double>& values, Layout layout);
    void rebind();

    std::vector<std::unique_ptr<Storage>> storage_;
    ir::Bindings bindings_;
    std::vector<uint32_t> scalars_;
    std::vector<flex_tensor> tensors_;
    flex_args args_{};
};

/// Compares score_row and mask_row of every level, and the hooks of the GPU on the emulated device, with the evaluator at all points: masks
/// exactly; scores within `ulps` units of f32 rounding of the evaluator's f32 arithmetic (0: to the bit, except NaN payloads and the sign of zero).
/// Where `ulps` is not 0, the functions of a GPU have the bounds of backend/skeletons/nvptx/math.h.
void check_hooks(const Variant& variant, double ulps = 0);

/// Distance in units of the last place of `expected` (at least the smallest subnormal); 0 for equal or both NaN, inf for one NaN or a wrong infinity.
double ulp_distance(float got, double expected);

}  // namespace flexc::test
