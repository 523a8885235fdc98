# abs(q - k) <= window and abs(q - k) % dilation == 0. Beltagy et al., "Longformer" (2020), figure 2c.
import std;

## A symmetric window with gaps: every `dilation`-th key within `window` of the query.
attention dilated_window(window: i32 = 256, dilation: i32 = 2) {
    mask = dilated_window(window, dilation);
}
