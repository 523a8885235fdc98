// Memory semantics that instructions name: .relaxed, .acquire, .release, .acq_rel and a scope.
#pragma once

#include "emulator/machine/decode.h"
#include "emulator/machine/warp.h"

namespace flexemu {

/// Takes .cta, .cluster, .gpu or .sys.
inline AccessKind::Scope take_scope(Decoding& decoding, AccessKind::Scope otherwise) {
    constexpr AccessKind::Scope kScopes[] = {AccessKind::Scope::Cta, AccessKind::Scope::Cluster, AccessKind::Scope::Gpu,
                                             AccessKind::Scope::Sys};
    const int scope = decoding.take_one({"cta", "cluster", "gpu", "sys"});
    return scope < 0 ? otherwise : kScopes[scope];
}

}  // namespace flexemu
