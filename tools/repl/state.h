// What a session holds: the declarations entered so far, each as its text, and the settings under which they are drawn and run. Plain data: a
// definition is tried on a copy, and the copy takes the place of the original once it has been accepted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "diag/diagnostic.h"
#include "frontend/ast.h"
#include "tools/cli.h"

namespace flexc::repl {

/// A parameter as it was written.
struct ParamText {
    std::string name, type;  // "slope", "f32[H]"
    std::string base;        // "f32"; "mask"
    bool is_tensor = false, is_const = false, has_default = false;
    std::vector<std::string> extents;  // names in the brackets
};

struct Entry {
    std::string name;
    ast::DeclKind kind = ast::DeclKind::Fn;
    std::string text;       // the comments before it included, no line end after it
    std::string signature;  // "mask strided(n: i32)", on one line
    std::string doc;
    std::string params_text;  // "n: i32, m: i32 = 4"
    std::string lets;         // of an attention
    std::vector<ParamText> params;
    std::string origin;              // of diagnostics: "input 3", "alibi.flex"
    uint32_t line = 1;               // of its first line there
    std::filesystem::path imported;  // by `import "..."`, from here
    bool implicit = false;           // `import std;` of a new session
};

/// The declarations of a text, or nothing after reports. `folder` is where its imports are.
std::optional<std::vector<Entry>> read_entries(const std::string& text, const std::string& origin, uint32_t line,
                                               const std::filesystem::path& folder, diag::SourceManager& sources, diag::Sink& sink);

struct Settings {
    std::map<std::string, int64_t> shape;     // as set by the user
    std::map<std::string, std::string> sets;  // values of parameters, by name
    std::filesystem::path in;
    uint64_t seed = 0;
};

struct State {
    std::vector<Entry> entries;
    Settings settings;
    std::string current;  // the attention that commands without a name mean; may be empty

    /// A new session: `import std;` alone.
    static State fresh();

    [[nodiscard]] const Entry* find(const std::string& name) const;
    [[nodiscard]] const Entry* current_attention() const;
    /// Replaces the entries of these names, in their places, and adds the others.
    void merge(std::vector<Entry> entries);
    void drop(const std::string& name);

    /// The whole source, and which lines of it come from where.
    struct Source {
        std::string text;
        std::vector<diag::SourcePart> parts;
    };
    [[nodiscard]] Source source() const;
    /// A file that `:load` makes the same session of; imports are relative to `folder`.
    [[nodiscard]] std::string saved(const std::filesystem::path& folder) const;

    /// What commands are given for an attention: the settings that concern it.
    [[nodiscard]] tools::InputOptions input(const Entry& attention) const;
    /// The same as arguments of a command line: `session --name NAME --shape ...`.
    [[nodiscard]] std::vector<std::string> arguments(const Entry& attention) const;
};

/// "file", as commands are told of the session's source; see tools::hold_text.
inline constexpr const char* kSessionFile = "session";
/// Extents that neither the user nor an array gives.
[[nodiscard]] const std::map<std::string, int64_t>& default_shape();
/// Settings that a saved session carries in comments: `# :shape Q=64` gives ":shape Q=64".
[[nodiscard]] std::vector<std::string> saved_commands(std::string_view text);

}  // namespace flexc::repl
