// What the line editor asks while a user types: completions, hints for arguments, colours. Answers come from the text of the session, at once.
#pragma once

#include "tools/repl/line_editor.h"
#include "tools/repl/session.h"

namespace flexc::repl {

/// Hooks that ask `session`, which must outlive them.
[[nodiscard]] EditorHooks assist(const ReplSession& session);

}  // namespace flexc::repl
