// The commands of a session. Those that a subcommand of flexc has as well call that one, with the session's settings as its options.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <utility>

#include "ir/gradient.h"
#include "ir/source_text.h"
#include "tools/io/atomic_file.h"
#include "tools/repl/scan.h"
#include "tools/repl/session.h"
#include "tools/repl/subject.h"
#include "tools/report.h"
#include "tools/report_words.h"
#include "tools/usage.h"

namespace flexc::repl {
namespace {

constexpr double kSeconds = 1.0;  // that :time takes

void complain(const std::string& text) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", text.c_str());
}

void say(const std::string& text) {
    (void)tools::print_out(text);
}

bool no_more(const std::vector<std::string>& words, const char* command) {
    if (words.empty()) return true;
    complain(fmt::format("`:{}` does not know what `{}` is; `:help {}` shows what it takes", command, words.front(), command));
    return false;
}

/// In the child: flexc itself, on the session's text.
int run_tool(const State& state, const Entry& entry, std::vector<std::string> command, const std::vector<std::string>& more) {
    std::string why;
    const auto wrapped = wrap(entry, &why);
    if (!wrapped) {
        complain(why);
        return tools::kInputWrong;
    }
    tools::translate_diagnostics(with_commands);  // of this process alone
    State::Source source = state.source();
    tools::hold_text(kSessionFile, source.text + wrapped->extra, source.parts, default_shape());
    CLI::App app("", "flexc");
    app.require_subcommand(1);
    const std::vector<tools::Command> all = {tools::add_run(app), tools::add_show(app), tools::add_explain(app), tools::add_build(app),
                                             tools::add_bench(app)};
    const std::string name = command.front();
    std::vector<std::string> arguments = state.arguments(wrapped->attention);
    // `build` compiles and takes no values but those of constants.
    if (name == "build") {
        arguments = {kSessionFile, "--name", wrapped->attention.name};
        for (const ParamText& param : wrapped->attention.params)
            if (const auto set = state.settings.sets.find(param.name); param.is_const && set != state.settings.sets.end())
                arguments.insert(arguments.end(), {"-D", set->first + "=" + set->second});
    }
    // What the user gives for this once goes before the session's.
    for (size_t i = 0; i + 1 < arguments.size();) {
        const std::string& flag = arguments[i];
        const bool own = flag.starts_with("--") && flag != "--set" && std::find(more.begin(), more.end(), flag) != more.end();
        if (own)
            arguments.erase(arguments.begin() + static_cast<long>(i), arguments.begin() + static_cast<long>(i) + 2);
        else
            ++i;
    }
    command.insert(command.begin() + 1, arguments.begin(), arguments.end());
    command.insert(command.end(), more.begin(), more.end());
    std::reverse(command.begin(), command.end());  // as CLI11 takes them
    try {
        app.parse(command);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) return app.exit(error);
        complain(tools::usage_fault(app, error) + "\n`:" + name + " --help` shows the options");
        return tools::kUsage;
    }
    for (const tools::Command& each : all)
        if (*each.app) return each.action();
    return tools::kUsage;
}

}  // namespace

const std::vector<CommandInfo>& commands() {
    using S = ReplSession;
    static const std::vector<CommandInfo> all = {
        {"shape", "[NAME=EXTENT ...]", "extents of pictures and launches; `default` for those of the beginning",
         "Without arguments it shows them. At the beginning B=1 H=8 Q=1024 D=64; K is Q, HKV is H and DV is D unless set.\n"
         "  :shape Q=64 H=2\n  :shape default Q=4096",
         &S::do_shape},
        {"set", "NAME=VALUE", "the value of a parameter: a number, numbers with commas, or an array file",
         "Without arguments it shows what is set. It holds for every declaration with a parameter of that name, `const` ones as well.\n"
         "  :set window=256\n  :set slope=0.5,0.25\n  :set doc=doc.npy",
         &S::do_set},
        {"unset", "NAME", "forgets the value of a parameter", "", &S::do_unset},
        {"in", "[FILE]", "arrays: q, k, v and one for each parameter, by name (.npz, .npy, .safetensors)",
         "Without an argument it shows the file; `:in none` forgets it. Extents then come from the arrays.", &S::do_in},
        {"seed", "N", "seed of random arrays", "", &S::do_seed},
        {"show", "[mask|score] [NAME] [OPTIONS]", "a picture of the mask or the score",
         "With options it is `flexc show`: `:show --heads 0,1`, `:show --png mask.png`, `:show --tiles 128x128`.", &S::do_show},
        {"diff", "[A [B]]", "what changed from A to B: elements, a picture, time; without B from the previous definition of A", "",
         &S::do_diff},
        {"time", "[NAME]", "the time beside plain causal attention of the same shape", "", &S::do_time},
        {"run", "[OUT] [NAME] [OPTIONS]", "runs it, with random q, k and v unless `:in` gives them; OUT is .npz or .safetensors",
         "It is `flexc run`: `:run o.npz --outputs o`, `:run --device interp`. Ctrl-C stops it.", &S::do_run},
        {"bench", "[NAME ...] [OPTIONS]", "`flexc bench`: speed, and its share of what the machine can do",
         "Several names stand side by side. `:bench a b --sweep Q=512,1024,2048 --plot speed.svg`", &S::do_bench},
        {"explain", "[NAME] [OPTIONS]", "`flexc explain`: what the compiler derives, on a page", "", &S::do_explain},
        {"grad", "[NAME]", "derivatives of the score clause; with `do` in the file of `:in` the gradients are computed as well", "",
         &S::do_grad},
        {"ir", "[NAME] [OPTIONS]", "the optimised intermediate form", "", &S::do_ir},
        {"asm", "[NAME] [OPTIONS]", "the code for this machine", "", &S::do_asm},
        {"ptx", "[NAME] [OPTIONS]", "the code for NVIDIA GPUs", "  :ptx --head-dim 64 --dtype f16 -o alibi.ptx", &S::do_ptx},
        {"load", "FILE", "enters the declarations of a .flex file, and the settings that `:save` wrote with them", "", &S::do_load},
        {"save", "[FILE]", "writes declarations and settings into a .flex file, by default the one last loaded or saved", "", &S::do_save},
        {"list", "[NAME]", "the declarations, `*` at the current attention; or the text of one", "", &S::do_list},
        {"use", "NAME", "the attention that commands without a name mean", "", &S::do_use},
        {"drop", "NAME", "removes a declaration", "", &S::do_drop},
        {"undo", "", "goes back to what was before the last change", "", &S::do_undo},
        {"reset", "", "begins a new session; `:undo` brings the old one back", "", &S::do_reset},
        {"help", "[COMMAND]", "this list, or more about one command", "", &S::do_help},
        {"quit", "", "ends the session, as Ctrl-D does", "", &S::do_quit},
    };
    return all;
}

const CommandInfo* find_command(const std::string& name, std::string* why) {
    const CommandInfo* found = nullptr;
    std::vector<std::string> names;
    std::string several;
    for (const CommandInfo& command : commands()) {
        if (name == command.name || (name == "exit" && std::string_view(command.name) == "quit")) return &command;
        names.emplace_back(command.name);
        if (name.empty() || !names.back().starts_with(name)) continue;
        several += (several.empty() ? "`:" : ", `:") + names.back() + "`";
        found = found ? found : &command;
    }
    if (found && several.find(',') == std::string::npos) return found;
    if (found) {
        *why = "`:" + name + "` may be " + several;
        return nullptr;
    }
    const std::string near = diag::nearest(name, names);
    *why = "there is no command `:" + name + "`" + (near.empty() ? "; `:help` lists them" : "; did you mean `:" + near + "`?");
    return nullptr;
}

int ReplSession::tool(const std::vector<std::string>& command, const std::vector<std::string>& given) {
    std::vector<std::string> words = given;
    const Entry* entry = target(&words);
    if (!entry) return tools::kInputWrong;
    return finish(run_apart([&](int) { return run_tool(state_, *entry, command, words); }));
}

namespace {

/// `Q = 8, H = 2` as the words `Q=8` and `H=2`.
std::vector<std::string> shape_words(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        const bool blank = text[i] == ' ' || text[i] == '\t';
        const size_t next = blank ? text.find_first_not_of(" \t", i) : i;
        const bool beside = blank && ((next != std::string_view::npos && text[next] == '=') || (!out.empty() && out.back() == '='));
        const bool comma = text[i] == ',' && (i + 1 == text.size() || text[i + 1] == ' ');
        if (!beside) out += comma ? ' ' : text[i];
    }
    return split_words(out);
}

}  // namespace

int ReplSession::do_shape(const std::vector<std::string>& words, const std::string& rest) {
    if (!words.empty()) {
        const State before = state_;
        if (!set_shape(shape_words(rest))) return tools::kInputWrong;
        undo_.push_back(before);
    }
    std::map<std::string, int64_t> all = state_.settings.in.empty() ? default_shape() : std::map<std::string, int64_t>();
    for (const auto& [name, value] : state_.settings.shape) all[name] = value;
    std::string text;
    for (const auto& [name, value] : all) text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, value);
    if (!state_.settings.in.empty()) text += fmt::format("{}the rest from {}", text.empty() ? "" : ", ", state_.settings.in.string());
    say(text + "\n");
    return tools::kOk;
}

int ReplSession::do_set(const std::vector<std::string>& words, const std::string& rest) {
    if (words.empty()) {
        for (const auto& [name, value] : state_.settings.sets) say(name + " = " + value + "\n");
        return tools::kOk;
    }
    const State before = state_;
    // `:set a=1 b=2` as well as `:set a = 1`.
    const bool each = std::all_of(words.begin(), words.end(), [](const std::string& word) {
        return word.find('=') != std::string::npos && !word.starts_with('=') && !word.ends_with('=');
    });
    for (const std::string& assignment : each ? words : std::vector<std::string>{rest}) {
        if (set_value(assignment)) continue;
        state_ = before;
        return tools::kInputWrong;
    }
    undo_.push_back(before);
    return tools::kOk;
}

int ReplSession::do_unset(const std::vector<std::string>& words, const std::string&) {
    if (words.empty()) {
        complain("`:unset NAME`");
        return tools::kUsage;
    }
    const State before = state_;
    for (const std::string& name : words) {
        if (state_.settings.sets.erase(name) > 0) continue;
        complain("`" + name + "` is not set");
        state_ = before;
        return tools::kInputWrong;
    }
    undo_.push_back(before);
    return tools::kOk;
}

int ReplSession::do_in(const std::vector<std::string>& words, const std::string& rest) {
    if (words.empty()) {
        say(state_.settings.in.empty() ? "none\n" : state_.settings.in.string() + "\n");
        return tools::kOk;
    }
    const State before = state_;
    if (rest == "none") {
        state_.settings.in.clear();
    } else if (!set_in(words.size() == 1 ? words[0] : rest)) {
        return tools::kInputWrong;
    }
    undo_.push_back(before);
    return tools::kOk;
}

int ReplSession::do_seed(const std::vector<std::string>& words, const std::string&) {
    if (words.empty()) {
        say(std::to_string(state_.settings.seed) + "\n");
        return tools::kOk;
    }
    if (words[0].empty() || words[0].find_first_not_of("0123456789") != std::string::npos || words[0].size() > 18) {
        complain("expected a number, found `" + words[0] + "`");
        return tools::kInputWrong;
    }
    remember();
    state_.settings.seed = std::stoull(words[0]);
    return tools::kOk;
}

int ReplSession::do_load(const std::vector<std::string>& words, const std::string& rest) {
    if (words.empty()) {
        complain("`:load FILE`");
        return tools::kUsage;
    }
    return load(words.size() == 1 ? words[0] : rest);
}

int ReplSession::load(const std::string& file) {
    // By itself first, so that its faults are told of as its own.
    Session session;
    if (!session.open(file)) {
        std::fflush(stdout);
        std::fputs(diagnostics_text(session).c_str(), stderr);
        return tools::kInputWrong;
    }
    std::string text(session.sources.file(0).text());
    const std::vector<std::string> saved = saved_commands(text);
    // They are settings now and belong to no declaration.
    for (size_t i = 0, at = 0; i < saved.size(); ++i) {
        const size_t end = std::min(text.find('\n', at), text.size());
        text.erase(at, end - at);
        at += 1;
    }
    auto entries = read_entries(text, file, 1, std::filesystem::path(file).parent_path(), session.sources, session.sink);
    if (!entries) return tools::kInputWrong;
    std::vector<std::string> names;
    for (const Entry& entry : *entries) names.push_back(entry.name);
    const State before = state_;
    state_.merge(std::move(*entries));
    const bool good = apply_saved(saved);
    State now = std::move(state_);
    state_ = before;
    if (!good) return tools::kInputWrong;
    const int code = adopt(std::move(now), names);
    if (code == tools::kOk) file_ = file;
    return code;
}

int ReplSession::do_save(const std::vector<std::string>& words, const std::string& rest) {
    const std::string file = words.empty() ? file_ : words.size() == 1 ? words[0] : rest;
    if (file.empty()) {
        complain("`:save FILE`");
        return tools::kUsage;
    }
    const std::string text = state_.saved(std::filesystem::path(file).parent_path());
    if (const flex::Status status = io::write_file(file, std::as_bytes(std::span(text))); !status.ok()) {
        complain("cannot write `" + file + "`: " + status.text());
        return tools::kInputWrong;
    }
    file_ = file;
    say(fmt::format("wrote {}: {} declaration{}\n", file, state_.entries.size(), state_.entries.size() == 1 ? "" : "s"));
    return tools::kOk;
}

int ReplSession::do_list(const std::vector<std::string>& words, const std::string&) {
    if (!words.empty()) {
        const Entry* entry = named(words[0]);
        if (!entry) return tools::kInputWrong;
        say(entry->text + "\n");
        return tools::kOk;
    }
    for (const Entry& entry : state_.entries)
        say((entry.name == state_.current ? "* " : "  ") + (entry.imported.empty() ? entry.signature : entry.text) + "\n");
    for (const auto& [name, value] : state_.settings.sets) say("  :set " + name + "=" + value + "\n");
    return tools::kOk;
}

int ReplSession::do_use(const std::vector<std::string>& words, const std::string&) {
    if (words.size() != 1) {
        complain("`:use NAME`");
        return tools::kUsage;
    }
    const Entry* entry = named(words[0]);
    if (!entry) return tools::kInputWrong;
    if (entry->kind != ast::DeclKind::Attention) {
        complain("`" + entry->name + "` is not an attention");
        return tools::kInputWrong;
    }
    remember();
    state_.current = entry->name;
    return tools::kOk;
}

int ReplSession::do_drop(const std::vector<std::string>& words, const std::string&) {
    if (words.empty()) {
        complain("`:drop NAME`");
        return tools::kUsage;
    }
    State now = state_;
    for (const std::string& name : words) {
        if (!named(name)) return tools::kInputWrong;
        now.drop(name);
    }
    const int code = finish(run_apart([&](int) {
        Session session;
        if (open_state(session, now)) return tools::kOk;
        std::fputs(diagnostics_text(session).c_str(), stderr);
        complain("nothing was dropped: what uses it must go with it");
        return tools::kInputWrong;
    }));
    if (code != tools::kOk) return code;
    remember();
    state_ = std::move(now);
    return tools::kOk;
}

int ReplSession::do_undo(const std::vector<std::string>& words, const std::string&) {
    if (!no_more(words, "undo")) return tools::kUsage;
    if (undo_.empty()) {
        complain("there is nothing to undo");
        return tools::kInputWrong;
    }
    State now = std::move(undo_.back());
    undo_.pop_back();
    for (const Entry& entry : state_.entries) {
        const Entry* old = now.find(entry.name);
        if (!old) say("gone again: " + entry.signature + "\n");
        if (old && old->text != entry.text) say("as before: " + old->signature + "\n");
    }
    for (const Entry& entry : now.entries)
        if (!state_.find(entry.name)) say("here again: " + entry.signature + "\n");
    state_ = std::move(now);
    return tools::kOk;
}

int ReplSession::do_reset(const std::vector<std::string>& words, const std::string&) {
    if (!no_more(words, "reset")) return tools::kUsage;
    remember();
    state_ = State::fresh();
    previous_.clear();
    said_.clear();
    file_.clear();
    return tools::kOk;
}

int ReplSession::do_show(const std::vector<std::string>& given, const std::string&) {
    std::vector<std::string> words = given;
    std::string what;
    if (!words.empty() && (words[0] == "mask" || words[0] == "score") && !state_.find(words[0])) {
        what = words[0];
        words.erase(words.begin());
    }
    const Entry* entry = target(&words);
    if (!entry) return tools::kInputWrong;
    if (!words.empty()) {
        if (!what.empty()) words.insert(words.begin(), {"--what", what});
        return finish(run_apart([&](int) { return run_tool(state_, *entry, {"show"}, words); }));
    }
    return finish(run_apart([&](int) {
        const auto subject = open_subject(state_, *entry, what);
        if (!subject) return tools::kInputWrong;
        if (!subject->drawn()) {
            complain(subject->missing);
            return tools::kInputWrong;
        }
        say(picture_text(*subject, 0, 0, 2 * lines_));
        return tools::kOk;
    }));
}

int ReplSession::do_diff(const std::vector<std::string>& given, const std::string&) {
    std::vector<std::string> words = given;
    const Entry* first = target(&words);
    if (!first) return tools::kInputWrong;
    Named before{&state_, first}, now{&state_, first};
    if (!words.empty()) {
        now.entry = named(words.front());
        if (!now.entry) return tools::kInputWrong;
    } else {
        const auto old = previous_.find(first->name);
        if (old == previous_.end()) {
            complain("`" + first->name + "` has one definition so far; `:diff A B` compares two attentions");
            return tools::kInputWrong;
        }
        before = {&old->second, old->second.find(first->name)};
    }
    // Under the same settings: what differs is the definition.
    State old_state = *before.state;
    old_state.settings = state_.settings;
    return finish(run_apart([&](int) {
        const auto was = open_subject(old_state, *before.entry, "both"), is = open_subject(state_, *now.entry, "both");
        if (!was || !is) return tools::kInputWrong;
        for (const Subject* each : {was.get(), is.get()}) {
            if (each->drawn()) continue;
            complain(each->missing);
            return tools::kInputWrong;
        }
        const Change change = change_between(*was, *is, lines_);
        std::string text = fmt::format("- {}\n+ {}\n", was->entry.signature, is->entry.signature);
        text += change.text.empty() ? fmt::format("  {:<6} none that shows at this shape\n", "change") : change.text + change.picture;
        say(text);
        if (times_ != Times::None) say(time_text(now, {&old_state, before.entry}, kSeconds / 4));
        return tools::kOk;
    }));
}

int ReplSession::do_time(const std::vector<std::string>& given, const std::string&) {
    std::vector<std::string> words = given;
    const Entry* entry = target(&words);
    if (!entry) return tools::kInputWrong;
    if (!no_more(words, "time")) return tools::kUsage;
    return finish(run_apart([&](int) {
        const std::string text = time_text({&state_, entry}, {}, kSeconds);
        say(entry->name + "\n" + text);
        return text.find(" none: ") == std::string::npos ? tools::kOk : tools::kInputWrong;
    }));
}

int ReplSession::do_grad(const std::vector<std::string>& given, const std::string&) {
    std::vector<std::string> words = given;
    const Entry* entry = target(&words);
    if (!entry) return tools::kInputWrong;
    return finish(run_apart([&](int) -> int {
        const auto subject = open_subject(state_, *entry, "");
        if (!subject) return tools::kInputWrong;
        if (!subject->drawing.whole) {
            complain(subject->missing);
            return tools::kInputWrong;
        }
        ir::Attention attention = *subject->drawing.whole;
        Session session;
        if (!session.differentiate(&attention)) {
            std::fputs(diagnostics_text(session).c_str(), stderr);
            return tools::kInputWrong;
        }
        std::string text = fmt::format("score: {}\n", ir::source_text(attention, attention.score));
        text += fmt::format("  d score / d (raw score) = {}\n", ir::source_text(attention, attention.gradient->score));
        for (const auto& [clause, reads] : {std::pair{"score", &attention.gradient->score_reads},
                                            {"scale", &attention.gradient->scale_reads},
                                            {"sink", &attention.gradient->sink_reads}})
            for (const ir::GradientRead& read : *reads)
                text += fmt::format("  d {} / d {} = {}{}\n", clause, ir::source_text(attention, read.load),
                                    ir::source_text(attention, read.adjoint), read.loops.empty() ? "" : ", in a loop");
        const auto lists = std::as_const(*attention.gradient).reads();
        if (std::all_of(lists.begin(), lists.end(), [](const auto* reads) { return reads->empty(); }))
            text += "  no parameter is declared `grad`: `slope: grad f32[H]` asks for its gradient\n";
        say(text);
        const tools::InputOptions options = state_.input(*entry);
        tools::Inputs inputs(session, options);
        if (entry->kind != ast::DeclKind::Attention || options.in.empty() || !inputs.load() || !inputs.asks_for_gradients())
            return tools::kOk;
        say("\n");
        return run_tool(state_, *entry, {"run"}, {});
    }));
}

int ReplSession::do_run(const std::vector<std::string>& given, const std::string&) {
    std::vector<std::string> words = given, options;
    // A name of a file that can hold arrays is where the outputs go.
    for (auto word = words.begin(); word != words.end(); ++word) {
        if (word->starts_with("-")) break;
        if (!word->ends_with(".npz") && !word->ends_with(".safetensors") && !word->ends_with(".npy")) continue;
        options = {"--out", *word};
        words.erase(word);
        break;
    }
    std::vector<std::string> rest = words;
    const Entry* entry = target(&rest);
    if (!entry) return tools::kInputWrong;
    rest.insert(rest.begin(), options.begin(), options.end());
    return finish(run_apart([&](int) { return run_tool(state_, *entry, {"run"}, rest); }));
}

int ReplSession::do_bench(const std::vector<std::string>& words, const std::string&) {
    std::vector<const Entry*> several;
    size_t used = 0;
    for (; used < words.size() && !words[used].starts_with("-"); ++used) {
        const Entry* entry = named(words[used]);
        if (!entry) return tools::kInputWrong;
        several.push_back(entry);
    }
    if (several.size() < 2) return tool({"bench"}, words);
    // Side by side: attentions of one text, each with the values that the session has for its parameters.
    std::string names;
    std::vector<std::string> options(words.begin() + static_cast<long>(used), words.end());
    std::map<std::string, std::string> sets;
    for (const Entry* entry : several) {
        if (entry->kind != ast::DeclKind::Attention) {
            complain("`" + entry->name + "` is no attention: only attentions stand side by side");
            return tools::kInputWrong;
        }
        names += (names.empty() ? "" : ",") + entry->name;
        for (const tools::Assignment& set : state_.input(*entry).sets) sets.emplace(set.name, set.value);
    }
    for (const tools::Assignment& set : state_.input(*several.front()).sets) sets.erase(set.name);
    for (const auto& [name, value] : sets) options.insert(options.end(), {"--set", name + "=" + value});
    options.insert(options.end(), {"--name", names});
    return finish(run_apart([&](int) { return run_tool(state_, *several.front(), {"bench"}, options); }));
}

int ReplSession::do_explain(const std::vector<std::string>& words, const std::string&) {
    // A code of a diagnostic is explained by itself.
    if (!words.empty() && words[0].size() == 5 && (words[0][0] == 'E' || words[0][0] == 'W') && !state_.find(words[0])) {
        return finish(run_apart([&](int) {
            CLI::App app("", "flexc");
            const tools::Command explain = tools::add_explain(app);
            app.parse(std::vector<std::string>{words[0], "explain"});
            return explain.action();
        }));
    }
    return tool({"explain"}, words);
}

int ReplSession::do_ir(const std::vector<std::string>& words, const std::string&) {
    return tool({"build", "--emit=ir"}, words);
}

int ReplSession::do_asm(const std::vector<std::string>& words, const std::string&) {
    return tool({"build", "--emit=asm"}, words);
}

int ReplSession::do_ptx(const std::vector<std::string>& words, const std::string&) {
    return tool({"build", "--emit=ptx"}, words);
}

int ReplSession::do_help(const std::vector<std::string>& words, const std::string&) {
    if (!words.empty()) {
        std::string why;
        const std::string name = words[0].starts_with(":") ? words[0].substr(1) : words[0];
        if (const std::string what = describe_name(state_, name); !what.empty() && !words[0].starts_with(":")) {
            bool command = false;
            for (const CommandInfo& each : commands()) command = command || name == each.name;
            if (!command) {
                say(what);
                return tools::kOk;
            }
        }
        const CommandInfo* command = find_command(name, &why);
        if (!command) {
            complain(why);
            return tools::kInputWrong;
        }
        say(fmt::format(":{}{}{}\n{}\n{}{}", command->name, *command->arguments ? " " : "", command->arguments, command->what,
                        command->more, *command->more ? "\n" : ""));
        return tools::kOk;
    }
    std::string text =
        "Type a declaration to see what it means, and again to change it; an expression to see its value; a name to see what it is.\n"
        "Enter ends an input whose brackets are closed; Alt-Enter begins a new line; Tab completes; Ctrl-C clears, or stops what runs.\n\n";
    for (const CommandInfo& command : commands()) {
        const std::string head = fmt::format(":{} {}", command.name, command.arguments);
        text += head.size() > 24 ? fmt::format("  {}\n  {:<24} {}\n", head, "", command.what)
                                 : fmt::format("  {:<24} {}\n", head, command.what);
    }
    say(text + "\nA command may be shortened as long as it is the only one that begins so.\n");
    return tools::kOk;
}

int ReplSession::do_quit(const std::vector<std::string>& words, const std::string&) {
    if (!no_more(words, "quit")) return tools::kUsage;
    done_ = true;
    return tools::kOk;
}

}  // namespace flexc::repl
