#include "tools/inputs.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <numbers>

#include "tools/io/convert.h"
#include "tools/io/formats.h"

namespace flexc::tools {
namespace {

using diag::Kind;
using io::Array;
using io::FileType;
using Extents = std::vector<std::optional<int64_t>>;

constexpr const char* kBuiltinNames[ir::kBuiltinExtents] = {"B", "H", "HKV", "Q", "K", "D", "DV"};
enum : size_t { kB, kH, kHkv, kQ, kK, kD, kDv };

std::string extent_name(const flex::KernelDesc& desc, size_t id) {
    return id < ir::kBuiltinExtents ? kBuiltinNames[id] : desc.extents[id - ir::kBuiltinExtents];
}

flex::Tensor view(Array& array, flex::DType type) {
    flex::Tensor out;
    // An array without elements still needs an address: null means that it was not given.
    static std::byte nothing[8];
    out.data = array.bytes.empty() ? nothing : array.bytes.data();
    out.dtype = type;
    out.rank = static_cast<int>(array.shape.size());
    int64_t stride = 1;
    for (size_t i = array.shape.size(); i-- > 0;) {
        out.shape[i] = array.shape[i];
        out.stride[i] = stride;
        stride *= array.shape[i];
    }
    return out;
}

bool is_file_name(const std::string& text) {
    return text.ends_with(".npy") || text.ends_with(".npz") || text.ends_with(".safetensors");
}

struct HeldText {
    std::string text;
    std::vector<diag::SourcePart> parts;
    std::map<std::string, int64_t> default_shape;
};
std::map<std::filesystem::path, HeldText>& held_texts() {
    static std::map<std::filesystem::path, HeldText> all;
    return all;
}

/// What a launch reads beside its parameters.
bool is_launch_array(const std::string& name) {
    return name == "q" || name == "k" || name == "v" || name == "do" || name == "dlse" || name == "dmax_score";
}

std::string joined(const std::vector<std::string>& names) {
    std::string out;
    for (const std::string& name : names) out += (out.empty() ? "`" : ", `") + name + "`";
    return out;
}

/// "1, 2, 3" -> one 1-d array; every element in the type of the parameter.
std::optional<Array> parse_list(const std::string& text, flex::DType type) {
    Array out;
    out.type = io::file_type(type);
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(',', at), text.size());
        const auto element = parse_scalar(text.substr(at, end - at), type);
        if (!element) return std::nullopt;
        out.bytes.insert(out.bytes.end(), element->bytes.begin(), element->bytes.end());
        at = end + 1;
    }
    out.shape = {static_cast<int64_t>(out.bytes.size() / size_of(type))};
    return out;
}

}  // namespace

Reach reach(const ir::Attention& attention, const std::vector<ir::NodeId>& roots) {
    const ir::Graph& graph = attention.graph;
    std::vector<bool> seen(graph.size());
    for (ir::NodeId root : roots)
        if (root.valid()) seen[root.value] = true;
    Reach out;
    // Operands have smaller ids than their users.
    for (uint32_t i = static_cast<uint32_t>(graph.size()); i-- > 0;) {
        if (!seen[i]) continue;
        const ir::Node& node = graph[ir::NodeId{i}];
        for (ir::NodeId operand : graph.operands(ir::NodeId{i})) seen[operand.value] = true;
        if (node.op == ir::Op::Load || node.op == ir::Op::Scalar) out.params.insert(node.payload);
        if (node.op == ir::Op::Extent && node.payload >= ir::kBuiltinExtents) out.extents.insert(node.payload);
    }
    return out;
}

Array array_of(const flex::Tensor& tensor) {
    Array out;
    out.type = io::file_type(tensor.dtype);
    out.shape.assign(tensor.shape.begin(), tensor.shape.begin() + tensor.rank);
    out.bytes.resize(static_cast<size_t>(out.count()) * io::size_of(out.type));
    if (!out.bytes.empty()) std::memcpy(out.bytes.data(), tensor.data, out.bytes.size());
    return out;
}

std::string declared_type(const flex::KernelDesc& desc, const flex::ParamDesc& param) {
    std::string text = flex::name(param.dtype);
    if (!param.is_tensor) return text;
    for (size_t i = 0; i < param.dims.size(); ++i) text += (i ? ", " : "[") + desc.dim_text(param.dims[i]);
    return text + "]";
}

std::string array_type(const Array& array) {
    return std::string(io::name(array.type)) + (array.shape.empty() ? "" : io::shape_text(array.shape));
}

std::optional<Array> parse_scalar(const std::string& text, flex::DType type) {
    Array out;
    out.type = io::file_type(type);
    out.bytes.resize(size_of(type));
    std::string trimmed = text;
    trimmed.erase(0, trimmed.find_first_not_of(" \t"));
    trimmed.erase(trimmed.find_last_not_of(" \t") + 1);
    if (trimmed.starts_with('+')) trimmed.erase(0, 1);
    const char* begin = trimmed.data();
    const char* end = begin + trimmed.size();
    if (type == flex::DType::Bool) {
        if (trimmed != "true" && trimmed != "false") return std::nullopt;
        out.bytes[0] = trimmed == "true" ? std::byte{1} : std::byte{0};
        return out;
    }
    Array wide;
    wide.bytes.resize(8);
    if (io::is_float(out.type)) {
        wide.type = FileType::F64;
        double value = 0;
        const auto [stop, error] = std::from_chars(begin, end, value);
        // Too small for a double is 0 or a subnormal, which is what its rounding gives; too large is not a value.
        if (error != std::errc() || stop != end || begin == end) return std::nullopt;
        if (std::isfinite(value) && std::fabs(value) >= 0x1.ffffffp127) return std::nullopt;
        std::memcpy(wide.bytes.data(), &value, sizeof value);
        return io::convert_rounding(wide, out.type);
    }
    wide.type = FileType::I64;
    int64_t value = 0;
    const bool negative = trimmed.starts_with('-');
    const bool hex = trimmed.find("0x") == (negative ? 1U : 0U);
    std::string digits = trimmed;
    if (hex) digits.erase(negative ? 1 : 0, 2);
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hex ? 16 : 10);
    if (error != std::errc() || stop != digits.data() + digits.size()) return std::nullopt;
    std::memcpy(wide.bytes.data(), &value, sizeof value);
    if (io::convert_exact(wide, out.type, &out).kind != io::ConvertFault::Kind::None) return std::nullopt;
    return out;
}

bool fits_in_memory(const std::vector<int64_t>& shape, size_t element_size) {
    const auto bytes = io::checked_bytes(shape, element_size);
    const int64_t pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return bytes && (pages <= 0 || page <= 0 || *bytes <= static_cast<uint64_t>(pages) * static_cast<uint64_t>(page));
}

void report_status(Session& session, const flex::Status& status) {
    if (status.ok()) return;
    if (status.code() == flex::Code::OutOfMemory)
        session.sink.report(Kind::out_of_memory, {});
    else if (status.code() == flex::Code::InvalidArgument)
        session.sink.report(Kind::bad_array, {}, status.text());
    else
        session.sink.report(Kind::cannot_launch, {}, status.text());
}

bool Inputs::load() {
    if (!options_.in.empty()) {
        if (const flex::Status status = io::read(options_.in, &from_file_, &unreadable_); !status.ok()) {
            session_.sink.report(Kind::cannot_read, {}, options_.in.string(), status.text());
            return false;
        }
    }
    bool ok = true;
    for (const Assignment& set : options_.sets) ok = read_set(set) && ok;
    return ok;
}

bool Inputs::read_set(const Assignment& set) {
    from_sets_.erase(set.name);
    set_texts_.erase(set.name);
    if (!is_file_name(set.value)) {
        set_texts_[set.name] = set.value;
        return true;
    }
    io::Arrays arrays;
    if (const flex::Status status = io::read(set.value, &arrays); !status.ok()) {
        session_.sink.report(Kind::cannot_read, {}, set.value, status.text());
        return false;
    }
    auto found = arrays.find(set.name);
    if (found == arrays.end() && arrays.size() == 1) found = arrays.begin();
    if (found == arrays.end()) {
        session_.sink.report(Kind::cannot_read, {}, set.value, "it holds several arrays and none is named `" + set.name + "`");
        return false;
    }
    from_sets_[set.name] = std::move(found->second);
    return true;
}

const Array* Inputs::given(const std::string& name) const {
    if (const auto found = from_sets_.find(name); found != from_sets_.end()) return &found->second;
    const auto found = from_file_.find(name);
    return found == from_file_.end() ? nullptr : &found->second;
}

std::optional<frontend::ConstValues> Inputs::consts(const frontend::Program::AttentionInfo& attention) {
    frontend::ConstValues out;
    bool ok = true;
    const auto from_array = [&](const std::string& name, const Array& array) {
        if (array.shape.empty()) {
            out[name] = io::element_text(array, 0);
            return;
        }
        session_.sink.report(Kind::bad_array, {}, "`" + name + "` is a `const` scalar, got " + array_type(array));
        ok = false;
    };
    for (const std::string& name : attention.const_params) {
        consts_.insert(name);
        if (const auto array = from_file_.find(name); array != from_file_.end()) from_array(name, array->second);
        if (const auto array = from_sets_.find(name); array != from_sets_.end()) from_array(name, array->second);
        if (const auto text = set_texts_.find(name); text != set_texts_.end()) out[name] = text->second;
    }
    for (const Assignment& define : options_.defines) out[define.name] = define.value;
    for (const std::string& name : attention.const_params)
        if (!out.contains(name) && report_unreadable(name)) ok = false;
    return ok ? std::optional(out) : std::nullopt;
}

bool Inputs::check_names(const flex::KernelDesc& desc) {
    std::vector<std::string> names(consts_.begin(), consts_.end());
    for (const flex::ParamDesc& param : desc.params) names.push_back(param.name);
    const auto known = [&](const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); };
    bool ok = true;
    const auto unknown = [&](const std::string& name) {
        auto& report = session_.sink.report(Kind::unknown_parameter, {}, desc.name, name);
        const std::string near = diag::nearest(name, names);
        report.help(!near.empty() ? "did you mean `" + near + "`?" : names.empty() ? "it takes none" : "it takes " + joined(names));
        ok = false;
    };
    for (const Assignment& set : options_.sets) {
        const bool array = is_launch_array(set.name);
        if (array && !from_sets_.contains(set.name)) {
            session_.sink.report(Kind::bad_value, {}, set.value, set.name, "an array file");
            ok = false;
        } else if (!array && !known(set.name)) {
            unknown(set.name);
        }
    }
    for (const auto& [name, value] : options_.shape) {
        std::vector<std::string> extents(std::begin(kBuiltinNames), std::end(kBuiltinNames));
        extents.insert(extents.end(), desc.extents.begin(), desc.extents.end());
        if (std::find(extents.begin(), extents.end(), name) != extents.end()) continue;
        auto& report = session_.sink.report(Kind::unknown_extent, {}, desc.name, name);
        const std::string near = diag::nearest(name, extents);
        report.help(near.empty() ? "it has " + joined(extents) : "did you mean `" + near + "`?");
        ok = false;
    }

    // Reference outputs and extents stand beside the inputs with good reason; any other array was perhaps meant for a parameter.
    std::vector<std::string> unused;
    std::string hint;
    for (const auto& [name, array] : from_file_) {
        static const std::set<std::string> kResults = {"o", "lse", "max_score", "dq", "dk", "dv"};
        const bool gradient = name.starts_with("d_") && known(name.substr(2));
        const bool extent =
            array.shape.empty() && std::find(std::begin(kBuiltinNames), std::end(kBuiltinNames), name) != std::end(kBuiltinNames);
        if (known(name) || is_launch_array(name) || kResults.contains(name) || gradient || extent) continue;
        unused.push_back(name);
        static const std::map<std::string, std::string> kOtherNames = {{"query", "q"}, {"queries", "q"}, {"Q", "q"},
                                                                       {"key", "k"},   {"keys", "k"},    {"K", "k"},
                                                                       {"value", "v"}, {"values", "v"},  {"V", "v"}};
        if (const auto other = kOtherNames.find(name); hint.empty() && other != kOtherNames.end() && !given(other->second))
            hint = "is `" + name + "` meant to be `" + other->second + "`?";
        std::vector<std::string> open;
        for (const std::string& each : names)
            if (!given(each) && !set_texts_.contains(each)) open.push_back(each);
        if (const std::string near = diag::nearest(name, open); hint.empty() && !near.empty())
            hint = "is `" + name + "` meant to be `" + near + "`?";
    }
    if (!unused.empty()) {
        auto& report = session_.sink.report(Kind::unused_array, {}, joined(unused), options_.in.string());
        if (!hint.empty()) report.help(hint);
    }
    return ok;
}

bool Inputs::find_extents(const flex::KernelDesc& desc, Need need, Extents* extents) {
    extents->assign(ir::kBuiltinExtents + desc.extents.size(), std::nullopt);
    const auto fix = [&](size_t id, int64_t value) {
        if (!(*extents)[id]) (*extents)[id] = value;
    };
    for (const auto& [name, ids] : {std::pair{"q", std::array{kB, kH, kQ, kD}}, std::pair{"k", std::array{kB, kHkv, kK, kD}},
                                    std::pair{"v", std::array{kB, kHkv, kK, kDv}}}) {
        const Array* array = given(name);
        if (!array) {
            if (report_unreadable(name)) return false;
            continue;
        }
        if (array->shape.size() != 4) {
            const std::string words = std::string(name) == "q"   ? "[B, H, Q, D]"
                                      : std::string(name) == "k" ? "[B, HKV, K, D]"
                                                                 : "[B, HKV, K, DV]";
            auto& report =
                session_.sink.report(Kind::bad_array, {}, "`" + std::string(name) + "` must be " + words + ", got " + array_type(*array));
            if (array->shape.size() < 4)
                report.help(std::string("in NumPy, `") + name +
                            (array->shape.size() == 3 ? "[None]` adds a batch of 1" : "[None, None]` adds a batch and a head"));
            return false;
        }
        // The batch of k and v may be 1 for any B, so it says nothing.
        for (size_t d = std::string(name) == "q" ? 0 : 1; d < 4; ++d) fix(ids[d], array->shape[d]);
    }
    for (size_t id = 0; id < extents->size(); ++id) {
        const std::string name = extent_name(desc, id);
        const auto shape = options_.shape.find(name);
        if (shape != options_.shape.end()) {
            if ((*extents)[id] && *(*extents)[id] != shape->second) {
                session_.sink.report(Kind::extent_conflict, {}, name, std::to_string(shape->second), std::to_string(*(*extents)[id]));
                return false;
            }
            fix(id, shape->second);
        }
        const Array* scalar = given(name);
        if (id < ir::kBuiltinExtents && scalar && scalar->shape.empty() && io::is_integer(scalar->type)) {
            const double value = io::element(*scalar, 0);
            if (value < 0 || value > INT32_MAX) {
                session_.sink.report(Kind::bad_value, {}, io::element_text(*scalar, 0), name, "an extent");
                return false;
            }
            fix(id, static_cast<int64_t>(value));
        }
    }
    // Captured tensors fix what is still open: doc[Q] gives Q. What they give for a known extent is compared by the runtime.
    for (const flex::ParamDesc& param : desc.params) {
        const Array* array = param.is_tensor ? given(param.name) : nullptr;
        std::optional<Array> list;
        if (const auto text = set_texts_.find(param.name); param.is_tensor && text != set_texts_.end()) {
            list = parse_list(text->second, param.dtype);
            array = list ? &*list : nullptr;
        }
        if (!array || array->shape.size() != param.dims.size()) continue;
        for (size_t d = 0; d < param.dims.size(); ++d) {
            const flex::DimDesc& dim = param.dims[d];
            if (dim.extent < 0 || dim.multiplier == 0) continue;
            const int64_t rest = array->shape[d] - dim.offset;
            if (rest % dim.multiplier == 0 && rest / dim.multiplier >= 0) fix(static_cast<size_t>(dim.extent), rest / dim.multiplier);
        }
    }

    Extents& e = *extents;
    for (const auto& [name, value] : default_shape(options_))
        for (size_t id = 0; id < ir::kBuiltinExtents; ++id)
            if (name == kBuiltinNames[id] && !(id == kQ && e[kK]) && !(id == kH && e[kHkv])) fix(id, value);
    if (!e[kQ] && e[kK] && need == Need::Pictures) e[kQ] = e[kK];
    if (!e[kQ] && need != Need::Pictures && has_attention_arrays()) {
        session_.sink.report(Kind::missing_array, {}, std::string("an attention"), std::string("q"), std::string("[B, H, Q, D]"));
        return false;
    }
    if (!e[kQ]) {
        report_open_extent("Q");
        return false;
    }
    if (!e[kB]) e[kB] = 1;
    if (!e[kH]) e[kH] = e[kHkv] ? *e[kHkv] : 1;
    if (!e[kHkv]) e[kHkv] = e[kH];
    if (!e[kK]) e[kK] = e[kQ];
    if (!e[kD]) e[kD] = 64;
    if (!e[kDv]) e[kDv] = e[kD];
    return true;
}

/// Normal random numbers: the stream depends on the seed and the array's name, not on what else is made.
Array Inputs::random(const std::string& name, std::vector<int64_t> shape) const {
    Array out;
    out.type = FileType::F32;
    out.shape = std::move(shape);
    out.bytes.resize(static_cast<size_t>(out.count()) * sizeof(float));
    uint64_t state = options_.seed * 0x9e3779b97f4a7c15U + 0x1234567;
    for (char c : name) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    const auto uniform = [&] {  // splitmix64, to (0, 1]
        uint64_t z = state += 0x9e3779b97f4a7c15U;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return (static_cast<double>((z ^ (z >> 31)) >> 11) + 1) * 0x1p-53;
    };
    const auto count = static_cast<size_t>(out.count());
    for (size_t i = 0; i < count; i += 2) {  // Box and Muller give two at a time
        const double radius = std::sqrt(-2 * std::log(uniform())), angle = 2 * std::numbers::pi * uniform();
        const float pair[2] = {static_cast<float>(radius * std::cos(angle)), static_cast<float>(radius * std::sin(angle))};
        std::memcpy(out.bytes.data() + i * sizeof(float), pair, std::min<size_t>(2, count - i) * sizeof(float));
    }
    return out;
}

void Inputs::report_open_extent(const std::string& name) {
    session_.sink.report(Kind::extent_open, {}, name).help("give it with `--shape " + name + "=...`, or give the arrays with `--in`");
}

bool Inputs::report_unreadable(const std::string& name) {
    const auto found = unreadable_.find(name);
    if (found == unreadable_.end()) return false;
    session_.sink.report(Kind::cannot_read, {}, options_.in.string(), "array `" + name + "`: " + found->second);
    return true;
}

bool Inputs::bind_qkv(Need need, const Extents& e, std::optional<flex::DType> dtype, Launch* out) {
    const std::array<std::pair<const char*, std::array<size_t, 4>>, 3> arrays = {
        {{"q", {kB, kH, kQ, kD}}, {"k", {kB, kHkv, kK, kD}}, {"v", {kB, kHkv, kK, kDv}}}};
    const bool random_all = need != Need::Pictures && !has_attention_arrays();
    if (need == Need::Pictures && !(given("q") && given("k"))) return true;

    // The type: as asked for, else that of the arrays. f64 is no type of a kernel: it is rounded to the others' type, or f32.
    std::optional<flex::DType> type = dtype;
    for (const auto& [name, ids] : arrays) {
        const Array* array = given(name);
        if (!array) continue;
        if (!io::is_float(array->type)) {
            session_.sink.report(Kind::bad_array, {}, "`" + std::string(name) + "` must be f32, f16 or bf16, got " + array_type(*array));
            return false;
        }
        if (dtype || array->type == FileType::F64) continue;
        const flex::DType here = array->type == FileType::F16    ? flex::DType::F16
                                 : array->type == FileType::BF16 ? flex::DType::BF16
                                                                 : flex::DType::F32;
        if (type && *type != here) {
            session_.sink
                .report(Kind::bad_array, {},
                        "`" + std::string(name) + "` is " + flex::name(here) + ", and the arrays before it are " + flex::name(*type))
                .help(std::string("round all of them to one type with `--dtype ") + flex::name(*type) + "`");
            return false;
        }
        type = here;
    }
    out->dtype = type.value_or(flex::DType::F32);

    for (const auto& [name, ids] : arrays) {
        const Array* array = given(name);
        if (need == Need::Pictures && !array) continue;
        if (!array && !random_all) {
            if (report_unreadable(name)) return false;
            session_.sink.report(Kind::missing_array, {}, std::string("an attention"), std::string(name),
                                 std::string(name) == "q"   ? "[B, H, Q, D]"
                                 : std::string(name) == "k" ? "[B, HKV, K, D]"
                                                            : "[B, HKV, K, DV]");
            return false;
        }
        Array made;
        if (!array) {
            std::vector<int64_t> shape;
            for (size_t id : ids) shape.push_back(*e[id]);
            if (!fits_in_memory(shape, sizeof(float))) {
                session_.sink.report(Kind::out_of_memory, {});
                return false;
            }
            made = random(name, std::move(shape));
            array = &made;
        }
        out->storage.push_back(io::convert_rounding(*array, io::file_type(out->dtype)));
        (name[0] == 'q' ? out->q : name[0] == 'k' ? out->k : out->v) = view(out->storage.back(), out->dtype);
    }
    return true;
}

bool Inputs::asks_for_gradients() const {
    constexpr const char* kLosses[] = {"do", "dlse", "dmax_score"};
    return std::any_of(std::begin(kLosses), std::end(kLosses), [&](const char* name) { return given(name) || unreadable_.contains(name); });
}

bool Inputs::bind_losses(const Extents& e, bool typed, Launch* out) {
    const struct {
        const char* name;
        std::vector<size_t> ids;
        const char* words;
        flex::DType type;
        flex::Tensor& view;
    } losses[] = {{"do", {kB, kH, kQ, kDv}, "[B, H, Q, DV]", out->dtype, out->d_o},
                  {"dlse", {kB, kH, kQ}, "[B, H, Q]", flex::DType::F32, out->d_lse},
                  {"dmax_score", {kB, kH, kQ}, "[B, H, Q]", flex::DType::F32, out->d_max_score}};
    for (const auto& [name, ids, words, type, tensor] : losses) {
        std::vector<int64_t> shape;
        for (const size_t id : ids) shape.push_back(*e[id]);
        const bool is_do = ids.size() == 4;
        Array made;
        if (const Array* array = given(name)) {
            if (!io::is_float(array->type) || array->shape != shape) {
                session_.sink.report(Kind::bad_array, {},
                                     fmt::format("`{}` must be {}{}, which is {} here, got {}", name, is_do ? "floats of " : "f32", words,
                                                 io::shape_text(shape), array_type(*array)));
                return false;
            }
            if (is_do && !typed && array->type != FileType::F64 && array->type != io::file_type(type)) {
                session_.sink
                    .report(Kind::bad_array, {},
                            fmt::format("`do` is {}, and `q`, `k` and `v` are {}", io::name(array->type), flex::name(type)))
                    .help(fmt::format("round all of them to one type with `--dtype {}`", flex::name(type)));
                return false;
            }
            made = io::convert_rounding(*array, io::file_type(type));
        } else if (report_unreadable(name)) {
            return false;
        } else if (!is_do) {
            continue;
        } else if (!fits_in_memory(shape, sizeof(float))) {
            session_.sink.report(Kind::out_of_memory, {});
            return false;
        } else if (given("dlse") || given("dmax_score")) {
            made.type = io::file_type(type);
            made.shape = std::move(shape);
            made.bytes.resize(static_cast<size_t>(made.count()) * io::size_of(made.type));
        } else {
            made = io::convert_rounding(random(name, std::move(shape)), io::file_type(type));
        }
        out->storage.push_back(std::move(made));
        tensor = view(out->storage.back(), type);
    }
    return true;
}

bool Inputs::bind_param(const flex::KernelDesc& desc, uint32_t index, bool needed, bool may_be_random, const Extents& extents,
                        Launch* out) {
    const flex::ParamDesc& param = desc.params[index];
    const FileType wanted = io::file_type(param.dtype);
    Array made;
    if (const auto text = set_texts_.find(param.name); text != set_texts_.end()) {
        auto value = param.is_tensor ? parse_list(text->second, param.dtype) : parse_scalar(text->second, param.dtype);
        if (!value) {
            session_.sink.report(Kind::bad_value, {}, text->second, param.name, "`" + declared_type(desc, param) + "`");
            return false;
        }
        made = std::move(*value);
    } else if (const Array* array = given(param.name)) {
        if (array->shape.size() > flex::kMaxRank) {
            session_.sink.report(Kind::bad_array, {},
                                 "`" + param.name + "` must be " + declared_type(desc, param) + ", got " + array_type(*array));
            return false;
        }
        const io::ConvertFault fault = io::convert_exact(*array, wanted, &made);
        if (fault.kind == io::ConvertFault::Kind::OtherKind) {
            auto& report = session_.sink.report(Kind::array_kind, {}, param.name, array_type(*array), declared_type(desc, param));
            if (wanted == FileType::Bool)
                report.help("store it as bool: `x.astype(bool)` in NumPy");
            else if (io::is_float(wanted) != io::is_float(array->type))
                report.help("integers and floats are not converted into each other; in NumPy, `x.astype(numpy." +
                            std::string(wanted == FileType::F16 ? "float16"
                                        : io::is_float(wanted)  ? "float32"
                                                                : "int32") +
                            ")` does it");
            return false;
        }
        if (fault.kind == io::ConvertFault::Kind::Inexact) {
            const std::string element = param.name + io::index_text(array->shape, fault.at);
            auto& report = session_.sink.report(Kind::inexact_value, {}, element, io::element_text(*array, fault.at),
                                                std::string(flex::name(param.dtype)), array_type(*array));
            if (io::is_float(wanted))
                report.help(std::string("round it where it is made, so that the rounding is yours: `x.astype(numpy.") +
                            (wanted == FileType::F16 ? "float16" : "float32") + ")`");
            return false;
        }
    } else if (needed && report_unreadable(param.name)) {
        return false;
    } else if (param.has_default) {
        return true;  // the runtime knows it
    } else if (needed && !(may_be_random && param.is_tensor && io::is_float(wanted))) {
        if (may_be_random && param.is_tensor) {
            session_.sink.report(Kind::no_values, {}, param.name, desc.name, declared_type(desc, param))
                .note("random numbers are made for float tensors only: an index or a flag made up would mean nothing")
                .help("give it with `--set " + param.name + "=FILE.npy` or in `--in`");
        } else {
            auto& report = session_.sink.report(Kind::missing_array, {}, "`" + desc.name + "`", param.name, declared_type(desc, param));
            report.help("give it in `--in`, or with `--set " + param.name + (param.is_tensor ? "=FILE.npy`" : "=VALUE`"));
        }
        return false;
    } else {
        std::vector<int64_t> shape;
        for (const flex::DimDesc& dim : param.dims) {
            const auto value = dim.extent < 0 ? std::optional<int64_t>(0) : extents[static_cast<size_t>(dim.extent)];
            if (!value && needed) {
                report_open_extent(extent_name(desc, static_cast<size_t>(dim.extent)));
                return false;
            }
            shape.push_back(std::max<int64_t>(0, dim.multiplier * value.value_or(1) + dim.offset));  // not needed: any extent serves
        }
        if (!fits_in_memory(shape, sizeof(float))) {
            session_.sink.report(Kind::out_of_memory, {});
            return false;
        }
        if (needed) {
            made = io::convert_rounding(random(param.name, std::move(shape)), wanted);
            out->made_up.push_back(param.name);
        } else {
            made.type = wanted;
            made.shape = std::move(shape);
            made.bytes.resize(static_cast<size_t>(made.count()) * io::size_of(wanted));
        }
    }
    out->storage.push_back(std::move(made));
    out->args.push_back({param.name, view(out->storage.back(), param.dtype)});
    return true;
}

bool open_source(Session& session, const std::filesystem::path& file) {
    const auto held = held_texts().find(file);
    return held == held_texts().end() ? session.open(file) : session.open_text(file.string(), held->second.text, held->second.parts);
}

void hold_text(const std::filesystem::path& file, std::string text, std::vector<diag::SourcePart> parts,
               std::map<std::string, int64_t> default_shape) {
    held_texts()[file] = {std::move(text), std::move(parts), std::move(default_shape)};
}

const std::map<std::string, int64_t>& default_shape(const InputOptions& options) {
    const auto held = held_texts().find(options.file);
    return options.default_shape.empty() && held != held_texts().end() ? held->second.default_shape : options.default_shape;
}

bool Inputs::bind(const flex::KernelDesc& desc, Need need, const Reach& reached, std::optional<flex::DType> dtype, Launch* out) {
    Extents extents;
    if (!check_names(desc) || !find_extents(desc, need, &extents) || !bind_qkv(need, extents, dtype, out)) return false;
    if (need == Need::Gradients && !bind_losses(extents, dtype.has_value(), out)) return false;
    for (size_t i = 0; i < out->builtin.size(); ++i) out->builtin[i] = static_cast<int32_t>(std::min<int64_t>(*extents[i], INT32_MAX));
    const bool may_be_random = options_.random_params || (need != Need::Pictures && !has_attention_arrays());
    bool ok = true;
    for (uint32_t i = 0; i < desc.params.size(); ++i)
        ok = bind_param(desc, i, reached.params.contains(i), may_be_random, extents, out) && ok;
    for (uint32_t id : reached.extents) {
        if (extents[id]) continue;
        report_open_extent(extent_name(desc, id));
        ok = false;
    }
    if (!ok) return false;
    flex::BoundExtents bound;
    flex::Status status;
    if (need == Need::Pictures) {
        status = flex::bind_args(desc, out->builtin, out->args, &bound);
    } else {  // as a launch does, so that faults are found before a compilation, and whatever the device
        Array o;
        o.shape = {*extents[kB], *extents[kH], *extents[kQ], *extents[kDv]};
        flex::AttentionArrays arrays{out->q, out->k, out->v, view(o, out->dtype)};
        status = flex::bind(desc, arrays, out->args, &bound);
    }
    if (!status.ok()) {
        report_status(session_, status);
        return false;
    }
    out->extents = std::move(bound.values);
    return true;
}

}  // namespace flexc::tools
