// How a subcommand ends: diagnostics as text on stderr or, with --json, as one JSON object on stdout; and the exit code they mean.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "diag/diagnostic.h"
#include "driver/compiler.h"

namespace flexc::tools {

using Json = nlohmann::ordered_json;

/// One line. Names and messages may quote bytes of the user's file that are no UTF-8: these are replaced.
[[nodiscard]] std::string dump(const Json& json);
/// [{"code", "level", "name", "message", "file", "line", "col", "notes": [...], "help": [...]}]; file, line and col are absent without a place.
[[nodiscard]] Json diagnostics_json(const Session& session);
/// 0 without errors; 3 if each error is that the machine or this build cannot; else 1.
[[nodiscard]] int exit_code(const diag::Sink& sink);

/// After an error: prints all diagnostics and returns the exit code. With json: {"ok": false, "diagnostics": [...]} on stdout.
[[nodiscard]] int fail(const Session& session, bool json);
/// After success: prints the warnings. With json, prints `result` with "ok" and "diagnostics" added.
[[nodiscard]] int succeed(const Session& session, bool json, Json result = Json::object());

/// Writes text to stdout; a reader that went away is no error. False, after a diagnostic on stderr, if the text cannot be written.
bool print_out(const std::string& text);

[[nodiscard]] Json phases_json(const Phases& phases);

}  // namespace flexc::tools
