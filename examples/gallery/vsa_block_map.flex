# map[b, h, q // t, k // t]. Zhang et al., "Faster Video Diffusion with Trainable Sparse Attention" (VSA, 2025).

## Block-sparse attention by a map of tiles.
attention vsa_block_map(map: bool[B, H, Qt, Kt], tile: i32 = 64) {
    mask = map[b, h, q // tile, k // tile];
}
