// Answers to an editor's questions about one document. Each takes the place as a byte offset and gives the result of the protocol's
// request of that name, null if there is none.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

#include "lsp/workspace.h"

namespace flexc::lsp {

/// What analyses say about an attention, as Markdown; empty if nothing. The program has no errors.
using AttentionFacts = std::function<std::string(const frontend::Program& program, const std::string& attention)>;

[[nodiscard]] Json hover(Workspace& workspace, Document& document, uint32_t offset, const AttentionFacts& facts);
[[nodiscard]] Json definition(Workspace& workspace, Document& document, uint32_t offset);
[[nodiscard]] Json references(Workspace& workspace, Document& document, uint32_t offset, bool with_declaration);
[[nodiscard]] Json highlights(Workspace& workspace, Document& document, uint32_t offset);
[[nodiscard]] Json completion(Workspace& workspace, Document& document, uint32_t offset, bool snippets);
[[nodiscard]] Json signature_help(Workspace& workspace, Document& document, uint32_t offset);
[[nodiscard]] Json symbols(Workspace& workspace, Document& document);
[[nodiscard]] Json formatting(Workspace& workspace, Document& document);
[[nodiscard]] Json diagnostics(Workspace& workspace, Document& document);
/// Fixes of the diagnostics that touch the bytes [begin, end].
[[nodiscard]] Json code_actions(Workspace& workspace, Document& document, uint32_t begin, uint32_t end);

/// Why a name cannot be changed, for the user.
struct Refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};
[[nodiscard]] Json prepare_rename(Workspace& workspace, Document& document, uint32_t offset);
[[nodiscard]] Json rename(Workspace& workspace, Document& document, uint32_t offset, const std::string& name);

}  // namespace flexc::lsp
