# std: the standard library of flexc. Plain .flex with no privilege: any user could have written it.
# Masks first, then scores. Formulas are over the indices b h q k and the extents of the attention that uses them.

# ---- masks ----

## q >= k. Vaswani et al., "Attention Is All You Need" (2017), section 3.2.3.
mask causal() = q >= k;

## q - k <= window and q >= k: the query itself and `window` keys before it.
## Child et al., "Generating Long Sequences with Sparse Transformers" (2019); as used by Mistral 7B.
mask sliding_window(window: i32) = q - k <= window and q >= k;

## abs(q - k) <= window and abs(q - k) % dilation == 0.
## Beltagy et al., "Longformer" (2020), figure 2c; also the dilated form of NATTEN in one dimension.
mask dilated_window(window: i32, dilation: i32) = abs(q - k) <= window and abs(q - k) % dilation == 0;

## abs(q - k) <= window or g[q] or g[k]: a symmetric window, and tokens marked in g that see and are seen by all.
## Beltagy et al., "Longformer" (2020), section 3.1.
mask global_sliding_window(window: i32, g: bool[N]) = abs(q - k) <= window or g[q] or g[k];

## k < prefix or q >= k: bidirectional over the first `prefix` keys, causal after.
## Raffel et al., "Exploring the Limits of Transfer Learning" (T5, 2020), section 3.2.1.
mask prefix_lm(prefix: i32) = k < prefix or q >= k;

## doc[q] == doc[k] and inner(q - off[doc[q]], k - off[doc[k]]): packed documents that do not see each other;
## `inner` sees positions inside its document. doc[i] is the document of token i, off[d] the first token of document d.
## Krell et al., "Efficient Sequence Packing without Cross-contamination" (2021).
mask document(inner: mask, doc: i32[N], off: i32[M]) =
    doc[q] == doc[k] and inner(q = q - off[doc[q]], k = k - off[doc[k]]);

## k >= off[doc[q]] and q >= k: document(causal()) without a look at doc[k]. Documents must be in order.
mask packed_causal_document(doc: i32[N], off: i32[M]) = k >= off[doc[q]] and q >= k;

## (k >= off[d] and q >= k) or (d != p and off[p] <= k < off[p + 1]), with d = doc[q], p = pre[d]: packed continuations that
## share a prompt. pre[d] is the document of d's prompt, d itself if it has none.
## Juravsky et al., "Hydragen: High-Throughput LLM Inference with Shared Prefixes" (2024).
mask shared_prefix(doc: i32[N], off: i32[M], pre: i32[P]) = {
    let d = doc[q];
    let p = pre[d];
    (k >= off[d] and q >= k) or (d != p and off[p] <= k < off[p + 1])
};

## k < len[b]: the keys beyond the length of a sequence are padding.
mask padding(len: i32[B]) = k < len[b];

## q // n == k // n and inner(q % n, k % n): every n tokens are a sequence of their own.
mask batchify(inner: mask, n: i32) = q // n == k // n and inner(q = q % n, k = k % n);

## The training mask of block diffusion over 2 seq_len tokens, the noised copy first, then the clean one:
## own block of the same copy; clean blocks before it for a noised query; clean blocks up to its own for a clean query.
## Arriola et al., "Block Diffusion" (BD3-LM, 2025), section 3.1.
mask block_diffusion(seq_len: i32, block_size: i32) = {
    let q_noised = q < seq_len;
    let k_noised = k < seq_len;
    let q_block = (q % seq_len) // block_size;
    let k_block = (k % seq_len) // block_size;
    (q_block == k_block and q_noised == k_noised)
        or (q_block > k_block and q_noised and not k_noised)
        or (q_block >= k_block and not q_noised and not k_noised)
};

## Neighbourhood attention in one dimension of a canvas: abs(clamp(a, w, size - 1 - w) - c) <= w with w = kernel // 2,
## so that the window keeps its size at the border.
fn in_neighbourhood(a: i32, c: i32, size: i32, kernel: i32) -> bool =
    abs(clamp(a, kernel // 2, size - 1 - kernel // 2) - c) <= kernel // 2;

## Neighbourhood attention on a canvas: x = i // canvas_w, y = i % canvas_w, in_neighbourhood in both.
## Hassani et al., "Neighborhood Attention Transformer" (2023), as in attention-gym.
mask natten_2d(canvas_w: i32, canvas_h: i32, kernel_w: i32, kernel_h: i32) =
    in_neighbourhood(q // canvas_w, k // canvas_w, canvas_w, kernel_w)
        and in_neighbourhood(q % canvas_w, k % canvas_w, canvas_h, kernel_h);

# ---- scores ----

## score + (k - q) * exp2(-8 (h + 1) / H). Press et al., "Train Short, Test Long" (ALiBi, 2022).
score alibi() = score + f32(k - q) * exp2(-8.0 * f32(h + 1) / f32(H));

## score + (k - q) * slope[h]: ALiBi with slopes given or learned.
score alibi_slopes(slope: f32[H]) = score + f32(k - q) * slope[h];

## c * tanh(score / c). Gemma Team, "Gemma 2" (2024), section 2; also Grok-1.
score softcap(c: f32) = c * tanh(score / c);

## softcap with the hardware's approximate tanh (relative error up to 2^-10.9).
score softcap_approx(c: f32) = c * tanh_approx(score / c);

## T5's logarithmic bucket of a distance d >= 0 (negative ones count as 0): the first half of the buckets hold one distance each,
## the rest grow as a logarithm up to max_distance. The 1e-4 keeps a distance that lies on the edge of a bucket
## in the upper one, whatever the last bit of the logarithm.
fn t5_bucket(d: i32, buckets: i32, max_distance: i32) -> i32 = {
    let n = max(d, 0);
    let exact = buckets // 2;
    let growth = log(f32(max(n, exact)) / f32(exact)) / log(f32(max_distance) / f32(exact));
    if n < exact then n else min(exact + i32(growth * f32(buckets - exact) + 1e-4), buckets - 1)
};

## The bidirectional form, for encoders: half of the buckets for keys at or before the query, half for keys after it.
fn t5_bucket_bidirectional(d: i32, buckets: i32, max_distance: i32) -> i32 =
    (if d < 0 then buckets // 2 else 0) + t5_bucket(abs(d), buckets // 2, max_distance);

## score + T[bucket(q - k), h] with T5's logarithmic buckets up to distance 128, as its decoder has them.
## Raffel et al., "Exploring the Limits of Transfer Learning" (T5, 2020), section 2.1.
score relative_bias(T: f32[N, H]) = score + T[t5_bucket(q - k, N, 128), h];
