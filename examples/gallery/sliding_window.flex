# q - k <= window and q >= k. Child et al., "Sparse Transformers" (2019); Mistral 7B (2023).
import std;

## Causal attention over the query and the `window` keys before it.
attention sliding_window(window: i32 = 1024) {
    mask = sliding_window(window);
}
