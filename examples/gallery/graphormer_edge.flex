# score + sum(n < len: E[h, ty[b, q, k, n]]) / max(len, 1). Ying et al., "Graphormer" (2021), section 3.1.3.

## The mean of a learned bias over the edge types on the shortest path between two nodes; len is the number of its edges.
attention graphormer_edge(E: grad f32[H, N], ty: i32[B, Q, K, M], len: i32[B, Q, K]) {
    let length = len[b, q, k];
    score = score + sum(n in 0..length: E[h, ty[b, q, k, n]]) / f32(max(length, 1));
}
