#include "tools/bench_variants.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/memory.h"

namespace flexc::tools {
namespace {

constexpr const char* kBuiltin[] = {"B", "H", "HKV", "Q", "K", "D", "DV"};

bool is_builtin(const std::string& name) {
    return std::find(std::begin(kBuiltin), std::end(kBuiltin), name) != std::end(kBuiltin);
}

/// Where the names of one file are to be taken from: those asked for that it declares, else its only attention.
std::vector<std::string> names_in(Session& session, const std::vector<std::string>& asked) {
    std::vector<std::string> out;
    for (const auto& each : session.program().attentions())
        if (std::find(asked.begin(), asked.end(), each.name) != asked.end()) out.push_back(each.name);
    // In the order asked for.
    std::sort(out.begin(), out.end(), [&](const std::string& a, const std::string& b) {
        return std::find(asked.begin(), asked.end(), a) < std::find(asked.begin(), asked.end(), b);
    });
    if (!out.empty()) return out;
    if (const auto only = session.choose("")) out.push_back(*only);
    return out;
}

/// `input` with those -D that are of this attention; an attention's own check of names comes later.
bool describe(Session& session, const std::string& name, const BenchOptions& options, Variant* out) {
    const auto& attentions = session.program().attentions();
    const auto info = std::find_if(attentions.begin(), attentions.end(), [&](const auto& each) { return each.name == name; });
    out->consts.insert(info->const_params.begin(), info->const_params.end());
    InputOptions& input = out->input;
    std::erase_if(input.defines, [&](const Assignment& each) { return !out->consts.contains(each.name); });
    InputOptions first = input;
    if (options.sweep)
        for (const std::string& swept : options.sweep->names)
            if (out->consts.contains(swept)) first.sets.push_back({swept, std::to_string(options.sweep->values.front())});
    Inputs inputs(session, first);
    if (!inputs.load()) return false;
    const auto consts = inputs.consts(*info);
    if (!consts) return false;
    const auto attention = session.lower(name, *consts);
    if (!attention) return false;
    out->desc = cpu::describe(*attention);
    out->params = out->consts;
    for (const flex::ParamDesc& param : out->desc.params) out->params.insert(param.name);
    return true;
}

/// Gives each name to the variants that know it; one that nobody knows stays with the first, whose check of names then reports it.
void divide_options(const BenchOptions& options, std::vector<Variant>* variants) {
    const auto known = [&](const auto& knows) { return std::any_of(variants->begin(), variants->end(), knows); };
    for (size_t v = 0; v < variants->size(); ++v) {
        InputOptions& input = (*variants)[v].input;
        const Variant& own = (*variants)[v];
        std::erase_if(input.sets, [&](const Assignment& set) {
            const bool array = set.name == "q" || set.name == "k" || set.name == "v" || set.name == "do";
            return !array && !own.params.contains(set.name) &&
                   (v > 0 || known([&](const Variant& each) { return each.params.contains(set.name); }));
        });
        std::erase_if(input.shape, [&](const auto& extent) {
            return !own.has_extent(extent.first) && (v > 0 || known([&](const Variant& each) { return each.has_extent(extent.first); }));
        });
    }
    for (const Assignment& define : options.input.defines)
        if (!known([&](const Variant& each) { return each.consts.contains(define.name); }))
            variants->front().input.defines.push_back(define);
}

/// Labels that differ: the file's name where attentions of several files have the same, then numbers.
void name_apart(std::vector<Variant>* variants) {
    const auto count = [&](const std::string& label) {
        return std::count_if(variants->begin(), variants->end(), [&](const Variant& each) { return each.label == label; });
    };
    std::vector<std::string> labels;
    for (const Variant& each : *variants)
        labels.push_back(count(each.label) > 1 ? fmt::format("{} ({})", each.label, each.input.file.stem().string()) : each.label);
    for (size_t i = 0; i < labels.size(); ++i) (*variants)[i].label = labels[i];
    for (size_t i = 0; i < labels.size(); ++i) {
        int before = 1;
        for (size_t j = 0; j < i; ++j) before += labels[j] == labels[i];
        if (before > 1) (*variants)[i].label += fmt::format(" #{}", before);
    }
}

/// Whether each swept name is an extent or a parameter of somebody.
bool check_sweep(Session& session, const Sweep& sweep, const std::vector<Variant>& variants) {
    std::set<std::string> all(std::begin(kBuiltin), std::end(kBuiltin));
    for (const Variant& each : variants) {
        all.insert(each.desc.extents.begin(), each.desc.extents.end());
        all.insert(each.params.begin(), each.params.end());
    }
    bool ok = true;
    for (const std::string& name : sweep.names) {
        if (all.contains(name)) {
            for (const Variant& each : variants)
                for (const flex::ParamDesc& param : each.desc.params)
                    if (param.name == name && param.is_tensor && !each.has_extent(name)) {
                        session.sink.report(diag::Kind::bad_value, {}, std::to_string(sweep.values.front()), name, "a tensor")
                            .help("a sweep sets extents and numbers");
                        ok = false;
                    }
            continue;
        }
        const std::vector<std::string> names(all.begin(), all.end());
        auto& report = session.sink.report(diag::Kind::unknown_extent, {}, variants.front().label, name);
        const std::string near = diag::nearest(name, names);
        report.help(near.empty() ? fmt::format("`--sweep` takes extents and parameters: {}", fmt::join(names, ", "))
                                 : "did you mean `" + near + "`?");
        ok = false;
    }
    return ok;
}

double bytes_of(const Launch& launch, bool backward) {
    using enum ir::ExtentVar;
    const auto e = [&](ir::ExtentVar which) { return static_cast<double>(launch.extent(which)); };
    const double rows = e(B) * e(H) * e(Q), keys = e(B) * e(HKV) * e(K);
    const double arrays = static_cast<double>(flex::size_of(launch.dtype)) * (rows * (e(D) + e(DV)) + keys * (e(D) + e(DV)));
    double out = arrays + 8 * rows;
    for (const io::Array& each : launch.storage) out += static_cast<double>(each.bytes.size());
    // dO and the gradients, and what the pass keeps of rows in f32.
    if (backward) out += arrays + 4 * rows * (2 * e(D) + e(DV));
    return out;
}

}  // namespace

bool Variant::has_extent(const std::string& name) const {
    return is_builtin(name) || std::find(desc.extents.begin(), desc.extents.end(), name) != desc.extents.end();
}

InputOptions input_at(const Variant& variant, const std::optional<Sweep>& sweep, size_t point) {
    InputOptions out = variant.input;
    if (!sweep) return out;
    for (const std::string& name : sweep->names) {
        if (variant.has_extent(name)) {
            out.shape[name] = sweep->values[point];
        } else if (variant.params.contains(name)) {
            std::erase_if(out.sets, [&](const Assignment& set) { return set.name == name; });
            std::erase_if(out.defines, [&](const Assignment& define) { return define.name == name; });
            out.sets.push_back({name, std::to_string(sweep->values[point])});
        }
    }
    return out;
}

bool find_variants(Session& session, const BenchOptions& options, std::vector<Variant>* out) {
    std::set<std::string> found;
    for (size_t f = 0; f < options.files.size(); ++f) {
        Session apart;  // a session has one program
        const auto give_up = [&] {
            session.sources = std::move(apart.sources);
            session.sink = std::move(apart.sink);
            return false;
        };
        if (!open_source(apart, options.files[f])) return give_up();
        const std::vector<std::string> names = names_in(apart, options.names);
        if (names.empty()) return give_up();
        for (const std::string& name : names) {
            found.insert(name);
            Variant& variant = out->emplace_back();
            variant.label = name;
            variant.input = options.input;
            variant.input.file = options.files[f];
            variant.input.name = name;
            if (!describe(apart, name, options, &variant)) return give_up();
        }
    }
    for (const std::string& name : options.names) {
        if (found.contains(name)) continue;
        std::string files;
        for (const auto& file : options.files) files += (files.empty() ? "" : ", ") + file.string();
        session.sink.report(diag::Kind::unknown_attention, {}, files, name);
        return false;
    }
    name_apart(out);
    divide_options(options, out);
    return !options.sweep || check_sweep(session, *options.sweep, *out);
}

std::vector<Variant> baselines(const BenchOptions& options, const std::vector<int64_t>& kept, const Launch& launch) {
    using enum ir::ExtentVar;
    std::string which = options.against.empty() ? "auto" : options.against;
    bool causal = which == "causal" || which == "both", full = which == "full" || which == "both";
    if (which == "auto") {
        const int64_t q = launch.extent(Q), k = launch.extent(K), met = std::min(q, k);
        const int64_t of_causal = launch.extent(B) * launch.extent(H) * (met * (met + 1) / 2 + (q - met) * k);
        for (const int64_t each : kept) (each <= of_causal ? causal : full) = true;
    }
    std::vector<Variant> out;
    for (const auto& [wanted, label, text] : {std::tuple{causal, "plain causal", "attention causal() { mask = q >= k; }\n"},
                                              std::tuple{full, "plain full", "attention full() {}\n"}}) {
        if (!wanted) continue;
        Variant& variant = out.emplace_back();
        variant.label = label;
        variant.is_baseline = true;
        variant.input = options.input;
        variant.input.file = label;
        variant.input.sets.clear();
        variant.input.defines.clear();
        hold_text(label, text, {});
    }
    return out;
}

InputOptions plain_input(const Variant& baseline, const Launch& launch) {
    InputOptions out = baseline.input;
    out.shape.clear();
    for (size_t i = 0; i < std::size(kBuiltin); ++i) out.shape[kBuiltin[i]] = launch.builtin[i];
    return out;
}

bool check_points(Session& session, const BenchOptions& options, const std::vector<Variant>& variants) {
    if (!options.input.in.empty()) return true;  // arrays give the extents
    const size_t points = options.sweep ? options.sweep->values.size() : 1;
    const uint64_t available = available_memory();
    for (size_t point = 0; point < points; ++point) {
        double bytes = 0, most = 0;
        for (const Variant& variant : variants) {
            const InputOptions input = input_at(variant, options.sweep, point);
            Session apart;
            Inputs inputs(apart, input);
            Launch launch;
            // Values of parameters are not asked for: without them extents may be open, which the launch itself then reports.
            if (!inputs.load()) return true;
            if (!inputs.bind(variant.desc, Need::Pictures, {}, options.execute.dtype, &launch)) {
                const bool memory = std::any_of(apart.sink.all().begin(), apart.sink.all().end(),
                                                [](const auto& each) { return each.kind == diag::Kind::out_of_memory; });
                if (!memory) continue;
                bytes = most = 1e30;
                break;
            }
            using enum ir::ExtentVar;
            if (launch.extent(HKV) > 0 && launch.extent(H) % launch.extent(HKV) != 0) {
                session.sink.report(diag::Kind::bad_array, {},
                                    fmt::format("H = {} must be a multiple of HKV = {}", launch.extent(H), launch.extent(HKV)));
                return false;
            }
            launch.dtype = options.execute.dtype.value_or(flex::DType::F32);
            const double each = bytes_of(launch, options.backward);
            bytes += each;
            most = std::max(most, each);
        }
        // Beside the variants up to two baselines, no larger than the largest of them.
        if (options.against != "none") bytes += (options.against == "both" ? 2 : 1) * most;
        if (bytes <= static_cast<double>(available)) continue;
        auto& report = session.sink.report(diag::Kind::out_of_memory, {});
        const std::string where =
            options.sweep ? fmt::format("{} = {}", options.sweep->label(), options.sweep->values[point]) : "this shape";
        if (bytes < 1e30)
            report.note(fmt::format("{} takes about {} for the attentions side by side, and {} are free", where, bytes_text(bytes),
                                    bytes_text(static_cast<double>(available))));
        else
            report.note(where + " takes more than this machine has");
        report.help(point > 0 ? fmt::format("end the sweep at {}, or compare fewer at once", options.sweep->values[point - 1])
                              : std::string("choose smaller extents"));
        return false;
    }
    return true;
}

}  // namespace flexc::tools
