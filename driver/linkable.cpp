#include "driver/linkable.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "backend/embed/embed.h"
#include "driver/cpp_header.h"

namespace flexc {

namespace {

constexpr flex::CpuLevel kLevels[] = {flex::CpuLevel::Generic, flex::CpuLevel::Avx2, flex::CpuLevel::Avx512};

bool compile_cpu_levels(Session& session, const ir::Attention& attention, std::vector<embed::CpuObject>* out) {
    const auto unsupported = cpu::unsupported_clauses(attention);
    if (!unsupported.empty()) {
        std::string list;
        for (const std::string& clause : unsupported) list += (list.empty() ? "`" : ", `") + clause + "`";
        session.sink.report(diag::Kind::unsupported_clause, {}, list, attention.name, std::string("cpu"));
        return false;
    }
    for (const flex::CpuLevel level : kLevels) {
        cpu::Timings timings;
        out->push_back({level, cpu::compile_object(attention, {level}, &timings)});
        session.phases.lower += timings.lower * 1e3;
        session.phases.optimise += timings.optimise * 1e3;
        session.phases.codegen += timings.codegen * 1e3;
    }
    return true;
}

/// What a header and its object have in common and no other pair has.
uint64_t fingerprint(const embed::Contents& contents) {
    const std::vector<char> object = embed::make_object(contents);
    return XXH3_64bits(object.data(), object.size());
}

}  // namespace

std::optional<Linkable> make_linkable(Session& session, const ir::Attention& attention, const LinkOptions& options,
                                      const std::string& source, const std::string& object_name) {
    HeaderFacts facts;
    facts.name = options.name.empty() ? cpp_name(attention.name) : options.name;
    facts.source = source;
    facts.doc = attention.doc;
    facts.object = object_name;

    embed::Contents contents;
    contents.attention = attention.name;
    contents.name = facts.name;
    for (size_t at; (at = contents.name.find("::")) != std::string::npos;) contents.name.replace(at, 2, "_");
    for (const std::string& target : options.targets) {
        if (target == "cpu") {
            if (facts.cpu) continue;
            if (!compile_cpu_levels(session, attention, &contents.cpu)) return std::nullopt;
            facts.cpu = true;
        } else {
            session.sink.report(diag::Kind::no_emit, {}, std::string("header"), target).help("the targets are `cpu` and `sm_80`");
            return std::nullopt;
        }
    }
    contents.fingerprint = facts.fingerprint = fingerprint(contents);
    facts.table = embed::table_symbol(contents.name);
    return Linkable{cpp_header(cpu::describe(attention), facts), embed::make_object(contents)};
}

}  // namespace flexc
