// Where a clause can leave the numbers: NaN or infinity from ordinary scores and captured values. For people; nothing is compiled from it.
#pragma once

#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

/// Scores and captured floats of ordinary size: risks beyond these are not reported.
inline constexpr double kOrdinary = 1e4;

struct NumericRisk {
    enum class Why : uint8_t {
        LogOfNegative,       // NaN
        LogOfZero,           // -inf
        SqrtOfNegative,      // NaN
        RsqrtOfZero,         // infinite, or NaN below 0
        PowOfNegative,       // NaN unless the exponent is whole
        DivisionByZero,      // infinite, or NaN for 0 / 0
        ExpOverflow,         // infinite
        InfinityDifference,  // inf - inf: NaN
        ZeroTimesInfinity,   // NaN
    };
    NodeId value;    // the operation
    NodeId operand;  // what it is given
    Why why;
};

/// Of the clauses scale, score and output, by ascending value. An operation whose operand decides in a condition whether its result is used counts as guarded.
[[nodiscard]] std::vector<NumericRisk> numeric_risks(const Attention& attention);

}  // namespace flexc::ir
