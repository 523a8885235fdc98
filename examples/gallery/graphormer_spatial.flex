# score + T[h, dist[b, q, k]]. Ying et al., "Do Transformers Really Perform Bad for Graph Representation?" (Graphormer, 2021), section 3.1.2.

## A learned bias for each head and each shortest-path distance between two nodes.
attention graphormer_spatial(T: grad f32[H, N], dist: i32[B, Q, K]) {
    score = score + T[h, dist[b, q, k]];
}
