import std;

## Like step 4, with a bias that is learned: one number for each distance and head.
attention step5(bias: grad f32[W, H], doc: i32[Q]) {
    score = score + bias[q - k, h];
    mask  = sliding_window(W - 1) and doc[q] == doc[k];
}
