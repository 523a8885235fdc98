// The frontend's two entry points: check (a file and all it imports -> a Program, names and types resolved)
// and lower (one attention of it, with values for its `const` parameters -> IR).
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "diag/diagnostic.h"
#include "frontend/ast.h"
#include "ir/ir.h"

namespace flexc::frontend {

/// How imports are found. The default reads files; `import std;` gives the embedded library.
struct ImportResolver {
    /// Text of an imported file, or nothing if it cannot be read. `path` is already joined to the importer's folder.
    std::function<std::optional<std::string>(const std::filesystem::path& path)> read_file;
};
[[nodiscard]] ImportResolver default_imports();

/// A checked program. Opaque: sema's tables live behind the pointer.
class Program {
public:
    ~Program();
    struct Impl;
    explicit Program(std::unique_ptr<Impl> impl);

    struct AttentionInfo {
        std::string name;
        std::string doc;
        std::vector<std::string> const_params;  // names of the `const` parameters
        diag::Span span;
    };
    /// The attentions declared in the main file (not in imports), in source order.
    [[nodiscard]] const std::vector<AttentionInfo>& attentions() const;
    /// Files read, the main one first, then imports in the order met: for dependency tracking. `std` is not listed.
    [[nodiscard]] const std::vector<std::string>& files() const;
    [[nodiscard]] const Impl& impl() const { return *impl_; }

private:
    std::unique_ptr<Impl> impl_;
};

/// Parses and checks a file with its imports. Null if any error was reported; warnings may be reported either way.
/// `parse_seconds`, if given, is set to the part of the time that went into parse().
[[nodiscard]] std::unique_ptr<Program> check(diag::SourceManager& sources, diag::FileId main_file, const ImportResolver& imports,
                                             diag::Sink& sink, double* parse_seconds = nullptr);

/// Values of `const` parameters, as text ("1024", "true", "0.5"), by name.
using ConstValues = std::map<std::string, std::string>;

/// Lowers one attention to IR, everything inlined. Nothing if an error was reported (a `const` without value, too many nodes, ...).
[[nodiscard]] std::optional<ir::Attention> lower(const Program& program, const std::string& attention, const ConstValues& consts,
                                                 diag::Sink& sink);

}  // namespace flexc::frontend
