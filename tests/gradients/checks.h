// A backward pass under test: of one engine, on one problem.
#pragma once

#include <memory>
#include <string>

#include "tests/gradients/problem.h"
#include "tests/numerics/gpu.h"

namespace numerics {

class Check {
public:
    explicit Check(Report& report) : report(report) {}
    virtual ~Check() = default;
    /// Whether it checks this shape of the program of this number.
    [[nodiscard]] virtual bool takes(uint32_t shape, uint32_t program) const {
        (void)shape, (void)program;
        return true;
    }
    /// `first`: the first case of its variant, which is checked in more ways than the others.
    virtual void problem(const std::string& label, const flexc::ir::Attention& attention, const Problem& problem, uint32_t seed,
                         bool first) = 0;
    virtual void hidden() = 0;
    /// What only this engine has.
    virtual void others(const std::string& filter) { (void)filter; }

    Report& report;
};

/// Every vector level and type; two runs with different numbers of threads must agree to the last bit.
[[nodiscard]] std::unique_ptr<Check> cpu_check(Report& report);
/// The GPU; launches under different schedules must agree to the last bit. `full`: every shape of every program, with every type.
[[nodiscard]] std::unique_ptr<Check> gpu_check(Report& report, Gpu& gpu, bool full);

}  // namespace numerics
