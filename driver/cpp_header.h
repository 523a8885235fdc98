// The C++ header of a linked attention: a namespace of its name with the struct of its arguments and the functions that launch it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/kernel.h"

namespace flexc {

/// What the header says besides the description.
struct HeaderFacts {
    std::string name;    // of the namespace, and in the symbols of the object; see cpp_name
    std::string source;  // the .flex file, for readers
    std::string doc;     // the attention's doc comment
    std::string object;  // file name of the object, for readers
    std::string table;   // symbol of the object's flex_linked
    uint64_t fingerprint = 0;
    bool cpu = false;
    bool gradients = false;        // the object has backward passes, too
    std::vector<std::string> gpu;  // a line for each image: "sm_80 and later: bf16, D and DV up to 128"
};

/// `name`, or where C++ has another meaning for it, `name` and an underscore.
[[nodiscard]] std::string cpp_name(std::string_view name);
/// Whether a namespace can be called so: identifiers, joined by "::".
[[nodiscard]] bool is_cpp_namespace(std::string_view text);

[[nodiscard]] std::string cpp_header(const flex::KernelDesc& desc, const HeaderFacts& facts);

}  // namespace flexc
