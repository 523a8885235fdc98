# minilm_causal.flex
import std;

## The same, but a token sees only itself and those before it.
attention minilm_causal(len: i32[B]) {
    mask = padding(len) and causal();
}
