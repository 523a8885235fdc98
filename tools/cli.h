// What the subcommands share: exit codes, their registration with the command line parser, and the options that several take.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/launch.h"

namespace flexc::tools {

/// What the exit code says; scripts rely on it.
enum Exit : int { kOk = 0, kInputWrong = 1, kUsage = 2, kMachineCannot = 3, kBug = 70, kInterrupted = 130 };

/// A registered subcommand: its parser, and what it does once the arguments are parsed.
struct Command {
    CLI::App* app = nullptr;
    std::function<int()> action;
};

Command add_check(CLI::App& root);
Command add_run(CLI::App& root);
Command add_show(CLI::App& root);
Command add_explain(CLI::App& root);
Command add_build(CLI::App& root);
Command add_bench(CLI::App& root);
Command add_fmt(CLI::App& root);
Command add_lsp(CLI::App& root);
Command add_completion(CLI::App& root);
Command add_repl(CLI::App& root);
Command add_watch(CLI::App& root);

/// NAME=VALUE pairs, checked for their form while parsing.
struct Assignment {
    std::string name, value;
};

/// Which attention, and the values of its parameters.
struct InputOptions {
    std::filesystem::path file;
    std::string name;
    std::filesystem::path in;                      // arrays, or empty
    std::vector<Assignment> sets;                  // --set
    std::vector<Assignment> defines;               // -D
    std::map<std::string, int64_t> shape;          // --shape
    std::map<std::string, int64_t> default_shape;  // of extents that nothing else gives
    uint64_t seed = 0;
    bool json = false;
    bool random_params = false;  // float tensors that are not given are random, whatever else is given or wanted
};

/// FILE, --name and -D; then, for commands that need values, --in, --set, --shape and --seed.
void add_file_options(CLI::App& app, InputOptions& options);
/// The same for several files and names; `options.file` and `.name` stay empty.
void add_files_options(CLI::App& app, std::vector<std::filesystem::path>& files, std::vector<std::string>& names, InputOptions& options);
void add_value_options(CLI::App& app, InputOptions& options);
/// --level, as the CPU target's vector level; empty: the highest that this machine executes.
void add_level_option(CLI::App& app, std::optional<flex::CpuLevel>& level);
/// --dtype f32|f16|bf16
void add_dtype_option(CLI::App& app, std::optional<flex::DType>& dtype);

/// "NxM"; a usage error otherwise.
struct TileSize {
    int64_t q = 0, k = 0;
};
[[nodiscard]] std::optional<TileSize> parse_tile(const std::string& text);
/// "q0:q1,k0:k1", either end open: "128:,:64".
struct ElementRange {
    std::optional<int64_t> q_begin, q_end, k_begin, k_end;
};
[[nodiscard]] std::optional<ElementRange> parse_range(const std::string& text);
/// "B=1,H=8"; extents are 0 to INT32_MAX.
[[nodiscard]] std::optional<std::map<std::string, int64_t>> parse_shape(const std::string& text);
[[nodiscard]] std::optional<Assignment> parse_assignment(const std::string& text);

}  // namespace flexc::tools
