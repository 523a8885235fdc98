#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "tools/interrupt.h"
#include "tools/repl/line_editor.h"

namespace flexc::repl {
namespace {

int pipe_ends[2] = {-1, -1};

extern "C" void on_signal(int signal) {
    const int saved = errno;
    const char byte = signal == SIGINT ? 'i' : signal == SIGWINCH ? 'w' : signal == SIGTSTP ? 'z' : 't';
    [[maybe_unused]] const auto written = write(pipe_ends[1], &byte, 1);
    errno = saved;
}

constexpr int kSignals[] = {SIGINT, SIGWINCH, SIGTERM, SIGHUP, SIGTSTP};

}  // namespace

int Signals::take() {
    if (pipe_ends[0] >= 0) return pipe_ends[0];
    if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) return -1;
    struct sigaction action{};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    for (int signal : kSignals) sigaction(signal, &action, nullptr);
    return pipe_ends[0];
}

char Signals::next() {
    char byte = 0;
    return pipe_ends[0] >= 0 && ::read(pipe_ends[0], &byte, 1) == 1 ? byte : '\0';
}

void Signals::give_back() {
    struct sigaction action{};
    action.sa_handler = SIG_DFL;
    for (int signal : kSignals) sigaction(signal, &action, nullptr);
    tools::install_signal_handlers();
}

}  // namespace flexc::repl
