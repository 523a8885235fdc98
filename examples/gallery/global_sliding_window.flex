# abs(q - k) <= window or g[q] or g[k]. Beltagy et al., "Longformer" (2020), section 3.1.
import std;

## A symmetric window, and tokens marked in g that attend to all and are attended to by all.
attention global_sliding_window(g: bool[N], window: i32 = 256) {
    mask = global_sliding_window(window, g);
}
