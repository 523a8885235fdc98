#include "tests/emulator/mutate.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <string_view>

namespace emulator_test {

namespace {

/// A statement of one line: guard, opcode with modifiers, operands; text in front (an opening brace, a label) and behind stay.
struct Statement {
    size_t start = 0, end = 0;  // in the line, of guard to semicolon
    std::string guard, opcode, operands;
};

bool is_space(char c) {
    return std::isspace(static_cast<unsigned char>(c)) != 0;
}

std::string trimmed(std::string_view text) {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return std::string(text);
}

std::vector<Statement> statements(const std::string& line) {
    std::vector<Statement> found;
    size_t stop = line.find("//");
    std::string_view text = std::string_view(line).substr(0, stop);
    size_t at = 0;
    while (at < text.size()) {
        size_t end = text.find(';', at);
        if (end == std::string_view::npos) break;
        while (at < end && (is_space(text[at]) || text[at] == '{' || text[at] == '}')) ++at;
        std::string_view body = text.substr(at, end - at);
        if (size_t colon = body.find(": "); colon != std::string_view::npos && body.find_first_of(" \t") > colon) {
            at += colon + 1;
            while (at < end && is_space(text[at])) ++at;
            body = text.substr(at, end - at);
        }
        Statement statement;
        statement.start = at;
        statement.end = end + 1;
        if (!body.empty() && body.front() == '@') {
            size_t space = body.find_first_of(" \t");
            if (space == std::string_view::npos) space = body.size();
            statement.guard = std::string(body.substr(0, space));
            body.remove_prefix(space);
        }
        std::string rest = trimmed(body);
        size_t space = rest.find_first_of(" \t");
        statement.opcode = rest.substr(0, space);
        statement.operands = space == std::string::npos ? "" : trimmed(std::string_view(rest).substr(space));
        if (!statement.opcode.empty()) found.push_back(statement);
        at = end + 1;
    }
    return found;
}

bool starts(const std::string& text, std::string_view with) {
    return text.starts_with(with);
}

struct Change {
    std::string replacement, what;
};

std::string first_operand(const std::string& operands) {
    return trimmed(std::string_view(operands).substr(0, operands.find(',')));
}

std::string last_operand(const std::string& operands) {
    return trimmed(std::string_view(operands).substr(operands.rfind(',') + 1));
}

/// The statement with its last operand (a number or a 32-bit register) changed by an instruction, "add.u32" say, and a constant.
std::string with_last_operand(const Statement& statement, const std::string& instruction, const std::string& constant) {
    const std::string operand = last_operand(statement.operands);
    const std::string others = statement.operands.substr(0, statement.operands.rfind(','));
    const std::string guard = statement.guard.empty() ? "" : statement.guard + " ";
    return "{ .reg .b32 %mutated; mov.b32 %mutated, " + operand + "; " + instruction + " %mutated, %mutated, " + constant + "; " + guard +
           statement.opcode + " " + others + ", %mutated; }";
}

/// What can be done to a statement of synchronisation; nothing for all others.
std::vector<Change> changes(const Statement& statement) {
    const std::string& op = statement.opcode;
    std::vector<Change> result;
    auto removed = [&](std::string replacement = "") { result.push_back({std::move(replacement), "removed"}); };
    if (starts(op, "cp.async.wait_group") || starts(op, "cp.async.bulk.wait_group") || starts(op, "wgmma.wait_group")) {
        removed();
        if (!statement.operands.empty() &&
            std::all_of(statement.operands.begin(), statement.operands.end(), [](char c) { return c >= '0' && c <= '9'; }))
            result.push_back({op + " " + std::to_string(std::stoi(statement.operands) + 1) + ";", "lets one more group be under way"});
    } else if (starts(op, "cp.async.wait_all") || starts(op, "cp.async.commit_group") || starts(op, "cp.async.bulk.commit_group") ||
               starts(op, "cp.async.mbarrier.arrive") || starts(op, "wgmma.commit_group") || starts(op, "wgmma.fence")) {
        removed();
    } else if (starts(op, "bar.sync") || starts(op, "barrier.sync") || starts(op, "barrier.cta.sync") || starts(op, "bar.arrive") ||
               starts(op, "barrier.arrive") || starts(op, "barrier.cta.arrive") || starts(op, "barrier.cluster") ||
               starts(op, "bar.warp.sync")) {
        removed();
    } else if (starts(op, "fence.") || starts(op, "membar.") || starts(op, "griddepcontrol.wait")) {
        removed();
    } else if (starts(op, "mbarrier.arrive") || starts(op, "mbarrier.expect_tx") || starts(op, "mbarrier.init")) {
        // An arrival may give a state that a wait uses later; without the arrival there is none to give.
        std::string to = first_operand(statement.operands);
        bool gives = starts(op, "mbarrier.arrive") && !to.empty() && to[0] != '[' && to[0] != '_';
        removed(gives ? "mov.b64 " + to + ", 0;" : "");
    } else if (starts(op, "mbarrier.try_wait") || starts(op, "mbarrier.test_wait")) {
        result.push_back({"setp.eq.u32 " + first_operand(statement.operands) + ", 0, 0;", "does not wait"});
    }
    for (Change& change : result)
        if (!statement.guard.empty() && !change.replacement.empty()) change.replacement = statement.guard + " " + change.replacement;
    if (op.find("expect_tx") != std::string::npos) {
        result.push_back({with_last_operand(statement, "add.u32", "16"), "announces 16 bytes more"});
        result.push_back({with_last_operand(statement, "sub.u32", "16"), "announces 16 bytes less"});
    }
    // The count of try_wait may be followed by a hint of time.
    if ((starts(op, "mbarrier.try_wait.parity") || starts(op, "mbarrier.test_wait.parity")) &&
        std::count(statement.operands.begin(), statement.operands.end(), ',') == 2)
        result.push_back({with_last_operand(statement, "xor.b32", "1"), "waits for the other parity"});
    return result;
}

struct Range {
    size_t first = 0, last = 0;  // lines, half open
};

/// Lines of the body of a kernel: from its opening brace to the one that closes it.
std::optional<Range> body_of(const std::vector<std::string>& lines, const std::string& kernel) {
    for (size_t i = 0; i < lines.size(); ++i) {
        size_t at = lines[i].find(".entry");
        if (at == std::string::npos) continue;
        std::string name = trimmed(std::string_view(lines[i]).substr(at + 6));
        name = name.substr(0, name.find_first_of("( \t"));
        if (name != kernel) continue;
        int depth = 0;
        for (size_t j = i; j < lines.size(); ++j)
            for (char c : lines[j]) {
                depth += c == '{' ? 1 : c == '}' ? -1 : 0;
                if (c == '}' && depth == 0) return Range{i, j + 1};
            }
    }
    return std::nullopt;
}

}  // namespace

std::vector<Mutation> mutations(const std::string& ptx, const std::string& kernel) {
    std::vector<std::string> lines;
    for (size_t at = 0; at < ptx.size();) {
        size_t end = std::min(ptx.find('\n', at), ptx.size());
        lines.push_back(ptx.substr(at, end - at));
        at = end + 1;
    }
    Range range{0, lines.size()};
    if (!kernel.empty()) {
        std::optional<Range> body = body_of(lines, kernel);
        if (!body) return {};
        range = *body;
    }
    // Compilers write some statements twice in a row. One of them alone says nothing, so they change together.
    struct Place {
        size_t line;
        Statement statement;
    };
    std::vector<std::vector<Place>> places;
    std::string before;
    for (size_t i = range.first; i < range.last; ++i)
        for (const Statement& statement : statements(lines[i])) {
            std::string text = statement.guard + " " + statement.opcode + " " + statement.operands;
            if (text != before) places.emplace_back();
            places.back().push_back({i, statement});
            before = std::move(text);
        }
    std::vector<Mutation> result;
    for (const auto& repeated : places) {
        const Place& first = repeated.front();
        for (const Change& change : changes(first.statement)) {
            Mutation mutation;
            mutation.line = static_cast<int>(first.line) + 1;
            mutation.original = first.statement.opcode + (first.statement.operands.empty() ? "" : " ") + first.statement.operands;
            mutation.change = change.what;
            std::vector<std::string> changed = lines;
            for (auto place = repeated.rbegin(); place != repeated.rend(); ++place)
                changed[place->line].replace(place->statement.start, place->statement.end - place->statement.start, change.replacement);
            for (const std::string& line : changed) mutation.ptx += line + "\n";
            result.push_back(std::move(mutation));
        }
    }
    return result;
}

std::vector<Verdict> mutate(const std::string& ptx, const std::string& kernel, uint64_t seeds, const Runner& runner, uint64_t every) {
    std::vector<Verdict> verdicts;
    auto judge = [&](const Mutation& mutation) {
        Verdict verdict{mutation, "", 0};
        while (verdict.seed < seeds) {
            verdict.objection = runner(mutation.ptx, verdict.seed);
            if (!verdict.objection.empty()) break;
            ++verdict.seed;
        }
        verdicts.push_back(std::move(verdict));
    };
    judge({0, "the text as it is", "unchanged", ptx});
    if (!verdicts.front().objection.empty()) return verdicts;
    uint64_t number = 0;
    for (const Mutation& mutation : mutations(ptx, kernel))
        if (number++ % every == 0)
            judge(mutation);
        else
            verdicts.push_back({mutation, "", 0, false});
    return verdicts;
}

}  // namespace emulator_test
