# Parameters of every kind, for the description that a header carries.
import std;

mask within(inner: mask, doc: i32[N], off: i32[N + 1]) =
    doc[q] == doc[k] and inner(q = q - off[doc[q]], k = k - off[doc[k]]);

## Every kind of parameter.
##
## Not a sensible attention.
attention all_kinds(
    t0: grad f32[H],
    t1: f16[B, 2 * K - 1],
    t2: bf16[N, 3],
    t3: i32[N],
    t4: i16[M + 2],
    t5: i8[D],
    t6: u8[DV],
    t7: bool[Q, K],
    off: i32[N + 1],
    x: f32,
    y: f32 = -1.5,
    z: i32 = -7,
    w: bool = true,
    u: bool,
) {
    score = score + t0[h] + t1[0, k] + t2[0, 0] + f32(t4[0] + t5[0] + t6[0]) + x + y + f32(z);
    mask  = within(causal(), t3, off) and (t7[q, k] or w or u);
}
