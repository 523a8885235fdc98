// What a launch is given against what the attention declares: ranks, types, extents, strides, names.
#include <cstring>
#include <limits>

#include "runtime/launch.h"

namespace flex {
namespace {

constexpr int kBuiltins = 7;
constexpr const char* kBuiltinNames[kBuiltins] = {"B", "H", "HKV", "Q", "K", "D", "DV"};
constexpr int64_t kMaxHeadDim = 512;

Status invalid(std::string text) {
    return Status(Code::InvalidArgument, std::move(text));
}

std::string text_of(const Tensor& t) {
    std::string text = name(t.dtype);
    if (t.rank == 0) return text;
    text += '[';
    for (int i = 0; i < t.rank; ++i) {
        if (i) text += ", ";
        text += std::to_string(t.shape[static_cast<size_t>(i)]);
    }
    return text + ']';
}

std::string declared(const KernelDesc& desc, const ParamDesc& param) {
    std::string text = name(param.dtype);
    if (!param.is_tensor) return text;
    text += '[';
    for (size_t i = 0; i < param.dims.size(); ++i) {
        if (i) text += ", ";
        text += desc.dim_text(param.dims[i]);
    }
    return text + ']';
}

bool is_empty(const Tensor& t) {
    for (int i = 0; i < t.rank; ++i)
        if (t.shape[static_cast<size_t>(i)] == 0) return true;
    return false;
}

/// Checks of a view that need no declaration.
Status check_view(const std::string& what, const Tensor& t) {
    if (t.rank < 0 || t.rank > kMaxRank)
        return invalid(what + " has rank " + std::to_string(t.rank) + "; at most " + std::to_string(kMaxRank) + " is supported");
    for (int i = 0; i < t.rank; ++i) {
        const int64_t extent = t.shape[static_cast<size_t>(i)];
        if (extent < 0 || extent > std::numeric_limits<int32_t>::max())
            return invalid(what + " is " + text_of(t) + ": extent " + std::to_string(extent) + " is not in [0, 2^31)");
    }
    if (!t.data && !is_empty(t)) return invalid(what + " is " + text_of(t) + " without data");
    return {};
}

/// One of q, k, v, o, lse, max_score. `shape` in words; extents are checked by the caller.
Status check_array(const char* what, const Tensor& t, int rank, const char* shape, DType type) {
    const std::string label = "`" + std::string(what) + "`";
    if (Status status = check_view(label, t); !status.ok()) return status;
    if (t.rank != rank || t.dtype != type) return invalid(label + " must be " + name(type) + shape + ", got " + text_of(t));
    return {};
}

Status check_contiguous(const char* what, const Tensor& t) {
    const auto last = static_cast<size_t>(t.rank - 1);
    if (t.shape[last] > 1 && t.stride[last] != 1)
        return invalid("`" + std::string(what) + "` must be contiguous in its last dimension, got stride " +
                       std::to_string(t.stride[last]));
    return {};
}

/// An array that is written may not hold one element under two indices, as far as zero strides show it.
Status check_written(const char* what, const Tensor& t) {
    for (int i = 0; i < t.rank; ++i)
        if (t.shape[static_cast<size_t>(i)] > 1 && t.stride[static_cast<size_t>(i)] == 0 && !is_empty(t))
            return invalid("`" + std::string(what) + "` is written and may not have stride 0 (dimension " + std::to_string(i) + ")");
    return {};
}

/// An extent of one array that another has fixed.
Status check_extent(const char* what, const Tensor& t, size_t dim, const char* extent, int64_t value, const char* source) {
    if (t.shape[dim] == value) return {};
    return invalid("`" + std::string(what) + "` is " + text_of(t) + ": dimension " + std::to_string(dim) + " must be " + extent + " = " +
                   std::to_string(value) + " as in `" + source + "`");
}

/// Free extents while they are being solved, and who said so.
struct Solver {
    const KernelDesc& desc;
    std::vector<int64_t> values;  // -1: not yet known
    std::vector<std::string> sources;

    [[nodiscard]] int64_t value(const DimDesc& dim) const {
        return dim.extent < 0 ? dim.offset : static_cast<int64_t>(dim.multiplier) * values[static_cast<size_t>(dim.extent)] + dim.offset;
    }

    Status match(const ParamDesc& param, const Tensor& t) {
        const auto label = "`" + param.name + "`";
        const auto want = " must be " + declared(desc, param);
        if (t.rank != static_cast<int>(param.dims.size())) return invalid(label + want + ", got " + text_of(t));
        for (size_t i = 0; i < param.dims.size(); ++i) {
            const DimDesc& dim = param.dims[i];
            const int64_t given = t.shape[i];
            if (dim.extent >= 0 && values[static_cast<size_t>(dim.extent)] < 0 && dim.multiplier != 0) {
                const int64_t rest = given - dim.offset;
                const int64_t solved = rest / dim.multiplier;
                if (rest % dim.multiplier != 0 || solved < 0 || solved > std::numeric_limits<int32_t>::max())
                    return invalid(label + want + ", got " + text_of(t) + ": no " + extent_name(dim.extent) + " gives " +
                                   desc.dim_text(dim) + " = " + std::to_string(given));
                values[static_cast<size_t>(dim.extent)] = solved;
                sources[static_cast<size_t>(dim.extent)] = param.name;
                continue;
            }
            const int64_t expected = value(dim);
            if (given == expected) continue;
            std::string reason = "dimension " + std::to_string(i) + " must be " + desc.dim_text(dim);
            if (dim.extent >= 0) {
                if (dim.multiplier != 1 || dim.offset != 0) reason += " = " + std::to_string(expected) + ", with";
                reason += (dim.multiplier != 1 || dim.offset != 0 ? " " + extent_name(dim.extent) : std::string()) + " = " +
                          std::to_string(values[static_cast<size_t>(dim.extent)]);
                const std::string& source = sources[static_cast<size_t>(dim.extent)];
                if (!source.empty()) reason += " as in `" + source + "`";
            }
            return invalid(label + want + ", got " + text_of(t) + ": " + reason);
        }
        return {};
    }

    [[nodiscard]] std::string extent_name(int32_t extent) const {
        return extent < kBuiltins ? kBuiltinNames[extent] : desc.extents[static_cast<size_t>(extent - kBuiltins)];
    }
};

const Argument* find(const std::vector<Argument>& args, const std::string& wanted) {
    for (const Argument& arg : args)
        if (arg.name == wanted) return &arg;
    return nullptr;
}

Status check_names(const KernelDesc& desc, const std::vector<Argument>& args) {
    for (size_t i = 0; i < args.size(); ++i) {
        for (size_t j = 0; j < i; ++j)
            if (args[j].name == args[i].name) return invalid("argument `" + args[i].name + "` is given twice");
        bool known = false;
        std::string names;
        for (const ParamDesc& param : desc.params) {
            known = known || param.name == args[i].name;
            names += (names.empty() ? "`" : ", `") + param.name + "`";
        }
        if (known) continue;
        return invalid("`" + desc.name + "` has no parameter `" + args[i].name + "`; " +
                       (names.empty() ? "it takes none" : "it takes " + names));
    }
    return {};
}

Status check_rules(const Solver& solver) {
    for (const ExtentRule& rule : solver.desc.rules) {
        const int64_t left = solver.value(rule.left), right = solver.value(rule.right);
        if (left == right) continue;
        std::string text = solver.desc.dim_text(rule.left) + " must equal " + solver.desc.dim_text(rule.right) + ", got " +
                           std::to_string(left) + " and " + std::to_string(right);
        if (!rule.reason.empty()) text += " (" + rule.reason + ")";
        return invalid(std::move(text));
    }
    return {};
}

Status check_captured_gradient(const KernelDesc& desc, const std::vector<Argument>& d_params, size_t index, const BoundExtents& extents) {
    const Argument& given = d_params[index];
    const std::string label = "`d_" + given.name + "`";
    for (size_t i = 0; i < index; ++i)
        if (d_params[i].name == given.name) return invalid(label + " is given twice");
    const ParamDesc* param = nullptr;
    std::string names;
    for (const ParamDesc& candidate : desc.params) {
        if (candidate.name == given.name) param = &candidate;
        if (candidate.grad) names += (names.empty() ? "`d_" : ", `d_") + candidate.name + "`";
    }
    if (!param || !param->grad)
        return invalid("there is no " + label + ": `" + desc.name + "` " +
                       (param ? "does not mark its parameter `" + given.name + "` with `grad`" : "has no parameter `" + given.name + "`") +
                       (names.empty() ? std::string() : "; it gives " + names));
    const Tensor& t = given.value;
    if (Status status = check_view(label, t); !status.ok()) return status;
    bool fits = t.dtype == DType::F32 && t.rank == static_cast<int>(param->dims.size());
    int64_t dense = 1;
    for (size_t i = param->dims.size(); fits && i-- > 0;) {
        const DimDesc& dim = param->dims[i];
        const int64_t extent =
            dim.extent < 0 ? dim.offset : int64_t{dim.multiplier} * extents.values[static_cast<size_t>(dim.extent)] + dim.offset;
        fits = t.shape[i] == extent && (extent <= 1 || is_empty(t) || t.stride[i] == dense);
        dense *= extent;
    }
    if (fits) return {};
    std::string shape;
    for (const DimDesc& dim : param->dims) shape += (shape.empty() ? "[" : ", ") + desc.dim_text(dim);
    return invalid(label + " must be dense f32" + shape + "] like `" + given.name + "`, got " + text_of(t));
}

}  // namespace

std::string KernelDesc::dim_text(const DimDesc& dim) const {
    if (dim.extent < 0) return std::to_string(dim.offset);
    std::string text =
        dim.extent < kBuiltins ? std::string(kBuiltinNames[dim.extent]) : extents[static_cast<size_t>(dim.extent - kBuiltins)];
    if (dim.multiplier != 1) text = std::to_string(dim.multiplier) + " * " + text;
    if (dim.offset > 0) text += " + " + std::to_string(dim.offset);
    if (dim.offset < 0) text += " - " + std::to_string(-dim.offset);
    return text;
}

Status bind_args(const KernelDesc& desc, const std::array<int32_t, 7>& builtin, const std::vector<Argument>& args, BoundExtents* extents) {
    if (Status status = check_names(desc, args); !status.ok()) return status;
    for (size_t i = 0; i < builtin.size(); ++i)
        if (builtin[i] < 0) return invalid(std::string(kBuiltinNames[i]) + " = " + std::to_string(builtin[i]) + " is negative");
    const int32_t heads = builtin[1], kv_heads = builtin[2];
    if (kv_heads == 0 ? heads != 0 : heads % kv_heads != 0)
        return invalid("H = " + std::to_string(heads) + " must be a multiple of HKV = " + std::to_string(kv_heads));

    Solver solver{desc, std::vector<int64_t>(kBuiltins + desc.extents.size(), -1),
                  std::vector<std::string>(kBuiltins + desc.extents.size())};
    for (size_t i = 0; i < builtin.size(); ++i) solver.values[i] = builtin[i];
    for (const ParamDesc& param : desc.params) {
        const Argument* arg = find(args, param.name);
        const std::string label = "`" + param.name + "`";
        if (!arg) {
            if (param.has_default) continue;
            return invalid("`" + desc.name + "` needs " + label + ", a" + (declared(desc, param)[0] == 'i' ? "n " : " ") +
                           declared(desc, param));
        }
        if (Status status = check_view(label, arg->value); !status.ok()) return status;
        if (arg->value.dtype != param.dtype || (arg->value.rank == 0) == param.is_tensor)
            return invalid(label + " must be " + declared(desc, param) + ", got " + text_of(arg->value));
        if (!param.is_tensor) continue;
        if (Status status = solver.match(param, arg->value); !status.ok()) return status;
    }
    for (size_t i = kBuiltins; i < solver.values.size(); ++i)
        if (solver.values[i] < 0) return invalid("nothing given fixes the extent " + solver.extent_name(static_cast<int32_t>(i)));
    if (Status status = check_rules(solver); !status.ok()) return status;

    extents->values.resize(solver.values.size());
    for (size_t i = 0; i < solver.values.size(); ++i) extents->values[i] = static_cast<int32_t>(solver.values[i]);
    return {};
}

Status bind(const KernelDesc& desc, const AttentionArrays& arrays, const std::vector<Argument>& args, BoundExtents* extents) {
    const Tensor &q = arrays.q, &k = arrays.k, &v = arrays.v, &o = arrays.o;
    if (q.dtype != DType::F32 && q.dtype != DType::F16 && q.dtype != DType::BF16)
        return invalid("`q` must be f32, f16 or bf16[B, H, Q, D], got " + text_of(q));
    for (const Status& status : {check_array("q", q, 4, "[B, H, Q, D]", q.dtype), check_array("k", k, 4, "[B, HKV, K, D]", q.dtype),
                                 check_array("v", v, 4, "[B, HKV, K, DV]", q.dtype), check_array("o", o, 4, "[B, H, Q, DV]", q.dtype)})
        if (!status.ok()) return status;
    for (const Status& status :
         {check_contiguous("q", q), check_contiguous("k", k), check_contiguous("v", v), check_contiguous("o", o), check_written("o", o)})
        if (!status.ok()) return status;

    const auto check_batch = [&](const char* what, const Tensor& t) -> Status {
        if (t.shape[0] == 1 || t.shape[0] == q.shape[0]) return {};
        return invalid("`" + std::string(what) + "` is " + text_of(t) + ": its batch must be 1 or B = " + std::to_string(q.shape[0]) +
                       " as in `q`");
    };
    for (const Status& status : {check_batch("k", k), check_batch("v", v), check_extent("k", k, 3, "D", q.shape[3], "q"),
                                 check_extent("v", v, 1, "HKV", k.shape[1], "k"), check_extent("v", v, 2, "K", k.shape[2], "k"),
                                 check_extent("o", o, 0, "B", q.shape[0], "q"), check_extent("o", o, 1, "H", q.shape[1], "q"),
                                 check_extent("o", o, 2, "Q", q.shape[2], "q"), check_extent("o", o, 3, "DV", v.shape[3], "v")})
        if (!status.ok()) return status;

    const struct {
        const char* name;
        const Tensor& tensor;
    } statistics[] = {{"lse", arrays.lse}, {"max_score", arrays.max_score}};
    for (const auto& [what, t] : statistics) {
        if (!t.data) continue;
        for (const Status& status : {check_array(what, t, 3, "[B, H, Q]", DType::F32), check_written(what, t)})
            if (!status.ok()) return status;
        for (const Status& status : {check_extent(what, t, 0, "B", q.shape[0], "q"), check_extent(what, t, 1, "H", q.shape[1], "q"),
                                     check_extent(what, t, 2, "Q", q.shape[2], "q")})
            if (!status.ok()) return status;
    }

    const struct {
        const char* name;
        const char* array;
        int64_t value;
    } head_dims[] = {{"D", "q", q.shape[3]}, {"DV", "v", v.shape[3]}};
    for (const auto& [extent, array, value] : head_dims)
        if (value < 1 || value > kMaxHeadDim)
            return Status(Code::Unsupported, std::string("the head dimension ") + extent + " = " + std::to_string(value) + " of `" + array +
                                                 "` is not in [1, 512]");

    std::array<int32_t, 7> builtin{};
    const int64_t values[] = {q.shape[0], q.shape[1], k.shape[1], q.shape[2], k.shape[2], q.shape[3], v.shape[3]};
    for (size_t i = 0; i < builtin.size(); ++i) builtin[i] = static_cast<int32_t>(values[i]);
    return bind_args(desc, builtin, args, extents);
}

Status bind_gradients(const KernelDesc& desc, const AttentionArrays& arrays, const GradientArrays& gradients, const BoundExtents& extents) {
    const struct {
        const char* name;
        const Tensor& tensor;
        const char* shape;
        const char* like;
        const Tensor& model;
        bool written;
    } all[] = {{"do", gradients.d_o, "[B, H, Q, DV]", "o", arrays.o, false},
               {"dq", gradients.dq, "[B, H, Q, D]", "q", arrays.q, true},
               {"dk", gradients.dk, "[B, HKV, K, D]", "k", arrays.k, true},
               {"dv", gradients.dv, "[B, HKV, K, DV]", "v", arrays.v, true}};
    for (const auto& [what, t, shape, like, model, written] : all) {
        if (!t.data && t.rank == 0)
            return invalid("the backward pass needs `" + std::string(what) + "`, " + name(model.dtype) + shape);
        if (Status status = check_array(what, t, 4, shape, model.dtype); !status.ok()) return status;
        if (Status status = check_contiguous(what, t); !status.ok()) return status;
        for (size_t i = 0; i < 4; ++i)
            if (t.shape[i] != model.shape[i])
                return invalid("`" + std::string(what) + "` is " + text_of(t) + " and must have the shape of `" + like + "`, " +
                               text_of(model));
        if (!written) continue;
        if (Status status = check_written(what, t); !status.ok()) return status;
    }
    if (!arrays.lse.data && !is_empty(arrays.o)) return invalid("the backward pass needs `lse`, as the forward pass gave it");
    const struct {
        const char* name;
        const Tensor& tensor;
    } rows[] = {{"dlse", gradients.d_lse}, {"dmax_score", gradients.d_max_score}};
    for (const auto& [what, t] : rows) {
        if (!t.data) continue;
        if (Status status = check_array(what, t, 3, "[B, H, Q]", DType::F32); !status.ok()) return status;
        for (const Status& status :
             {check_extent(what, t, 0, "B", arrays.q.shape[0], "q"), check_extent(what, t, 1, "H", arrays.q.shape[1], "q"),
              check_extent(what, t, 2, "Q", arrays.q.shape[2], "q")})
            if (!status.ok()) return status;
    }
    for (size_t i = 0; i < gradients.d_params.size(); ++i)
        if (Status status = check_captured_gradient(desc, gradients.d_params, i, extents); !status.ok()) return status;
    return {};
}

Status pack(const KernelDesc& desc, const BoundExtents& extents, const std::vector<Argument>& args, PackedArgs* out) {
    out->extents = extents.values;
    out->scalars.assign(desc.params.size(), 0);
    out->tensors.assign(desc.params.size(), flex_tensor{});
    for (size_t i = 0; i < desc.params.size(); ++i) {
        const ParamDesc& param = desc.params[i];
        const Argument* arg = find(args, param.name);
        if (!arg) {
            if (!param.has_default) return invalid("`" + desc.name + "` needs `" + param.name + "`");
            out->scalars[i] = param.default_bits;
        } else if (param.is_tensor) {
            flex_tensor& tensor = out->tensors[i];
            tensor.data = arg->value.data;
            for (size_t d = 0; d < static_cast<size_t>(arg->value.rank); ++d) {
                tensor.stride[d] = arg->value.stride[d];
                tensor.dim[d] = static_cast<int32_t>(arg->value.shape[d]);
            }
        } else if (param.dtype == DType::Bool) {
            uint8_t value = 0;
            std::memcpy(&value, arg->value.data, sizeof value);
            out->scalars[i] = value != 0;
        } else {
            std::memcpy(&out->scalars[i], arg->value.data, sizeof(uint32_t));
        }
    }
    out->c = {out->extents.data(), out->scalars.data(), out->tensors.data(), nullptr};
    return {};
}

}  // namespace flex
