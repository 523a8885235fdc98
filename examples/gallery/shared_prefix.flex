# (k >= off[d] and q >= k) or (d != p and off[p] <= k < off[p + 1]), d = doc[q], p = pre[d]. Juravsky et al., "Hydragen" (2024).
import std;

## Packed continuations that share a prompt: pre[d] is the document of d's prompt, d itself if it has none.
attention shared_prefix(doc: i32[N], off: i32[M], pre: i32[P]) {
    mask = shared_prefix(doc, off, pre);
}
