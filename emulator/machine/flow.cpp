// Where lanes that went different ways meet again: immediate post-dominators of each function's control flow.
//
// The end of a function is where its `ret`s are. Ways that only lead to `exit`, `trap` or nowhere do not count: the lanes that take them never come back, and the
// others need not wait for the end of the function. Code from which no `ret` is reached is treated in the same way with `exit` as its end.
#include <algorithm>

#include "emulator/machine/program.h"

namespace flexemu {
namespace {

bool is_branch(const ptx::Instruction& instruction) {
    return instruction.opcode == "bra" || instruction.opcode == "brx";
}
bool is_exit(const ptx::Instruction& instruction) {
    return instruction.opcode == "exit" || instruction.opcode == "trap";
}

class Flow {
public:
    explicit Flow(Code* code) : code_(code), end_(static_cast<int32_t>(code->ops.size())) {
        const size_t count = code->ops.size() + 1;
        successors_.resize(count);
        predecessors_.resize(count);
        for (int32_t i = 0; i < end_; ++i) {
            for (const int32_t to : ways(i)) {
                successors_[static_cast<size_t>(i)].push_back(to);
                predecessors_[static_cast<size_t>(to)].push_back(i);
            }
        }
    }

    void run() {
        code_->meet.assign(static_cast<size_t>(end_), end_);
        stage_.assign(static_cast<size_t>(end_) + 1, 0);
        mark({end_}, 1);
        // Then what ends in an exit, and at last loops without an end, which meet nowhere.
        std::vector<int32_t> exits;
        for (int32_t i = 0; i < end_; ++i) {
            if (stage_[static_cast<size_t>(i)] == 0 && is_exit(code_->text->instructions[static_cast<size_t>(i)])) exits.push_back(i);
        }
        exits_ = exits;
        mark(exits, 2);
        solve(1);
        solve(2);
    }

private:
    std::vector<int32_t> ways(int32_t at) const {
        const ptx::Instruction& instruction = code_->text->instructions[static_cast<size_t>(at)];
        const Op& op = code_->ops[static_cast<size_t>(at)];
        std::vector<int32_t> result;
        const bool guarded = op.guard != kNoRegister;
        if (instruction.opcode == "bra") {
            result.push_back(op.target);
            if (guarded) result.push_back(at + 1);
        } else if (instruction.opcode == "brx") {
            for (const ptx::Operand& operand : instruction.operands) {
                if (operand.kind != ptx::Operand::Kind::Table) continue;
                for (const ptx::Operand& label : code_->text->tables[static_cast<size_t>(operand.number)]) result.push_back(label.number);
            }
            if (guarded) result.push_back(at + 1);
        } else if (instruction.opcode == "ret") {
            result.push_back(end_);
            if (guarded) result.push_back(at + 1);
        } else if (is_exit(instruction)) {
            if (guarded) result.push_back(at + 1);
        } else {
            result.push_back(at + 1);
        }
        std::sort(result.begin(), result.end());
        result.erase(std::unique(result.begin(), result.end()), result.end());
        return result;
    }

    void mark(std::vector<int32_t> work, int stage) {
        for (const int32_t at : work) stage_[static_cast<size_t>(at)] = stage;
        while (!work.empty()) {
            const int32_t at = work.back();
            work.pop_back();
            for (const int32_t from : predecessors_[static_cast<size_t>(at)]) {
                if (stage_[static_cast<size_t>(from)] != 0) continue;
                stage_[static_cast<size_t>(from)] = stage;
                work.push_back(from);
            }
        }
    }

    /// Cooper, Harvey and Kennedy, on the reversed graph of one stage. Its root is one past the nodes.
    void solve(int stage) {
        const int32_t root = stage == 1 ? end_ : end_ + 1;
        const auto inside = [&](int32_t at) { return at <= end_ && stage_[static_cast<size_t>(at)] == stage; };
        std::vector<int32_t> order;  // post-order from the root along reversed edges
        std::vector<int32_t> rank(static_cast<size_t>(end_) + 2, -1);
        std::vector<std::pair<int32_t, size_t>> stack;
        std::vector<bool> seen(static_cast<size_t>(end_) + 2, false);
        const auto from = [&](int32_t at) -> const std::vector<int32_t>& {
            return at == end_ + 1 ? exits_ : predecessors_[static_cast<size_t>(at)];
        };
        stack.emplace_back(root, 0);
        seen[static_cast<size_t>(root)] = true;
        while (!stack.empty()) {
            auto& [at, next] = stack.back();
            const auto& before = from(at);
            if (next < before.size()) {
                const int32_t to = before[next++];
                if (inside(to) && !seen[static_cast<size_t>(to)]) {
                    seen[static_cast<size_t>(to)] = true;
                    stack.emplace_back(to, 0);
                }
            } else {
                rank[static_cast<size_t>(at)] = static_cast<int32_t>(order.size());
                order.push_back(at);
                stack.pop_back();
            }
        }
        std::vector<int32_t> idom(static_cast<size_t>(end_) + 2, -1);
        idom[static_cast<size_t>(root)] = root;
        const auto intersect = [&](int32_t a, int32_t b) {
            while (a != b) {
                while (rank[static_cast<size_t>(a)] < rank[static_cast<size_t>(b)]) a = idom[static_cast<size_t>(a)];
                while (rank[static_cast<size_t>(b)] < rank[static_cast<size_t>(a)]) b = idom[static_cast<size_t>(b)];
            }
            return a;
        };
        for (bool changed = true; changed;) {
            changed = false;
            for (size_t i = order.size() - 1; i-- > 0;) {
                const int32_t at = order[i];
                int32_t best = -1;
                const auto consider = [&](int32_t to) {
                    if (idom[static_cast<size_t>(to)] < 0) return;
                    best = best < 0 ? to : intersect(best, to);
                };
                for (const int32_t to : successors_[static_cast<size_t>(at)]) {
                    if (inside(to)) consider(to);
                }
                if (stage == 2 && std::find(exits_.begin(), exits_.end(), at) != exits_.end()) consider(root);
                if (best >= 0 && idom[static_cast<size_t>(at)] != best) {
                    idom[static_cast<size_t>(at)] = best;
                    changed = true;
                }
            }
        }
        for (const int32_t at : order) {
            if (at < end_ && idom[static_cast<size_t>(at)] >= 0)
                code_->meet[static_cast<size_t>(at)] = std::min(idom[static_cast<size_t>(at)], end_);
        }
    }

    Code* code_;
    int32_t end_;
    std::vector<std::vector<int32_t>> successors_, predecessors_;
    std::vector<int> stage_;
    std::vector<int32_t> exits_;
};

}  // namespace

void find_meeting_points(Code* code) {
    const bool has_branch = std::any_of(code->text->instructions.begin(), code->text->instructions.end(), is_branch);
    if (!has_branch) {
        code->meet.assign(code->ops.size(), static_cast<int32_t>(code->ops.size()));
        for (size_t i = 0; i < code->ops.size(); ++i) code->meet[i] = static_cast<int32_t>(i) + 1;
        return;
    }
    Flow(code).run();
}

}  // namespace flexemu
