# Tile coordinates inside a clamped window of tiles; text attends to all and is seen by all.
# Zhang et al., "Fast Video Generation with Sliding Tile Attention" (2025), as in attention-gym.

# The tiles [c - n // 2, c + (n - 1) // 2] of one dimension, around the query's tile clamped so that all n exist.
fn in_window(q_tile: i32, k_tile: i32, tiles: i32, n: i32) -> bool = {
    let right = n // 2 + n % 2 - 1;
    let centre = clamp(q_tile, n // 2, tiles - 1 - right);
    centre - n // 2 <= k_tile <= centre + right
};

## Sliding tile attention on a video in tile order, followed by text_len text tokens. Tiles divide the canvas and the kernel.
attention sta_3d(
    canvas_t: i32 = 12,
    canvas_h: i32 = 16,
    canvas_w: i32 = 16,
    kernel_t: i32 = 12,
    kernel_h: i32 = 8,
    kernel_w: i32 = 8,
    tile_t: i32 = 4,
    tile_h: i32 = 4,
    tile_w: i32 = 4,
    text_len: i32 = 0,
) {
    let across = canvas_w // tile_w;
    let down = canvas_h // tile_h;
    let q_tile = q // (tile_t * tile_h * tile_w);
    let k_tile = k // (tile_t * tile_h * tile_w);
    let near = in_window(q_tile // (down * across), k_tile // (down * across), canvas_t // tile_t, kernel_t // tile_t)
        and in_window(q_tile % (down * across) // across, k_tile % (down * across) // across, down, kernel_h // tile_h)
        and in_window(q_tile % across, k_tile % across, across, kernel_w // tile_w);
    let vision = canvas_t * canvas_h * canvas_w;
    mask = k < vision + text_len and (q >= vision or k >= vision or near);
}
