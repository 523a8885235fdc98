// An attention as something that a C++ program links: one header and one object, for any number of targets.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "driver/compiler.h"

namespace flexc {

struct LinkOptions {
    std::string name;                  // in C++; empty: the attention's own (see cpp_name)
    std::vector<std::string> targets;  // "cpu", "sm_80", "sm_90a"
    std::vector<flex::DType> dtypes;   // of GPU images; code for the CPU serves every type
    int head_dim = 0, v_head_dim = 0;  // of GPU images; 0: not given
    bool allow_tf32 = false;
    bool atomic = false;                   // of backward images
    std::atomic<int>* finished = nullptr;  // counts targets that are compiled, for another thread to read
};

struct Linkable {
    std::string header;
    std::vector<char> object;
};

/// Compiles for every target: the CPU at each of its levels, a GPU with an image for each type and for long and short queries; backward passes too, if
/// the attention has been differentiated. `source` and `object_name` are file names that the header mentions. Nothing after a report to the session.
[[nodiscard]] std::optional<Linkable> make_linkable(Session& session, const ir::Attention& attention, const LinkOptions& options,
                                                    const std::string& source, const std::string& object_name);

}  // namespace flexc
