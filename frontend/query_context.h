// Where in a half-typed file a place is, from the tokens before it alone: which names are in scope, and what may stand there. For completion
// and for the signature of the call being typed. Needs no tree, so it works in text that does not parse.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "frontend/ast.h"

namespace flexc::frontend {

struct CursorContext {
    enum class Place : uint8_t {
        Nothing,      // in a comment, a number or a string; or where a new name is written
        Declaration,  // outside of all declarations
        Import,       // behind `import`
        Type,
        Extent,     // in the brackets of a type
        Parameter,  // where a parameter begins
        Clause,     // where a clause of an attention begins
        Normalize,
        Emission,
        Blocks,
        Expression,
        Operator,  // behind a complete expression: `and`, `then`, ...
        Pipe,      // behind `|>`
    } place = Place::Nothing;

    uint32_t word_begin = 0;  // the name being typed; the place itself if none is
    std::string_view word;

    struct Local {
        enum class Kind : uint8_t { Scalar, Tensor, Mask, Let, Loop, Extent } kind;
        std::string name;
        std::string detail;  // "slope: grad f32[H]"
    };
    std::vector<Local> locals;
    std::optional<ast::DeclKind> decl;       // the declaration around
    std::optional<ast::ClauseKind> clause;   // the clause around
    std::vector<std::string> clauses_given;  // of the attention around, before the place
    bool block_start = false;                // a `let` may stand here

    /// The innermost call around.
    struct Call {
        std::string name;
        size_t argument = 0;          // commas before the place
        std::string named;            // `name =` of this argument, or empty
        bool argument_start = false;  // nothing of this argument is written yet but the word
    };
    std::optional<Call> call;
};

[[nodiscard]] CursorContext context_at(std::string_view text, uint32_t offset);

}  // namespace flexc::frontend
