// Mathematics under the names that generated code calls.
#pragma once

#include "backend/skeletons/nvptx/math.h"

extern "C" {

#define FLEX_MATH_FUNCTION(name, value)                              \
    __attribute__((always_inline)) float flex_math_##name(float x) { \
        return value;                                                \
    }
FLEX_MATH_FUNCTION(exp2, flexmath::approximate_exp2(x))
FLEX_MATH_FUNCTION(exp, flexmath::exp(x))
FLEX_MATH_FUNCTION(log, flexmath::log(x))
FLEX_MATH_FUNCTION(log2, flexmath::log2(x))
FLEX_MATH_FUNCTION(tanh, flexmath::tanh(x))
FLEX_MATH_FUNCTION(tanh_approx, flexmath::approximate_tanh(x))
FLEX_MATH_FUNCTION(sigmoid, flexmath::sigmoid(x))
FLEX_MATH_FUNCTION(erf, flexmath::erf(x))
FLEX_MATH_FUNCTION(sin, flexmath::sin(x))
FLEX_MATH_FUNCTION(cos, flexmath::cos(x))
FLEX_MATH_FUNCTION(tan, flexmath::tan(x))
FLEX_MATH_FUNCTION(rsqrt, flexmath::rsqrt(x))
FLEX_MATH_FUNCTION(floor, __builtin_floorf(x))
FLEX_MATH_FUNCTION(ceil, __builtin_ceilf(x))
FLEX_MATH_FUNCTION(round, __builtin_rintf(x))
#undef FLEX_MATH_FUNCTION
__attribute__((always_inline)) float flex_math_pow(float x, float y) {
    return flexmath::pow(x, y);
}

}  // extern "C"
