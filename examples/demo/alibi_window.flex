# alibi_window.flex
import std;

## ALiBi bias under a causal sliding window.
attention alibi_window(slope: f32[H], window: i32 = 1024) {
    score = score + slope[h] * f32(k - q);
    mask  = sliding_window(window);
}
