# k < prefix or q >= k. Raffel et al., "T5" (2020), section 3.2.1.
import std;

## Bidirectional over the first `prefix` keys, causal after.
attention prefix_lm(prefix: i32 = 128) {
    mask = prefix_lm(prefix);
}
