// Signals: Ctrl-C and SIGTERM end the process at once, after the temporary files in use are removed; a closed pipe is an
// ordinary write error; a crash says that it is our bug and exits with 70.
#pragma once

namespace flexc::tools {
void install_signal_handlers();
}
