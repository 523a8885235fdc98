# k < P or (P <= k < P + N and anc[q, clamp(k - P, 0, N - 1)]). Miao et al., "SpecInfer" (2024), section 4.

## Verification of a tree of drafted tokens: every node sees the prefix, and the nodes that anc marks as its ancestors (itself too).
attention tree_decode(anc: bool[N, N], prefix: i32 = 0) {
    mask = k < prefix or (prefix <= k < prefix + N and anc[q, clamp(k - prefix, 0, N - 1)]);
}
