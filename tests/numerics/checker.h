// Runs one case on every engine, compares with the oracle, and keeps the worst errors for the table.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/numerics/engines.h"
#include "tests/numerics/gpu.h"

namespace numerics {

struct Options {
    bool quick = false;                                  // fewer levels, types and cases: for sanitizers
    bool full = false;                                   // on a GPU: every way to divide a launch for every case
    bool gpu = false;                                    // this engine, in place of the interpreter and the CPU
    std::string driver;                                  // of the GPU; empty: the machine's own
    flexc::nvptx::Arch arch = flexc::nvptx::Arch::Sm80;  // that the GPU's kernels are made for
    bool table = false;
    std::string filter;  // only labels that contain it
    int random_programs = 40;
    uint32_t seed = 1;  // of the first random program; each next one has the next seed
};

class Checker {
public:
    explicit Checker(const Options& options);

    [[nodiscard]] const Options& options() const { return options_; }
    /// False, after saying why, if the engine cannot be had.
    [[nodiscard]] bool start();
    [[nodiscard]] bool wanted(const std::string& label) const { return label.find(options_.filter) != std::string::npos; }

    /// What may be done to the inputs before they are used (poison, special values). Values must suit every type.
    using Edit = std::function<void(Inputs&)>;
    /// All engines: the interpreter with f32 inputs, each CPU level with each type. Or a GPU with each type, each time divided in another way.
    void check(const std::string& label, Program& program, const Case& c, uint32_t seed, const Edit& edit = {},
               Layout layout = Layout::Dense);

    /// One launch on the GPU, divided as told.
    void check_division(const std::string& label, Program& program, const Case& c, flex::DType type, const Inputs& in, Layout layout,
                        GpuSettings settings);

    /// For loops over many shapes: on a GPU each of the next checks takes one type, in turn.
    void take_types_in_turn(bool in_turn) { types_in_turn_ = in_turn; }

    /// A condition of its own.
    void expect(bool holds, const std::string& label, const std::string& what);

    /// The GPU's kernels are those of sm_90a, which have no f32 and no short tiles.
    [[nodiscard]] bool persistent() const { return options_.gpu && options_.arch == flexc::nvptx::Arch::Sm90a; }
    [[nodiscard]] const std::vector<flex::CpuLevel>& used_levels() const { return levels_; }
    [[nodiscard]] Gpu* gpu() { return gpu_.get(); }
    [[nodiscard]] int failures() const { return failures_; }

    /// Prints the table if asked, and the verdict. The exit code.
    [[nodiscard]] int finish() const;

private:
    struct Worst {
        double error = 0;  // largest |o - expected|
        double ratio = 0;  // largest error / bound over o, lse, max_score
    };
    void compare(const std::string& label, const std::string& engine, const Result& result, const Output& expected);
    void compare_values(const std::string& place, const char* what, const std::vector<double>& actual, const std::vector<double>& expected,
                        const std::vector<double>& bound, bool is_output, Worst& worst);
    void check_gpu(const std::string& label, Program& program, const Case& c, flex::DType type, const Inputs& in, Layout layout);
    void fail(const std::string& text);

    Options options_;
    std::vector<flex::CpuLevel> levels_;
    std::vector<flex::DType> types_;
    std::map<std::string, std::map<std::string, Worst>> worst_;  // label -> type or interp
    std::vector<std::string> order_;
    std::unique_ptr<Gpu> gpu_;
    bool types_in_turn_ = false;
    size_t turn_ = 0, division_ = 0;  // of the types; of the ways to divide a launch
    std::set<std::string> triples_;   // variant, shape and type that a GPU ran
    int gpu_launches_ = 0;
    int failures_ = 0;
    int checks_ = 0;
};

void check_gallery(Checker& checker);
void check_special(Checker& checker);
void check_clauses(Checker& checker);
void check_random(Checker& checker);
void check_language(Checker& checker);
void check_divisions(Checker& checker);  // on a GPU

}  // namespace numerics
