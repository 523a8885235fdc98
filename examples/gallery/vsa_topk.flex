# any(j: topk[b, h, q // t, j] == k // t) and k % t < size[k // t]. Zhang et al., "Faster Video Diffusion with Trainable Sparse Attention" (VSA, 2025).

## The fine pass of VSA: each query tile attends to the KV tiles chosen for it, of which size[j] tokens are real.
attention vsa_topk(topk: i32[B, H, Qt, J], size: i32[Kt], tile: i32 = 64) {
    mask = any(j in 0..J: topk[b, h, q // tile, j] == k // tile) and k % tile < size[k // tile];
}
