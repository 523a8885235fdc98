// FLEX_CHECK(condition, "what held before"): an invariant of the compiler itself. When it breaks, the
// message says "internal compiler error" with file and line, and the process exits with code 70.
// Never for anything that a user's input can cause.
#pragma once

namespace flexc::diag {
[[noreturn]] void internal_error(const char* file, int line, const char* condition, const char* message);
}

#define FLEX_CHECK(condition, message)                                              \
    do {                                                                            \
        if (!(condition)) [[unlikely]]                                              \
            ::flexc::diag::internal_error(__FILE__, __LINE__, #condition, message); \
    } while (0)
