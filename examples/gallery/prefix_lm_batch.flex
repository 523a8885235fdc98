# k < prefix[b] or q >= k. Raffel et al., "T5" (2020), section 3.2.1; a prefix for each sequence of the batch.
import std;

## prefix_lm with a length for each batch element.
attention prefix_lm_batch(prefix: i32[B]) {
    mask = prefix_lm(prefix[b]);
}
