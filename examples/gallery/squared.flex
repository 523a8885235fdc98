# score * score. From the FlexAttention paper's test variants: Dong et al. (2024).

## Squared scores.
attention squared() {
    score = score * score;
}
