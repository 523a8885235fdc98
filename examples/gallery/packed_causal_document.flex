# k >= off[doc[q]] and q >= k. Krell et al., "Sequence Packing" (2021), for documents in order.
import std;

## Packed documents, causal inside each, without a look at the document of the key.
attention packed_causal_document(doc: i32[N], off: i32[M]) {
    mask = packed_causal_document(doc, off);
}
