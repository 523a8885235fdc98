// Loads a file and all that it imports: each file once, cycles and missing files diagnosed at the import.
#pragma once

#include "frontend/sema_tree.h"

namespace flexc::sema {

/// The text of an embedded library file by its name (`std`), or nothing.
[[nodiscard]] std::optional<std::string_view> embedded_library(std::string_view name);
[[nodiscard]] std::vector<std::string> embedded_libraries();

/// Fills program.modules (the main file first, every file after the importer that was met first) and program.files.
/// `order` lists the modules so that imports come before importers. Returns the seconds spent in parse().
double load_modules(frontend::Program::Impl& program, diag::FileId main_file, const frontend::ImportResolver& imports, diag::Sink& sink,
                    std::vector<Module*>& order);

}  // namespace flexc::sema
