#include "backend/nvptx/compile.h"

// The assembler reads the files, so that megabytes of array initialisers need not be compiled.
#define FLEX_INSTANCE(name, element, d, dv, tile_q, tile_k, warps, slots, shared_bytes) \
    __asm__(                                                                            \
        ".section .rodata\n"                                                            \
        ".balign 16\n"                                                                  \
        "flexc_" #name                                                                  \
        ":\n"                                                                           \
        ".incbin \"" FLEXC_BITCODE_DIR "/" #name                                        \
        ".bc\"\n"                                                                       \
        "flexc_" #name                                                                  \
        "_end:\n"                                                                       \
        ".previous\n");                                                                 \
    extern "C" const char flexc_##name[] __attribute__((visibility("hidden")));         \
    extern "C" const char flexc_##name##_end[] __attribute__((visibility("hidden")));
#include "backend/skeletons/nvptx/instances.def"
#undef FLEX_INSTANCE

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
     shared_bytes,                                                                      \
     std::string_view(flexc_##name, size_t(flexc_##name##_end - flexc_##name))},
#include "backend/skeletons/nvptx/instances.def"
#undef FLEX_INSTANCE
    };
    return all;
}

const Instance* choose(const Options& options) {
    const auto smallest = [&](bool tf32) {
        const Instance* best = nullptr;
        for (const Instance& each : instances()) {
            if (each.arch != options.arch || each.dtype != options.dtype || each.tf32 != tf32) continue;
            if ((each.tile_q == kShortTile) != options.short_queries) continue;
            if (each.head_dim < options.head_dim || each.v_head_dim < options.v_head_dim) continue;
            if (!best || each.head_dim + each.v_head_dim < best->head_dim + best->v_head_dim) best = &each;
        }
        return best;
    };
    const Instance* const best = options.allow_tf32 && options.dtype == flex::DType::F32 ? smallest(true) : nullptr;
    return best ? best : smallest(false);
}

}  // namespace flexc::nvptx
