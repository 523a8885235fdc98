// Element types of files to the ones kernels take. `convert_exact` is for parameters: a value that would change is refused,
// with its index. `convert_rounding` is for q, k and v, which are rounded once, to nearest even.
#pragma once

#include <string>

#include "tools/io/array.h"

namespace flexc::io {

/// bf16 is the upper half of f32.
[[nodiscard]] Array widen_bf16(const Array& array);

[[nodiscard]] FileType file_type(flex::DType type);
[[nodiscard]] bool is_float(FileType type);
[[nodiscard]] bool is_integer(FileType type);

/// Element i as a double; 64-bit integers beyond 2^53 round.
[[nodiscard]] double element(const Array& array, int64_t i);
/// Element i as text, exactly enough to read it back.
[[nodiscard]] std::string element_text(const Array& array, int64_t i);
/// "[3, 0, 17]" for a position in row-major order; "" for a 0-d array.
[[nodiscard]] std::string index_text(const std::vector<int64_t>& shape, int64_t i);

struct ConvertFault {
    enum class Kind { None, OtherKind, Inexact } kind = Kind::None;
    int64_t at = 0;  // Inexact: the first element that `type` cannot hold
};
/// Floats to floats and integers to integers, if every element keeps its value (NaN stays NaN); bool only to bool.
[[nodiscard]] ConvertFault convert_exact(const Array& in, FileType type, Array* out);
/// A float array to F32, F16 or BF16, rounded to nearest even.
[[nodiscard]] Array convert_rounding(const Array& in, FileType type);

[[nodiscard]] uint16_t to_bf16(double value);
[[nodiscard]] uint16_t to_f16(double value);

}  // namespace flexc::io
