# sin(cos(score)) + tan(b). From the FlexAttention paper's test variants: Dong et al. (2024).

## Trigonometric functions of the score, and of the batch index.
attention trig() {
    score = sin(cos(score)) + tan(f32(b));
}
