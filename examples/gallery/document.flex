# doc[q] == doc[k] and inner(q - off[doc[q]], k - off[doc[k]]). Krell et al., "Sequence Packing" (2021).
import std;

## Packed documents, causal inside each. doc[i] is the document of token i, off[d] the first token of document d.
attention document(doc: i32[N], off: i32[M]) {
    mask = document(causal(), doc, off);
}
