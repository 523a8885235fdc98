# log(f(score) + N), f = gelu. From attention-gym: softmax then gives (f(score) + N) / sum, an activation instead of exp.

fn gelu(x: f32) -> f32 = 0.5 * x * (1.0 + erf(x / sqrt(2.0)));

## Attention with weights proportional to gelu(score) + offset; offset keeps the logarithm's argument positive.
attention log_activation(offset: f32 = 1.0) {
    score = log(gelu(score) + offset);
}
