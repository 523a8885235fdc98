// What `flexc explain` says of gradients: the derivative of the score, how the gradient of each captured tensor is summed, and what that needs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "driver/compiler.h"
#include "tools/report.h"

namespace flexc::tools {

/// A read of a `grad` tensor.
struct GradientReadFact {
    std::string param;    // "slope"
    std::string text;     // "slope[h]"
    std::string clause;   // "score" or "scale"
    std::string adjoint;  // the derivative of the clause by this read
    std::string cpu, gpu;
};

/// The gradient of one captured tensor.
struct GradientParamFact {
    std::string name;
    std::optional<int> sums;  // partial sums on the CPU, where the shape is known
};

struct GradientExplanation {
    std::vector<std::string> lacking;  // clauses that have no gradient: then the rest is empty
    std::string score;                 // the derivative of the score clause by the scaled dot product
    std::vector<GradientReadFact> reads;
    std::vector<GradientParamFact> params;
    std::optional<int64_t> workspace;      // bytes on the CPU, all threads of the machine included
    std::optional<int64_t> gpu_workspace;  // on a GPU, with the type of `explain_gradients`
    std::string shape;                     // what the numbers are for
};

/// `extents` as a launch binds them, if they are known; `dtype` that of arrays on a GPU.
[[nodiscard]] GradientExplanation explain_gradients(const ir::Attention& attention, const std::optional<std::vector<int32_t>>& extents,
                                                    flex::DType dtype);

[[nodiscard]] std::string gradients_text(const GradientExplanation& facts);
[[nodiscard]] Json gradients_json(const GradientExplanation& facts);

}  // namespace flexc::tools
