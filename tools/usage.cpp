#include "tools/usage.h"

#include <algorithm>
#include <vector>

#include "diag/diagnostic.h"

namespace flexc::tools {
namespace {

std::vector<std::string> option_names(const CLI::App& app) {
    std::vector<std::string> out;
    for (const CLI::Option* option : app.get_options()) {
        for (const std::string& name : option->get_lnames()) out.push_back("--" + name);
        for (const std::string& name : option->get_snames()) out.push_back("-" + name);
    }
    return out;
}

/// Of an argument that begins with `-` and is no option.
std::string unknown_option(const CLI::App& app, const std::string& argument) {
    const std::string given = argument.substr(0, argument.find('='));
    const std::string bare = given.substr(std::min(given.find_first_not_of('-'), given.size()));
    const std::vector<std::string> names = option_names(app);
    std::string near;
    if (std::find(names.begin(), names.end(), "--" + bare) != names.end())
        near = "--" + bare;  // with one hyphen
    else
        near = bare == "output" && std::find(names.begin(), names.end(), "--out") != names.end() ? "--out" : diag::nearest("--" + bare, names);
    for (const std::string& name : names)
        if (near.empty() && name.size() > 4 && (("--" + bare).starts_with(name) || name.starts_with("--" + bare))) near = name;
    return "there is no option `" + given + "`" + (near.empty() ? "" : "; did you mean `" + near + "`?");
}

std::string unexpected(const CLI::App& app, const std::vector<std::string>& rest) {
    for (const std::string& argument : rest)
        if (argument.size() > 1 && argument[0] == '-') return unknown_option(app, argument);
    std::string text = "`" + rest.front() + "` is one argument too many";
    const auto names = option_names(app);
    const bool has_shape = std::find(names.begin(), names.end(), "--shape") != names.end();
    const size_t equals = rest.front().find('=');
    if (has_shape && equals != std::string::npos && equals > 0)
        text += "; extents are joined by commas: `--shape B=1,H=8,Q=128`, and a parameter is set by `--set " + rest.front() + "`";
    return text;
}

}  // namespace

std::string usage_fault(const CLI::App& app, const CLI::ParseError& error) {
    const CLI::App* inner = &app;
    while (!inner->get_subcommands().empty()) inner = inner->get_subcommands().front();
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError)) {
        // CLI11 gives back the arguments that nobody took last first.
        std::vector<std::string> rest = inner->remaining();
        if (rest.empty()) rest = app.remaining(true);
        if (!rest.empty()) return unexpected(*inner, rest);
    }
    return error.what();
}

}  // namespace flexc::tools
