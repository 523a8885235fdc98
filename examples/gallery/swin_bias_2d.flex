# score + T[h, rel(q, k)], rel = (qy - ky + Wh - 1) (2 Ww - 1) + qx - kx + Ww - 1. Liu et al., "Swin Transformer" (2021), section 3.2.

## A learned bias for each head and each relative position inside a window of window_h x window_w tokens.
attention swin_bias_2d(T: grad f32[H, N], window_h: i32 = 7, window_w: i32 = 7) {
    let dy = q // window_w - k // window_w + window_h - 1;
    let dx = q % window_w - k % window_w + window_w - 1;
    score = score + T[h, dy * (2 * window_w - 1) + dx];
}
