// Removes synchronisation from correct kernels, one piece at a time, and demands that the emulator objects.
//
//   emulator_mutations FOLDER [--seeds N] [--only NAME] [--verbose 1]      the kernels of cases_nvcc.cpp and cases_triton.cpp
//   emulator_mutations --ptx FILE [--kernel NAME] [--seeds N] [--every N] [--harmless FILE] --run "COMMAND"
//
// The second form takes any PTX: COMMAND is run by the shell with {} replaced by a file that holds the changed text, FLEXEMU_SEED set, and objects by a
// nonzero exit status. Survivors that are known to be harmless stand in harmless.def, or in the file, in lines `which|statement|change|reason`; others are an
// error. In the file, a register is written as its kind alone, `%r`: its number changes whenever anything else in the kernel does.
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "tests/emulator/cases.h"
#include "tests/emulator/mutate.h"

using namespace emulator_test;

namespace {

/// Mutations that leave the kernel correct. `which`: the how-manieth statement of that spelling in the kernel, from 1.
struct Harmless {
    std::string name, statement, change;
    int which;
    std::string reason;
};
std::vector<Harmless> known_harmless() {
    return {
#include "tests/emulator/harmless.def"
    };
}

std::string read_file(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<Harmless> read_harmless(const std::string& path, const std::string& name) {
    std::vector<Harmless> list;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        size_t a = line.find('|'), b = line.find('|', a + 1), c = line.find('|', b + 1);
        if (a == std::string::npos || b == std::string::npos || c == std::string::npos) continue;
        list.push_back({name, line.substr(a + 1, b - a - 1), line.substr(b + 1, c - b - 1), std::atoi(line.c_str()), line.substr(c + 1)});
    }
    return list;
}

/// A statement without the numbers of its registers.
std::string without_register_numbers(const std::string& statement) {
    std::string text;
    for (size_t i = 0; i < statement.size();) {
        text += statement[i++];
        if (text.back() != '%') continue;
        while (i < statement.size() && std::isalpha(static_cast<unsigned char>(statement[i]))) text += statement[i++];
        while (i < statement.size() && std::isdigit(static_cast<unsigned char>(statement[i]))) ++i;
    }
    return text;
}

struct Counts {
    int tried = 0, caught = 0, harmless = 0, survived = 0, broken = 0;
    std::set<const Harmless*> used;
};

void report(const std::string& name, const std::vector<Verdict>& verdicts, const std::vector<Harmless>& known, bool verbose,
            Counts* counts) {
    std::map<std::string, int> seen;
    for (const Verdict& verdict : verdicts) {
        const Mutation& mutation = verdict.mutation;
        if (mutation.line == 0) {
            if (verdict.objection.empty()) continue;
            std::printf("BROKEN   %s: the kernel as it is: %s\n", name.c_str(), verdict.objection.c_str());
            ++counts->broken;
            continue;
        }
        int which = ++seen[mutation.original + mutation.change];
        if (!verdict.tried) continue;
        ++counts->tried;
        const Harmless* excuse = nullptr;
        for (const Harmless& each : known)
            if (name == each.name && mutation.original == each.statement && mutation.change == each.change && each.which == which)
                excuse = &each;
        const char* word = !verdict.objection.empty() ? "caught" : excuse ? "harmless" : "SURVIVED";
        counts->caught += !verdict.objection.empty();
        counts->harmless += verdict.objection.empty() && excuse;
        if (verdict.objection.empty() && excuse) counts->used.insert(excuse);
        counts->survived += verdict.objection.empty() && !excuse;
        if (verbose || (verdict.objection.empty() && !excuse))
            std::printf("%-8s %s line %d (number %d): `%s` %s  %s\n", word, name.c_str(), mutation.line, which, mutation.original.c_str(),
                        mutation.change.c_str(),
                        verdict.objection.empty() ? excuse ? excuse->reason.c_str() : "" : verdict.objection.c_str());
    }
}

std::string run_command(const std::string& command, const std::string& ptx, uint64_t seed) {
    char path[] = "/tmp/flexemu_mutation_XXXXXX.ptx";
    int file = mkstemps(path, 4);
    if (file < 0) return "no temporary file";
    bool written = write(file, ptx.data(), ptx.size()) == static_cast<ssize_t>(ptx.size());
    close(file);
    std::string line = command;
    for (size_t at = line.find("{}"); at != std::string::npos; at = line.find("{}", at)) line.replace(at, 2, path);
    setenv("FLEXEMU_SEED", std::to_string(seed).c_str(), 1);
    int status = written ? std::system(line.c_str()) : -1;
    unlink(path);
    return status == 0 ? "" : "exit status " + std::to_string(status);
}

}  // namespace

int main(int count, char** arguments) {
    std::map<std::string, std::string> options;
    std::string folder;
    for (int i = 1; i < count; ++i) {
        std::string word = arguments[i];
        if (!word.starts_with("--"))
            folder = word;
        else if (i + 1 < count)
            options[word] = arguments[++i];
    }
    if (folder.empty() == (options.count("--ptx") == 0))
        return std::fprintf(stderr, "usage: emulator_mutations FOLDER | --ptx FILE --run COMMAND\n"), 2;
    uint64_t seeds = options.count("--seeds") ? std::strtoull(options["--seeds"].c_str(), nullptr, 10) : 8;
    uint64_t every = options.count("--every") ? std::max<uint64_t>(1, std::strtoull(options["--every"].c_str(), nullptr, 10)) : 1;
    bool verbose = options["--verbose"] == "1";
    Counts counts;
    std::vector<Harmless> known = folder.empty() ? read_harmless(options["--harmless"], options["--ptx"]) : known_harmless();
    if (folder.empty()) {
        auto run = [&](const std::string& ptx, uint64_t seed) { return run_command(options["--run"], ptx, seed); };
        std::vector<Verdict> verdicts = mutate(read_file(options["--ptx"]), options["--kernel"], seeds, run, every);
        for (Verdict& each : verdicts) each.mutation.original = without_register_numbers(each.mutation.original);
        report(options["--ptx"], verdicts, known, verbose, &counts);
    } else {
        std::vector<Case> cases = nvcc_cases();
        for (const auto& more : {hopper_cases(), product_cases(), triton_cases()}) cases.insert(cases.end(), more.begin(), more.end());
        for (const Case& each : cases) {
            if (each.mutated.empty() || (!options["--only"].empty() && each.name != options["--only"])) continue;
            auto run = [&](const std::string& ptx, uint64_t seed) {
                auto gpu = make_device_gpu(90, seed);
                std::string error;
                return gpu->load(ptx, &error) ? each.run(*gpu) : error;
            };
            report(each.file + "/" + each.name, mutate(read_file(folder + "/" + each.file + ".ptx"), each.mutated, seeds, run), known,
                   verbose, &counts);
        }
    }
    // An excuse that nothing needs would hide the next hole.
    for (const Harmless& each : known)
        if (!folder.empty() && options["--only"].empty() && !counts.used.count(&each)) {
            std::printf("UNUSED   %s `%s` %s, number %d\n", each.name.c_str(), each.statement.c_str(), each.change.c_str(), each.which);
            ++counts.broken;
        }
    std::printf("%d mutations: %d caught, %d harmless, %d survived; %d kernels did not run clean\n", counts.tried, counts.caught,
                counts.harmless, counts.survived, counts.broken);
    return counts.survived || counts.broken || !counts.tried ? 1 : 0;
}
