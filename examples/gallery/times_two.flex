# 2 * score. From the FlexAttention paper's test variants: Dong et al. (2024).

## Doubled scores.
attention times_two() {
    score = 2 * score;
}
