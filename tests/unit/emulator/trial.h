// One instruction on many values: a kernel is made around its text, which loads registers from memory, one value a thread, executes it, and stores registers.
// Registers: p0.. (predicates), c0.. (8 bits), h0.. (16), r0.. (32), d0.. (64). Values are given and returned as their bits.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace flexemu::test {

using Values = std::vector<uint64_t>;
struct Input {
    std::string name;
    Values values;
};
/// The named registers afterwards, each of as many values as the inputs have.
std::vector<Values> run(const std::string& instructions, const std::vector<Input>& inputs, const std::vector<std::string>& outputs,
                        const std::string& target = "sm_90");
/// The message of loading a module with the instruction; empty if it is taken.
std::string refusal(const std::string& instruction, const std::string& target = "sm_90");

/// Values to try: edges of the width and of floats of that width, each against each as far as `count` allows, then random ones.
class Samples {
public:
    explicit Samples(uint32_t seed) : random_(seed) {}
    Values bits(int width, size_t count);
    /// Floats: special values, neighbours of powers of two, random exponents.
    Values f16(size_t count);
    Values bf16(size_t count);
    Values f32(size_t count);
    Values f64(size_t count);
    Values pairs(const Values& low, Values high);
    std::mt19937_64& random() { return random_; }

private:
    Values mixed(const std::vector<uint64_t>& edges, int width, size_t count, const std::function<uint64_t()>& any);
    std::mt19937_64 random_;
};

}  // namespace flexemu::test
