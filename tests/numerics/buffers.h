// q, k, v, o and the captured arrays of one case in memory, as a launch wants them: values in float64 become bytes of the element type, in one of the
// layouts, and back. For a GPU the bytes are copied as they lie, and the views moved along.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "runtime/launch.h"
#include "tests/numerics/engines.h"

namespace numerics {

/// An array of rank 4 in one of the layouts, with its bytes.
struct Buffer {
    std::vector<std::byte> bytes;
    flex::Tensor view;

    Buffer(flex::DType type, std::array<int64_t, 4> shape, Layout layout);
    void fill(const std::vector<double>& values);
    [[nodiscard]] std::vector<double> values() const;
    /// Where the view's first element lies in `bytes`: not at the start if strides are negative.
    [[nodiscard]] size_t origin() const { return static_cast<size_t>(static_cast<std::byte*>(view.data) - bytes.data()); }

private:
    template <class Visit>
    void each(Visit visit) const;
};

/// The captured arrays as launch arguments, with their bytes.
struct Arguments {
    std::vector<std::vector<std::byte>> bytes;
    std::vector<flex::Argument> list;

    explicit Arguments(const std::vector<Captured>& captured);
};

struct Arrays {
    Buffer q, k, v, o, lse, max_score;

    Arrays(flex::DType type, const Inputs& in, Layout layout);
    [[nodiscard]] flex::AttentionArrays views() const;
};

/// lse and max_score are kept as [1, B, H, Q]; a launch takes [B, H, Q].
[[nodiscard]] flex::Tensor rows_view(const flex::Tensor& buffer);

}  // namespace numerics
