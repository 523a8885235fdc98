// The man page and the shell completions, made from the definitions of the command line, so that they cannot differ from it.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace flexc::tools {

/// flexc.1: roff with the man macros.
[[nodiscard]] std::string man_page(const CLI::App& root);

/// Scripts for the shells' own folders of completions.
[[nodiscard]] std::string bash_completion(const CLI::App& root);
[[nodiscard]] std::string zsh_completion(const CLI::App& root);
[[nodiscard]] std::string fish_completion(const CLI::App& root);

}  // namespace flexc::tools
