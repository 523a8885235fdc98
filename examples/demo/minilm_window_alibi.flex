# minilm_window_alibi.flex
import std;

## Near tokens only, up to `window` to either side, and nearer ones weigh more: ALiBi's slope 2^(-8 (h + 1) / H) for head h.
## `window` is a runtime scalar: another value recompiles nothing.
attention minilm_window_alibi(len: i32[B], window: i32 = 8) {
    let distance = abs(q - k);
    score = score - f32(distance) * exp2(-8.0 * f32(h + 1) / f32(H));
    mask  = padding(len) and distance <= window;
}
