// The longer text on each kind of diagnostic (explanations/), embedded in the compiler.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "diag/diagnostic.h"

namespace flexc::diag {

struct Explanation {
    std::vector<std::string> paragraphs;
    std::string wrong, right;  // source text: what gives the diagnostic, and what does not. Both are empty where no few lines can show it
};

[[nodiscard]] Explanation explanation(const KindInfo& kind);

}  // namespace flexc::diag
