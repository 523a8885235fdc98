#include "tools/interrupt.h"

#include <unistd.h>

#include <csignal>
#include <cstring>

#include "tools/cli.h"
#include "tools/io/atomic_file.h"
#include "tools/progress.h"

namespace flexc::tools {
namespace {

// Only async-signal-safe calls below.
extern "C" void on_interrupt(int signal) {
    remove_progress_line();
    io::remove_temporaries();
    _exit(128 + signal);  // 130 for Ctrl-C, as shells say it
}

#if !defined(__SANITIZE_ADDRESS__) && !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
extern "C" void on_crash(int) {
    remove_progress_line();
    constexpr char kText[] =
        "internal compiler error: the process crashed\nthis is a bug in flexc, not in your program; please report it with the input\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, kText, sizeof kText - 1);
    io::remove_temporaries();
    _exit(kBug);
}

/// On a stack of its own: one cause of a crash is that the other one is used up.
void catch_crashes() {
    static char stack_memory[64 * 1024];
    stack_t stack{};
    stack.ss_sp = stack_memory;
    stack.ss_size = sizeof stack_memory;
    sigaltstack(&stack, nullptr);
    struct sigaction action{};
    action.sa_handler = on_crash;
    action.sa_flags = SA_ONSTACK;
    for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) sigaction(signal, &action, nullptr);
}
#else
void catch_crashes() {}  // the sanitizer's own report says more
#endif

}  // namespace

void install_signal_handlers() {
    struct sigaction action{};
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGHUP, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    catch_crashes();
}

}  // namespace flexc::tools
