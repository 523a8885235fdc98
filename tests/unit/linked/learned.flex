# Parameters with gradients of several types, under names that the header needs for itself.
## Reads one tensor by head, one by key, and one by a constant.
attention learned(o: grad f32[H], int: grad f32[K], reach: i32 = 50, lse: grad bf16[2]) {
    score = score * (1.0 + lse[1]) + 0.01 * o[h] * f32(k - q) + int[k];
    mask  = abs(q - k) <= reach;
}
