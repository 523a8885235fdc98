// Breaking correct kernels on purpose. Each mutation takes one piece of synchronisation out of PTX text, or weakens it; a strict emulator must object to every
// one, by a fault or through a wrong result, in some order of the warps. What nobody objects to is a survivor: harmless code, or a hole in the emulator.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace emulator_test {

struct Mutation {
    int line = 0;          // in the text, from 1
    std::string original;  // the statement
    std::string change;    // "removed", "waits for one group less", ...
    std::string ptx;       // the whole text with the change
};
/// All mutations of the body of a kernel: waits, commits, barriers, fences, arrivals. Empty `kernel`: of every body.
std::vector<Mutation> mutations(const std::string& ptx, const std::string& kernel);

/// Runs a PTX text under a seed. "" if it is as it must be; else the fault, the load error, or the first wrong number.
using Runner = std::function<std::string(const std::string& ptx, uint64_t seed)>;

struct Verdict {
    Mutation mutation;
    std::string objection;  // the first; empty: survived all seeds
    uint64_t seed = 0;      // that gave it
    bool tried = true;
};
/// One verdict a mutation, of which each `every`th is tried. The first has line 0 and an objection if the unchanged text does not run clean.
std::vector<Verdict> mutate(const std::string& ptx, const std::string& kernel, uint64_t seeds, const Runner& runner, uint64_t every = 1);

}  // namespace emulator_test
