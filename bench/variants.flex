# The variants that bench/cpu_vs_pytorch.py times against PyTorch; below, those that only its suite `backward` has: with gradients of what they capture.
import std;

attention none() {}

attention causal_only() {
    mask = causal();
}

attention alibi_causal() {
    score = alibi();
    mask  = causal();
}

attention softcap_causal() {
    score = softcap(30.0);
    mask  = causal();
}

attention window(size: i32 = 1024) {
    mask = sliding_window(size);
}

attention documents(doc: i32[N]) {
    mask = doc[q] == doc[k] and causal();
}

attention alibi_learned(slope: grad f32[H]) {
    score = score + slope[h] * f32(k - q);
    mask  = causal();
}

attention relative_bias(table: grad f32[H, 64]) {
    score = score + table[h, min((q - k) // 32, 63)];
    mask  = causal();
}

attention relative_position(table: grad f32[H, N]) {
    score = score + table[h, q - k];
    mask  = causal();
}

attention key_bias(bias: grad f32[H, K]) {
    score = score + bias[h, k];
    mask  = causal();
}

attention full_bias(bias: grad f32[B, H, Q, K]) {
    score = score + bias[b, h, q, k];
    mask  = causal();
}
