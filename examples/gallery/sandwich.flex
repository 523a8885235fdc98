# score + R[q - k + off] * hs[h]. Chi et al., "Dissecting Transformer Length Extrapolation" (Sandwich, 2023), section 5.

## A table of sums of cosines over relative distances, R[d + off], and a compression ratio for each head.
attention sandwich(R: f32[N], hs: f32[H], off: i32) {
    score = score + R[q - k + off] * hs[h];
}
