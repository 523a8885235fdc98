#include "backend/lowering/score_range.h"

#include <limits>

#include "ir/float_range.h"

namespace flexc::codegen {

bool score_may_hide(const ir::Attention& attention) {
    if (!attention.score.valid()) return false;
    return ir::float_ranges(attention)[attention.score.value].lo == -std::numeric_limits<double>::infinity();
}

}  // namespace flexc::codegen
