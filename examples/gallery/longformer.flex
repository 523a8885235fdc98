# abs(q - k) <= window // 2 or g[q] or g[k]. Beltagy et al., "Longformer" (2020), section 3.1: window // 2 tokens on each side.
import std;

## A window of `window` tokens centred on the query, and tokens marked in g that attend to all and are attended to by all.
attention longformer(g: bool[N], window: i32 = 512) {
    mask = global_sliding_window(window // 2, g);
}
