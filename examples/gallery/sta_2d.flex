# Tile coordinates inside a clamped window of tiles; text attends to all and is seen by all.
# Zhang et al., "Fast Video Generation with Sliding Tile Attention" (2025), as in attention-gym.

# The tiles [c - n // 2, c + (n - 1) // 2] of one dimension, around the query's tile clamped so that all n exist.
fn in_window(q_tile: i32, k_tile: i32, tiles: i32, n: i32) -> bool = {
    let right = n // 2 + n % 2 - 1;
    let centre = clamp(q_tile, n // 2, tiles - 1 - right);
    centre - n // 2 <= k_tile <= centre + right
};

## Sliding tile attention on an image in tile order, followed by text_len text tokens. Tiles divide the canvas and the kernel.
attention sta_2d(
    canvas_h: i32 = 32,
    canvas_w: i32 = 32,
    kernel_h: i32 = 16,
    kernel_w: i32 = 16,
    tile_h: i32 = 8,
    tile_w: i32 = 8,
    text_len: i32 = 0,
) {
    let across = canvas_w // tile_w;
    let q_tile = q // (tile_h * tile_w);
    let k_tile = k // (tile_h * tile_w);
    let near = in_window(q_tile // across, k_tile // across, canvas_h // tile_h, kernel_h // tile_h)
        and in_window(q_tile % across, k_tile % across, across, kernel_w // tile_w);
    let vision = canvas_h * canvas_w;
    mask = k < vision + text_len and (q >= vision or k >= vision or near);
}
