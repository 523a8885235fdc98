// What is wrong with a command line, in words that say what to write instead.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace flexc::tools {

/// `app` has failed to parse with `error`. One or two sentences, without a line end.
[[nodiscard]] std::string usage_fault(const CLI::App& app, const CLI::ParseError& error);

}  // namespace flexc::tools
