#include "tools/repl/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "tools/repl/scan.h"
#include "tools/repl/subject.h"
#include "tools/report.h"

namespace flexc::repl {
namespace {

constexpr size_t kMostUndo = 100;
constexpr double kQuickSeconds = 0.15;

void complain(const std::string& text) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace

Context ReplSession::context() const {
    Context out;
    out.said = said_;
    out.lines = lines_;
    return out;
}

namespace {

/// `help`, `?`, `quit` and `exit()` as they are typed elsewhere: the command that is meant, or the text itself.
std::string meant(const std::string& text) {
    std::string_view word = trim(text);
    if (word.ends_with("()")) word.remove_suffix(2);
    if (word == "?" || word == "help") return ":help";
    if (word == "quit" || word == "exit") return ":quit";
    return text;
}

}  // namespace

int ReplSession::input(const std::string& typed, const std::string& origin, uint32_t line) {
    background.cancel();  // a new input wants the machine
    const std::string text = meant(typed);
    if (is_blank(text)) return tools::kOk;
    if (!is_command(text)) {
        if (is_declaration(text)) return declare(text, origin, line);
        return finish(run_apart([&](int notes) {
            Context here = context();
            here.notes = notes;
            return answer_expression(state_, text, origin, line, here);
        }));
    }
    const std::string_view body = trim(text).substr(1);
    const size_t end = std::min(body.find_first_of(" \t\r\n"), body.size());
    const std::string name(body.substr(0, end));
    const std::string rest(trim(body.substr(end)));
    std::string why;
    const CommandInfo* command = find_command(name, &why);
    if (!command) {
        complain(why);
        return tools::kUsage;
    }
    return (this->*command->action)(split_words(rest), rest);
}

int ReplSession::declare(const std::string& text, const std::string& origin, uint32_t line) {
    Session session;
    auto entries = read_entries(text, origin, line, {}, session.sources, session.sink);
    if (!entries) {
        std::fflush(stdout);
        std::fputs(diagnostics_text(session).c_str(), stderr);
        return tools::kInputWrong;
    }
    std::vector<std::string> names;
    for (const Entry& entry : *entries) names.push_back(entry.name);
    State now = state_;
    now.merge(std::move(*entries));
    return adopt(std::move(now), names);
}

int ReplSession::adopt(State now, const std::vector<std::string>& names) {
    const Outcome outcome = run_apart([&](int notes) {
        Context here = context();
        here.notes = notes;
        return answer_declarations(state_, now, names, here);
    });
    const int code = finish(outcome);
    if (code != tools::kOk) return code;
    if (outcome.notes.find("nostd\n") != std::string::npos) std::erase_if(now.entries, [](const Entry& entry) { return entry.implicit; });
    remember();
    for (const std::string& name : names)
        if (state_.find(name)) previous_[name] = state_;
    std::string subject;
    if (const size_t at = outcome.notes.rfind("subject "); at != std::string::npos)
        subject = outcome.notes.substr(at + 8, outcome.notes.find('\n', at) - at - 8);
    // What a function changed is compared with what it was before.
    if (!subject.empty() && state_.find(subject)) previous_[subject] = state_;
    state_ = std::move(now);
    if (!subject.empty()) time_later(subject);
    return tools::kOk;
}

void ReplSession::time_later(const std::string& name) {
    const Entry* entry = state_.find(name);
    if (times_ == Times::None || !entry) return;
    const auto before = previous_.find(name);
    const Named old = before == previous_.end() ? Named{} : Named{&before->second, before->second.find(name)};
    background.start([this, entry, old] {
        const std::string text = time_text({&state_, entry}, old, kQuickSeconds);
        return tools::print_out(text) ? 0 : 1;
    });
    if (times_ == Times::Wait) std::fputs(background.finish().c_str(), stdout);
}

int ReplSession::finish(const Outcome& outcome) {
    for (size_t at = 0; at < outcome.notes.size();) {
        const size_t end = outcome.notes.find('\n', at);
        const std::string line = outcome.notes.substr(at, end - at);
        if (line.starts_with("made ")) said_.insert(line.substr(5));
        at = end + 1;
    }
    if (outcome.interrupted) {
        complain("stopped");
        return tools::kInterrupted;
    }
    if (outcome.signal != 0) complain("the session goes on; what was entered last changed nothing");
    return outcome.code;
}

void ReplSession::remember() {
    undo_.push_back(state_);
    if (undo_.size() > kMostUndo) undo_.erase(undo_.begin());
}

const Entry* ReplSession::named(const std::string& name) {
    if (const Entry* entry = state_.find(name)) return entry;
    std::vector<std::string> names;
    for (const Entry& entry : state_.entries) names.push_back(entry.name);
    const std::string near = diag::nearest(name, names);
    complain("nothing is called `" + name + "`" + (near.empty() ? "; `:list` shows what there is" : "; did you mean `" + near + "`?"));
    return nullptr;
}

const Entry* ReplSession::target(std::vector<std::string>* words) {
    if (!words->empty() && state_.find(words->front())) {
        const Entry* entry = state_.find(words->front());
        words->erase(words->begin());
        return entry;
    }
    if (!words->empty() && !words->front().starts_with("-")) return named(words->front());
    if (const Entry* entry = state_.current_attention()) return entry;
    // Without an attention, the mask or score that was entered last.
    std::string why;
    for (auto entry = state_.entries.rbegin(); entry != state_.entries.rend(); ++entry)
        if (wrap(*entry, &why)) return &*entry;
    complain("there is no attention yet: enter one, `attention a() { mask = causal(); }`");
    return nullptr;
}

// ---- settings ----

bool ReplSession::set_shape(const std::vector<std::string>& words) {
    std::map<std::string, int64_t> shape = state_.settings.shape;
    for (const std::string& word : words) {
        if (word == "default") {
            shape.clear();
            continue;
        }
        const auto part = tools::parse_shape(word);
        if (!part) {
            complain("expected extents such as `Q=1024 H=8`, found `" + word + "`");
            return false;
        }
        for (const auto& [name, value] : *part) {
            std::vector<std::string> known = {"B", "H", "HKV", "Q", "K", "D", "DV"};
            for (const Entry& entry : state_.entries)
                for (const ParamText& param : entry.params) known.insert(known.end(), param.extents.begin(), param.extents.end());
            if (std::find(known.begin(), known.end(), name) == known.end()) {
                const std::string near = diag::nearest(name, known);
                complain("nothing has an extent `" + name + "`" + (near.empty() ? "" : "; did you mean `" + near + "`?"));
                return false;
            }
            shape[name] = value;
        }
    }
    state_.settings.shape = std::move(shape);
    return true;
}

bool ReplSession::set_value(const std::string& text) {
    auto assignment = tools::parse_assignment(text);
    if (!assignment) {
        complain("expected NAME=VALUE, found `" + text + "`");
        return false;
    }
    auto& [name, value] = *assignment;
    name = std::string(trim(name));
    value = std::string(trim(value));
    std::vector<std::string> known = {"q", "k", "v"};
    const ParamText* param = nullptr;
    for (const Entry& entry : state_.entries) {
        for (const ParamText& each : entry.params) {
            known.push_back(each.name);
            if (each.name == name && (!param || entry.name == state_.current)) param = &each;
        }
    }
    if (std::find(known.begin(), known.end(), name) == known.end()) {
        const std::string near = diag::nearest(name, known);
        complain("nothing has a parameter `" + name + "`" + (near.empty() ? "" : "; did you mean `" + near + "`?"));
        return false;
    }
    const bool is_file = value.ends_with(".npy") || value.ends_with(".npz") || value.ends_with(".safetensors");
    std::error_code error;
    if (is_file && !std::filesystem::exists(value, error)) {
        complain("there is no file `" + value + "`");
        return false;
    }
    if (!is_file && param && !param->is_tensor) {
        const flex::DType type = param->base == "f32" ? flex::DType::F32 : param->base == "i32" ? flex::DType::I32 : flex::DType::Bool;
        if (!tools::parse_scalar(value, type)) {
            complain("`" + value + "` is not a value of `" + name + "`, which is `" + param->type + "`");
            return false;
        }
    }
    state_.settings.sets[name] = value;
    return true;
}

bool ReplSession::set_in(const std::string& file) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(file, error)) {
        complain("there is no file `" + file + "`");
        return false;
    }
    state_.settings.in = file;
    return true;
}

bool ReplSession::apply_saved(const std::vector<std::string>& saved) {
    bool ok = true;
    for (const std::string& command : saved) {
        const std::vector<std::string> words = split_words(std::string_view(command).substr(1));
        if (words.size() < 2) continue;
        const std::vector<std::string> rest(words.begin() + 1, words.end());
        if (words[0] == "shape") ok = set_shape(rest) && ok;
        if (words[0] == "set") ok = set_value(rest[0]) && ok;
        if (words[0] == "in") ok = set_in(rest[0]) && ok;
        if (words[0] == "seed") state_.settings.seed = std::strtoull(rest[0].c_str(), nullptr, 10);
        if (words[0] == "use" && state_.find(rest[0])) state_.current = rest[0];
    }
    return ok;
}

}  // namespace flexc::repl
