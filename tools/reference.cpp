#include "tools/reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "tools/cli.h"
#include "tools/report.h"

namespace flexc::tools {

namespace {

/// An option as the three shells and the page want it.
struct OptionFacts {
    std::vector<std::string> names;  // "-D", "--set"; empty: positional
    std::string positional;
    std::string value;                 // "NAME=VALUE"; empty: a flag
    std::vector<std::string> choices;  // of the value; empty: free
    bool is_file = false, required = false, repeats = false;
    std::string description;
};

/// "TEXT:{f32,f16,bf16}" -> f32, f16, bf16.
std::vector<std::string> choices_in(const std::string& type) {
    std::vector<std::string> out;
    const size_t open = type.find('{'), close = type.find('}', open);
    if (open == std::string::npos || close == std::string::npos) return out;
    for (size_t at = open + 1; at < close;) {
        const size_t end = std::min(type.find(',', at), close);
        out.push_back(type.substr(at, end - at));
        at = end + 1;
    }
    return out;
}

std::vector<OptionFacts> options_of(const CLI::App& app) {
    std::vector<OptionFacts> out;
    for (const CLI::Option* option : app.get_options()) {
        OptionFacts facts;
        for (const std::string& name : option->get_snames()) facts.names.push_back("-" + name);
        for (const std::string& name : option->get_lnames()) facts.names.push_back("--" + name);
        if (facts.names.empty()) facts.positional = option->get_name(true);
        facts.description = option->get_description();
        facts.required = option->get_required();
        facts.repeats = option->get_expected_max() > 1;
        const std::string type = option->get_type_size() == 0 ? std::string() : option->get_type_name();
        facts.choices = choices_in(type);
        if (!type.empty()) facts.value = type.substr(0, type.find(':'));
        facts.is_file = facts.choices.empty() && (facts.value.find("FILE") != std::string::npos || facts.positional.find("FILE") == 0);
        if (!facts.choices.empty()) facts.value = fmt::format("{}", fmt::join(facts.choices, "|"));
        out.push_back(std::move(facts));
    }
    return out;
}

std::vector<const CLI::App*> commands_of(const CLI::App& root) {
    return root.get_subcommands([](const CLI::App* app) { return !app->get_name().empty() && !app->get_group().empty(); });
}

/// Text of a page: nothing in it is a request, and hyphens can be searched for and copied.
std::string roff(std::string_view text) {
    std::string out;
    bool line_starts = true;
    for (const char c : text) {
        if (line_starts && (c == '.' || c == '\'')) out += "\\&";
        line_starts = c == '\n';
        if (c == '\\')
            out += "\\e";
        else if (c == '-')
            out += "\\-";
        else
            out += c;
    }
    return out;
}

/// The footer's lines in which commands stand are kept as they are.
std::string roff_footer(const std::string& footer) {
    std::string out;
    bool verbatim = false;
    for (size_t at = 0; at < footer.size();) {
        const size_t end = std::min(footer.find('\n', at), footer.size());
        const std::string line = footer.substr(at, end - at);
        const bool is_command = line.rfind("  ", 0) == 0;
        if (is_command != verbatim) out += is_command ? ".PP\n.nf\n" : ".fi\n.PP\n";
        verbatim = is_command;
        if (!line.empty()) out += roff(line) + '\n';
        at = end + 1;
    }
    return out + (verbatim ? ".fi\n" : "");
}

std::string synopsis(const std::string& command, const CLI::App& app) {
    std::string out = fmt::format(".B {}\n[\\fIoptions\\fR]", roff(command));
    for (const OptionFacts& option : options_of(app))
        if (option.names.empty())
            out += fmt::format(" {}\\fI{}\\fR{}{}", option.required ? "" : "[", roff(option.positional), option.required ? "" : "]",
                               option.repeats ? " ..." : "");
    return out + "\n";
}

std::string roff_options(const CLI::App& app) {
    std::string out;
    for (const OptionFacts& option : options_of(app)) {
        std::string names;
        for (const std::string& name : option.names) names += fmt::format("{}\\fB{}\\fR", names.empty() ? "" : ", ", roff(name));
        if (option.names.empty()) names = fmt::format("\\fI{}\\fR", roff(option.positional));
        if (!option.names.empty() && !option.value.empty()) names += fmt::format(" \\fI{}\\fR", roff(option.value));
        out += ".TP\n" + names + "\n" + roff(option.description) + "\n";
    }
    return out;
}

/// In single quotes for a shell.
std::string shell_quoted(std::string_view text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

std::string joined_names(const CLI::App& app) {
    std::string out;
    for (const OptionFacts& option : options_of(app))
        for (const std::string& name : option.names) out += (out.empty() ? "" : " ") + name;
    return out;
}

/// In a specification of zsh's _arguments.
std::string zsh_text(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
        out += c;
    }
    return out;
}

std::string zsh_arguments(const CLI::App& app) {
    std::string out;
    for (const OptionFacts& option : options_of(app)) {
        std::string action;
        if (!option.value.empty() || option.names.empty()) {
            const std::string what = option.names.empty() ? option.positional : option.value;
            action = ":" + zsh_text(what) + ":";
            if (!option.choices.empty())
                action += fmt::format("({})", fmt::join(option.choices, " "));
            else if (option.names.empty() && option.is_file)
                action += "_files -g \"*.flex\"";
            else if (option.is_file)
                action += "_files";
        }
        if (option.names.empty()) out += fmt::format(" \\\n            {}", shell_quoted((option.repeats ? "*" : "") + action));
        for (const std::string& name : option.names)
            out +=
                fmt::format(" \\\n            {}",
                            shell_quoted(fmt::format("{}{}[{}]{}", option.repeats ? "*" : "", name, zsh_text(option.description), action)));
    }
    return out;
}

std::string fish_options(const std::string& condition, const CLI::App& app) {
    std::string out;
    for (const OptionFacts& option : options_of(app)) {
        if (option.names.empty()) {
            if (option.is_file) out += fmt::format("complete -c flexc {} -F\n", condition);
            continue;
        }
        std::string line = fmt::format("complete -c flexc {}", condition);
        for (const std::string& name : option.names) line += name.rfind("--", 0) == 0 ? " -l " + name.substr(2) : " -s " + name.substr(1);
        if (!option.value.empty()) line += option.is_file ? " -r -F" : " -x";
        if (!option.choices.empty()) line += fmt::format(" -a '{}'", fmt::join(option.choices, " "));
        out += line + " -d " + shell_quoted(option.description) + "\n";
    }
    return out;
}

}  // namespace

std::string man_page(const CLI::App& root) {
    std::string out =
        ".TH FLEXC 1\n.SH NAME\nflexc \\- a compiler for attention variants\n.SH SYNOPSIS\n.B flexc\n\\fIcommand\\fR [\\fIoptions\\fR] "
        "...\n"
        ".SH DESCRIPTION\n" +
        roff(root.get_description()) + "\n";
    for (const CLI::App* app : commands_of(root)) {
        out += fmt::format(".SH \"COMMAND {}\"\n", app->get_name()) + synopsis("flexc " + app->get_name(), *app) + ".PP\n" +
               roff(app->get_description()) + ".\n" + roff_options(*app);
        if (!app->get_footer().empty()) out += ".PP\n" + roff_footer(app->get_footer());
    }
    out +=
        ".SH EXIT STATUS\n.TP\n.B 0\nIt was done.\n.TP\n.B 1\nThe input is wrong: a source, an array, a value.\n.TP\n.B 2\nThe command "
        "line is "
        "wrong.\n.TP\n.B 3\nThis machine cannot: no such device, no memory.\n.TP\n.B 70\nA fault in flexc.\n.TP\n.B 130\nInterrupted.\n"
        ".SH ENVIRONMENT\n.TP\n.B FLEXC_CACHE_DIR\nFolder of compiled kernels; else $XDG_CACHE_HOME/flexc, else ~/.cache/flexc.\n.TP\n"
        ".B FLEX_CUDA_DRIVER\nThe CUDA driver library, in place of libcuda.so.1.\n.TP\n.B NO_COLOR\nIf set, no colours.\n"
        ".SH SEE ALSO\nThe pages in the folder of documentation that is installed with flexc.\n";
    return out;
}

std::string bash_completion(const CLI::App& root) {
    std::string commands, cases;
    for (const CLI::App* app : commands_of(root)) {
        commands += (commands.empty() ? "" : " ") + app->get_name();
        std::string values;
        for (const OptionFacts& option : options_of(*app)) {
            if (option.names.empty() || option.value.empty()) continue;
            const std::string action = !option.choices.empty() ? fmt::format("mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")",
                                                                             fmt::join(option.choices, " "))
                                       : option.is_file        ? std::string("mapfile -t COMPREPLY < <(compgen -f -- \"$word\")")
                                                               : std::string("COMPREPLY=()");
            values += fmt::format("                {}) {}; return ;;\n", fmt::join(option.names, "|"), action);
        }
        std::string positional = "mapfile -t COMPREPLY < <(compgen -f -X '!*.flex' -- \"$word\"; compgen -d -- \"$word\")";
        for (const OptionFacts& option : options_of(*app))
            if (option.names.empty() && !option.choices.empty())
                positional = fmt::format("mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")", fmt::join(option.choices, " "));
        cases += fmt::format(
            "        {})\n            case \"$before\" in\n{}                *) ;;\n            esac\n"
            "            if [[ $word == -* ]]; then\n                mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")\n"
            "            else\n                {}\n            fi ;;\n",
            app->get_name(), values, joined_names(*app), positional);
    }
    return fmt::format(
        "# bash completion of flexc; made by `flexc completion bash`\n_flexc() {{\n"
        "    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}\n    compopt -o filenames 2>/dev/null\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '{} {}' -- \"$word\"))\n        return\n    fi\n"
        "    case \"${{COMP_WORDS[1]}}\" in\n{}    esac\n}}\ncomplete -F _flexc flexc\n",
        commands, joined_names(root), cases);
}

std::string zsh_completion(const CLI::App& root) {
    std::string commands, cases;
    for (const CLI::App* app : commands_of(root)) {
        commands += "        " + shell_quoted(app->get_name() + ":" + app->get_description()) + "\n";
        cases += fmt::format("        {})\n        _arguments -s{} ;;\n", app->get_name(), zsh_arguments(*app));
    }
    return fmt::format(
        "#compdef flexc\n# zsh completion of flexc; made by `flexc completion zsh`\n_flexc() {{\n    local -a commands=(\n{}    )\n"
        "    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n    local command=$words[2]\n    "
        "shift words\n"
        "    (( CURRENT-- ))\n    case $command in\n{}    esac\n}}\nif [[ $funcstack[1] == _flexc ]]; then _flexc \"$@\"; else compdef "
        "_flexc flexc; fi\n",
        commands, cases);
}

std::string fish_completion(const CLI::App& root) {
    std::string out = "# fish completion of flexc; made by `flexc completion fish`\ncomplete -c flexc -f\n" +
                      fish_options("-n __fish_use_subcommand", root);
    for (const CLI::App* app : commands_of(root))
        out +=
            fmt::format("complete -c flexc -n __fish_use_subcommand -a {} -d {}\n", app->get_name(), shell_quoted(app->get_description())) +
            fish_options(fmt::format("-n '__fish_seen_subcommand_from {}'", app->get_name()), *app);
    return out;
}

Command add_completion(CLI::App& root) {
    auto shell = std::make_shared<std::string>();
    CLI::App* app = root.add_subcommand("completion", "Prints the completions for a shell, or the man page");
    app->add_option("SHELL", *shell, "bash, zsh or fish; man: the page flexc.1")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish", "man"}));
    app->footer(
        "Examples:\n"
        "  flexc completion bash > ~/.local/share/bash-completion/completions/flexc\n"
        "  flexc completion man | man -l -\n"
        "An installed flexc has brought them along.");
    return {app, [shell, &root] {
                const std::string text = *shell == "bash"  ? bash_completion(root)
                                         : *shell == "zsh" ? zsh_completion(root)
                                         : *shell == "man" ? man_page(root)
                                                           : fish_completion(root);
                return print_out(text) ? int(kOk) : int(kInputWrong);
            }};
}

}  // namespace flexc::tools
