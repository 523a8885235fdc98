# score * s[h]. From the FlexAttention paper's test variants: Dong et al. (2024).

## A factor for each head.
attention head_scale(s: grad f32[H]) {
    score = score * s[h];
}
