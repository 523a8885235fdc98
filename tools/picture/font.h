// A 5 x 7 dot font for the printable ASCII characters, with an eighth row below the base line for g j p q y.
#pragma once

#include <cstdint>

namespace flexc::picture {

/// Whether dot (x, y), x in [0, 5), y in [0, 8), is set. Anything that is not printable ASCII is drawn as `?`.
[[nodiscard]] bool font_dot(char c, int x, int y);

}  // namespace flexc::picture
