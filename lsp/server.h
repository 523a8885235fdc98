// The language server: one client, one thread. Requests are answered in order; diagnostics are published when nothing more waits to be
// read, so that quick typing is analysed once.
#pragma once

#include <filesystem>

#include "lsp/features.h"

namespace flexc::lsp {

struct ServerOptions {
    std::string version;
    std::filesystem::path library_folder;  // see Workspace
    AttentionFacts attention_facts;        // may be empty
};

/// Serves until `exit` or the end of the input. Returns the exit code: 0 if `shutdown` came first, else 1.
int serve(int in, int out, const ServerOptions& options);

}  // namespace flexc::lsp
