# T5's relative position bias, learned: the only thing in the model of this example that knows where a token stands.
import std;

## A learned bias for each head and bucket of the distance q - k, under a causal mask.
attention copy_back(bias: grad f32[H, N]) {
    score = score + bias[h, t5_bucket(q - k, N, 128)];
    mask  = causal();
}
