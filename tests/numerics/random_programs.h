// Random variants as text: masks and scores over every operation of the language, for checking the engines against each other.
#pragma once

#include <string>

#include "tests/numerics/case.h"

namespace numerics {

/// The source of an attention `random` and inputs for it; the variant of the case is left empty.
struct RandomProgram {
    std::string source;
    Case inputs;
};
[[nodiscard]] RandomProgram random_program(Random& random);

}  // namespace numerics
