#include "backend/nvptx/compile.h"

// The assembler reads the files, so that megabytes of array initialisers need not be compiled.
#define FLEX_EMBED(name)                                                        \
    __asm__(                                                                    \
        ".section .rodata\n"                                                    \
        ".balign 16\n"                                                          \
        "flexc_" #name                                                          \
        ":\n"                                                                   \
        ".incbin \"" FLEXC_BITCODE_DIR "/" #name                                \
        ".bc\"\n"                                                               \
        "flexc_" #name                                                          \
        "_end:\n"                                                               \
        ".previous\n");                                                         \
    extern "C" const char flexc_##name[] __attribute__((visibility("hidden"))); \
    extern "C" const char flexc_##name##_end[] __attribute__((visibility("hidden")));
#define FLEX_INSTANCE(name, element, d, dv, tile_q, tile_k, warps, slots, shared_bytes) FLEX_EMBED(name)
#include "backend/skeletons/nvptx/instances.def"
#undef FLEX_INSTANCE
#define FLEX_INSTANCE_SM90A(name, element, d, dv, tile_q, tile_k, consumers, stages, map_columns, shared_bytes) FLEX_EMBED(name)
#include "backend/skeletons/nvptx/instances_sm90a.def"
#undef FLEX_INSTANCE_SM90A
#define FLEX_BACKWARD_INSTANCE(name, element, d, dv, tile_q, tile_k, query_warps, key_warps, query_bytes, key_bytes) FLEX_EMBED(name)
#include "backend/skeletons/nvptx/backward_instances.def"
#undef FLEX_BACKWARD_INSTANCE

namespace flexc::nvptx {

namespace {

enum class Element { F16, BF16, F32, TF32 };

flex::DType dtype(Element element) {
    switch (element) {
        case Element::F16: return flex::DType::F16;
        case Element::BF16: return flex::DType::BF16;
        case Element::F32:
        case Element::TF32: break;
    }
    return flex::DType::F32;
}

constexpr int kShortTile = 16;  // instances for few queries have tiles of one stripe of rows

}  // namespace

const std::vector<Instance>& instances() {
    static const std::vector<Instance> all = {
#define FLEX_INSTANCE(name, element, d, dv, tile_q, tile_k, warps, slots, shared_bytes) \
    {#name,                                                                             \
     Arch::Sm80,                                                                        \
     dtype(Element::element),                                                           \
     Element::element == Element::TF32,                                                 \
     d,                                                                                 \
     dv,                                                                                \
     tile_q,                                                                            \
     tile_k,                                                                            \
     warps,                                                                             \
     slots,                                                                             \
     0,                                                                                 \
     shared_bytes,                                                                      \
     std::string_view(flexc_##name, size_t(flexc_##name##_end - flexc_##name))},
#include "backend/skeletons/nvptx/instances.def"
#undef FLEX_INSTANCE
#define FLEX_INSTANCE_SM90A(name, element, d, dv, tile_q, tile_k, consumers, stages, map_columns, shared_bytes) \
    {#name,                                                                                                     \
     Arch::Sm90a,                                                                                               \
     dtype(Element::element),                                                                                   \
     Element::element == Element::TF32,                                                                         \
     d,                                                                                                         \
     dv,                                                                                                        \
     tile_q,                                                                                                    \
     tile_k,                                                                                                    \
     4 * (consumers + 1),                                                                                       \
     stages,                                                                                                    \
     map_columns,                                                                                               \
     shared_bytes,                                                                                              \
     std::string_view(flexc_##name, size_t(flexc_##name##_end - flexc_##name))},
#include "backend/skeletons/nvptx/instances_sm90a.def"
#undef FLEX_INSTANCE_SM90A
    };
    return all;
}

const std::vector<BackwardInstance>& backward_instances() {
    static const std::vector<BackwardInstance> all = {
#define FLEX_BACKWARD_INSTANCE(name, element, d, dv, tile_q, tile_k, query_warps, key_warps, query_bytes, key_bytes) \
    {#name,                                                                                                          \
     Arch::Sm80,                                                                                                     \
     dtype(Element::element),                                                                                        \
     Element::element == Element::TF32,                                                                              \
     d,                                                                                                              \
     dv,                                                                                                             \
     tile_q,                                                                                                         \
     tile_k,                                                                                                         \
     query_warps,                                                                                                    \
     key_warps,                                                                                                      \
     query_bytes,                                                                                                    \
     key_bytes,                                                                                                      \
     std::string_view(flexc_##name, size_t(flexc_##name##_end - flexc_##name))},
#include "backend/skeletons/nvptx/backward_instances.def"
#undef FLEX_BACKWARD_INSTANCE
    };
    return all;
}

namespace {

/// The smallest class that fits; tf32 where it is allowed and there is one. `suits`: what else is asked of an instance.
template <typename Each, typename Suits>
const Each* smallest(const std::vector<Each>& all, const Options& options, const Suits& suits) {
    const auto of = [&](bool tf32) {
        const Each* best = nullptr;
        for (const Each& each : all) {
            if (each.dtype != options.dtype || each.tf32 != tf32 || !suits(each)) continue;
            if (each.head_dim < options.head_dim || each.v_head_dim < options.v_head_dim) continue;
            if (!best || each.head_dim + each.v_head_dim < best->head_dim + best->v_head_dim) best = &each;
        }
        return best;
    };
    const Each* const best = options.allow_tf32 && options.dtype == flex::DType::F32 ? of(true) : nullptr;
    return best ? best : of(false);
}

}  // namespace

const Instance* choose(const Options& options) {
    if (!options.instance.empty())
        return smallest(instances(), options, [&](const Instance& each) { return each.name == options.instance; });
    const auto of = [&](Arch arch) {
        return smallest(instances(), options,
                        [&](const Instance& each) { return each.arch == arch && (each.tile_q == kShortTile) == options.short_queries; });
    };
    const Instance* const own = of(options.arch);
    return own ? own : of(Arch::Sm80);
}

const BackwardInstance* choose_backward(const Options& options) {
    return smallest(backward_instances(), options, [](const BackwardInstance&) { return true; });
}

}  // namespace flexc::nvptx
