# x = i // W, y = i % W: abs(clamp(qx, Kw/2, W-1-Kw/2) - kx) <= Kw/2, same for y. Hassani et al., "NATTEN" (2023).
import std;

## Neighbourhood attention on a canvas; the window keeps its size at the border.
attention natten_2d(canvas_w: i32 = 32, canvas_h: i32 = 32, kernel_w: i32 = 7, kernel_h: i32 = 7) {
    mask = natten_2d(canvas_w, canvas_h, kernel_w, kernel_h);
}
