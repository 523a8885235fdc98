#include "runtime/cuda/tensor_maps.h"

#include "runtime/cuda/plan_parts.h"

namespace flex::cuda {
namespace {

// Of CUtensorMapDataType, CUtensorMapSwizzle and CUtensorMapL2promotion.
constexpr int kTypeF16 = 6, kTypeF32 = 7, kTypeBf16 = 9;
constexpr int kSwizzleNone = 0, kSwizzle32 = 1, kSwizzle64 = 2, kSwizzle128 = 3;
constexpr int kPromote128 = 2;

constexpr uint64_t kUnit = 16;  // of addresses and strides
constexpr uint64_t kMostExtent = uint64_t{1} << 32, kMostStride = (uint64_t{1} << 40) - 1;
constexpr uint32_t kMostBox = 256;

int type_of(DType type) {
    return type == DType::F16 ? kTypeF16 : type == DType::BF16 ? kTypeBf16 : kTypeF32;
}

/// A swizzle of spans of so many bytes.
int swizzle_of(uint64_t bytes) {
    switch (bytes) {
        case 128: return kSwizzle128;
        case 64: return kSwizzle64;
        case 32: return kSwizzle32;
        default: return kSwizzleNone;
    }
}

bool is_mappable(const Tensor& t) {
    if (!t.data || reinterpret_cast<uint64_t>(t.data) % kUnit != 0) return false;
    const auto size = static_cast<uint64_t>(size_of(t.dtype));
    for (size_t i = 0; i < MapRequest::kRank; ++i) {
        if (t.shape[i] < 1 || static_cast<uint64_t>(t.shape[i]) > kMostExtent) return false;
        if (i == MapRequest::kRank - 1) return t.shape[i] == 1 || t.stride[i] == 1;
        // Steps back and arrays whose elements are repeated have no map.
        if (t.shape[i] > 1 && (t.stride[i] < 1 || static_cast<uint64_t>(t.stride[i]) > kMostStride / size)) return false;
        if (t.shape[i] > 1 && static_cast<uint64_t>(t.stride[i]) * size % kUnit != 0) return false;
    }
    return true;
}

/// Of [B, heads, N, columns]: `order` names the array's dimensions behind the columns.
MapRequest request(const Tensor& t, const std::array<size_t, 3>& order, const std::array<uint32_t, 4>& box, int swizzle) {
    const auto size = static_cast<uint64_t>(size_of(t.dtype));
    MapRequest out;
    out.type = type_of(t.dtype);
    out.address = reinterpret_cast<uint64_t>(t.data);
    out.extents[0] = static_cast<uint64_t>(t.shape[3]);
    for (size_t i = 0; i < order.size(); ++i) {
        const size_t dim = order[i];
        out.extents[i + 1] = static_cast<uint64_t>(t.shape[dim]);
        // The step along an extent of 1 means nothing, and may be any number in the array: a legal one takes its place.
        out.strides[i] =
            t.shape[dim] > 1 ? static_cast<uint64_t>(t.stride[dim]) * size : (out.extents[0] * size + kUnit - 1) / kUnit * kUnit;
    }
    out.box = box;
    out.swizzle = swizzle;
    return out;
}

/// Ok with *made = 0 where the driver finds the arrays unfit.
Status encode(const Driver& driver, const MapRequest& request, flex_gpu_tensor_map* out, int32_t* made) {
    constexpr uint32_t kEvery[MapRequest::kRank] = {1, 1, 1, 1};
    constexpr int kNoInterleave = 0, kFillZeros = 0;
    const int result = driver.tensor_map_encode(out, request.type, MapRequest::kRank, reinterpret_cast<void*>(request.address),
                                                request.extents.data(), request.strides.data(), request.box.data(), kEvery, kNoInterleave,
                                                request.swizzle, kPromote128, kFillZeros);
    *made = result == kSuccess;
    return result == kInvalidValue ? Status() : driver.check(result, "cuTensorMapEncodeTiled");
}

}  // namespace

bool are_mappable(const AttentionArrays& a) {
    return rows_are_aligned(a.q) && rows_are_aligned(a.k) && rows_are_aligned(a.v) && is_mappable(a.q) && is_mappable(a.k) &&
           is_mappable(a.v) && is_mappable(a.o);
}

bool map_requests(const Problem& problem, const Plan& plan, MapRequests* out) {
    const AttentionArrays& a = problem.arrays;
    const flex_gpu_image& image = *plan.image;
    if (!are_mappable(a) || kMapRows % plan.pack != 0 || image.tile_k > static_cast<int32_t>(kMostBox)) return false;
    const auto columns = static_cast<uint32_t>(image.map_columns), pack = static_cast<uint32_t>(plan.pack);
    const int swizzle = swizzle_of(columns * size_of(a.q.dtype));
    const std::array<size_t, 3> heads_inside{1, 2, 0}, rows_inside{2, 1, 0};  // of [B, heads, N, columns]
    const std::array<uint32_t, 4> rows{columns, pack, static_cast<uint32_t>(kMapRows) / pack, 1};
    const std::array<uint32_t, 4> keys{columns, static_cast<uint32_t>(image.tile_k), 1, 1};
    out->q = request(a.q, heads_inside, rows, swizzle);
    out->o = request(a.o, heads_inside, rows, swizzle);
    out->k = request(a.k, rows_inside, keys, swizzle);
    out->v = request(a.v, rows_inside, keys, swizzle);
    return true;
}

Status make_tensors(const Driver& driver, const Problem& problem, const CudaOptions& options, const Plan& plan, flex_gpu_tensors* out) {
    *out = {};
    out->next_work = plan.next_work_words > 0 ? reinterpret_cast<uint64_t>(options.workspace) + plan.next_work : 0;
    out->work = static_cast<int32_t>(plan.work);
    MapRequests requests;
    out->is_mapped = driver.tensor_map_encode && map_requests(problem, plan, &requests);
    const std::pair<const MapRequest*, flex_gpu_tensor_map*> all[] = {
        {&requests.q, &out->q}, {&requests.k, &out->k}, {&requests.v, &out->v}, {&requests.o, &out->o}};
    for (const auto& [from, to] : all)
        if (out->is_mapped)
            if (Status status = encode(driver, *from, to, &out->is_mapped); !status.ok()) return status;
    return {};
}

}  // namespace flex::cuda
