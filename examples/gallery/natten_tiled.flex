# natten_2d over tokens laid out tile by tile: tile t = i // (Th Tw), inside it row i % (Th Tw) // Tw. Hassani et al., "NATTEN" (2023).
import std;

fn tiled_x(i: i32, canvas_w: i32, tile_w: i32, tile_h: i32) -> i32 =
    i // (tile_h * tile_w) % (canvas_w // tile_w) * tile_w + i % (tile_h * tile_w) % tile_w;

fn tiled_y(i: i32, canvas_w: i32, tile_w: i32, tile_h: i32) -> i32 =
    i // (tile_h * tile_w) // (canvas_w // tile_w) * tile_h + i % (tile_h * tile_w) // tile_w;

## Neighbourhood attention on a canvas whose tokens come in tile order, so that a tile of scores is a patch of the canvas.
attention natten_tiled(
    canvas_w: i32 = 32,
    canvas_h: i32 = 32,
    kernel_w: i32 = 7,
    kernel_h: i32 = 7,
    tile_w: i32 = 8,
    tile_h: i32 = 8,
) {
    let qx = tiled_x(q, canvas_w, tile_w, tile_h);
    let qy = tiled_y(q, canvas_w, tile_w, tile_h);
    let kx = tiled_x(k, canvas_w, tile_w, tile_h);
    let ky = tiled_y(k, canvas_w, tile_w, tile_h);
    mask = in_neighbourhood(qx, kx, canvas_w, kernel_w) and in_neighbourhood(qy, ky, canvas_h, kernel_h);
}
