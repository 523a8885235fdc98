# natten_2d over tokens in Z order: x = even bits of i, y = odd bits. Morton (1966); Hassani et al., "NATTEN" (2023).
import std;

# The 16 even bits of a code, moved together.
fn even_bits(code: i32) -> i32 = {
    let c0 = code & 0x55555555;
    let c1 = (c0 | c0 >> 1) & 0x33333333;
    let c2 = (c1 | c1 >> 2) & 0x0f0f0f0f;
    let c3 = (c2 | c2 >> 4) & 0x00ff00ff;
    (c3 | c3 >> 8) & 0x0000ffff
};

## Neighbourhood attention on a canvas whose tokens come in Morton order. The canvas is a power of two on each side.
attention natten_morton(canvas_w: i32 = 32, canvas_h: i32 = 32, kernel_w: i32 = 7, kernel_h: i32 = 7) {
    mask = in_neighbourhood(even_bits(q), even_bits(k), canvas_w, kernel_w)
        and in_neighbourhood(even_bits(q >> 1), even_bits(k >> 1), canvas_h, kernel_h);
}
