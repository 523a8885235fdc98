#include "tools/cli.h"

#include <charconv>

namespace flexc::tools {
namespace {

std::optional<int64_t> parse_natural(std::string_view text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > INT32_MAX) return std::nullopt;
    return value;
}

bool parse_interval(std::string_view text, std::optional<int64_t>* begin, std::optional<int64_t>* end) {
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) return false;
    const std::string_view left = text.substr(0, colon), right = text.substr(colon + 1);
    *begin = parse_natural(left);
    *end = parse_natural(right);
    return (left.empty() || *begin) && (right.empty() || *end);
}

void add_assignments(CLI::App& app, const std::string& flag, std::vector<Assignment>& out, const std::string& help,
                     const std::string& type_name) {
    app.add_option_function<std::vector<std::string>>(
           flag,
           [&out, flag](const std::vector<std::string>& texts) {
               for (const std::string& text : texts) {
                   auto assignment = parse_assignment(text);
                   if (!assignment) throw CLI::ValidationError(flag, "expected NAME=VALUE, found `" + text + "`");
                   out.push_back(std::move(*assignment));
               }
           },
           help)
        ->allow_extra_args(false)
        ->type_name(type_name);
}

}  // namespace

std::optional<Assignment> parse_assignment(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) return std::nullopt;
    return Assignment{text.substr(0, equals), text.substr(equals + 1)};
}

std::optional<std::map<std::string, int64_t>> parse_shape(const std::string& text) {
    std::map<std::string, int64_t> out;
    size_t at = 0;
    while (at <= text.size()) {
        const size_t end = std::min(text.find(',', at), text.size());
        const auto assignment = parse_assignment(text.substr(at, end - at));
        const auto value = assignment ? parse_natural(assignment->value) : std::nullopt;
        if (!value || !out.emplace(assignment->name, *value).second) return std::nullopt;
        at = end + 1;
    }
    return out;
}

std::optional<TileSize> parse_tile(const std::string& text) {
    const size_t x = text.find('x');
    if (x == std::string::npos) return std::nullopt;
    const auto q = parse_natural(std::string_view(text).substr(0, x)), k = parse_natural(std::string_view(text).substr(x + 1));
    if (!q || !k || *q == 0 || *k == 0) return std::nullopt;
    return TileSize{*q, *k};
}

std::optional<ElementRange> parse_range(const std::string& text) {
    ElementRange out;
    const size_t comma = text.find(',');
    if (comma == std::string::npos) return std::nullopt;
    const std::string_view view = text;
    if (!parse_interval(view.substr(0, comma), &out.q_begin, &out.q_end) ||
        !parse_interval(view.substr(comma + 1), &out.k_begin, &out.k_end))
        return std::nullopt;
    return out;
}

void add_file_options(CLI::App& app, InputOptions& options) {
    app.add_option("FILE", options.file, "the .flex file")->required();
    app.add_option("--name", options.name, "which attention of the file, if it declares several")->type_name("NAME");
    add_assignments(app, "-D", options.defines, "value of a `const` parameter, folded at compile time", "NAME=VALUE");
}

void add_files_options(CLI::App& app, std::vector<std::filesystem::path>& files, std::vector<std::string>& names, InputOptions& options) {
    app.add_option("FILE", files, "the .flex file, or several")->required();
    app.add_option("--name", names, "which attention of a file, if it declares several; or several: A,B")
        ->type_name("NAME")
        ->delimiter(',')
        ->allow_extra_args(false);
    add_assignments(app, "-D", options.defines, "value of a `const` parameter, folded at compile time", "NAME=VALUE");
}

void add_value_options(CLI::App& app, InputOptions& options) {
    app.add_option("--in", options.in, "arrays: q, k, v and one for each parameter, by name (.npz, .npy or .safetensors)")
        ->type_name("FILE");
    add_assignments(app, "--set", options.sets, "value of a parameter, before --in: a number, numbers with commas, or an array file",
                    "NAME=VALUE|FILE");
    app.add_option_function<std::string>(
           "--shape",
           [&options](const std::string& text) {
               auto shape = parse_shape(text);
               if (!shape) throw CLI::ValidationError("--shape", "expected extents such as `B=1,H=8,Q=128`, found `" + text + "`");
               options.shape = std::move(*shape);
           },
           "extents where no array gives them; DV=D, K=Q, HKV=H, B=1 and H=1 need not be written")
        ->type_name("B=1,H=8,...");
    app.add_option("--seed", options.seed, "seed of random arrays")->type_name("N");
}

void add_level_option(CLI::App& app, std::optional<flex::CpuLevel>& level) {
    app.add_option_function<std::string>(
           "--level",
           [&level](const std::string& text) {
               using flex::CpuLevel;
               for (CpuLevel each : {CpuLevel::Generic, CpuLevel::Avx2, CpuLevel::Avx512, CpuLevel::Avx512Bf16})
                   if (text == flex::name(each)) level = each;
           },
           "vector level of the CPU target; the highest that this machine has, if absent")
        ->check(CLI::IsMember({"generic", "avx2", "avx512", "avx512-bf16"}));
}

void add_dtype_option(CLI::App& app, std::optional<flex::DType>& dtype) {
    app.add_option_function<std::string>(
           "--dtype",
           [&dtype](const std::string& text) {
               dtype = text == "f16" ? flex::DType::F16 : text == "bf16" ? flex::DType::BF16 : flex::DType::F32;
           },
           "element type of q, k, v and o; that of the array q if absent")
        ->check(CLI::IsMember({"f32", "f16", "bf16"}));
}

}  // namespace flexc::tools
