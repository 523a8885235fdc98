#include "diag/check.h"

#include <cstdio>
#include <cstdlib>

namespace flexc::diag {

void internal_error(const char* file, int line, const char* condition, const char* message) {
    std::fprintf(stderr,
                 "internal compiler error: %s (%s:%d: %s)\nthis is a bug in flexc, not in your program; please report it with the input\n",
                 message, file, line, condition);
    std::fflush(stderr);
    std::_Exit(70);
}

}  // namespace flexc::diag
