# k < P or (k >= P and q // B == (k - P) // B and (k - P) % B <= q % B). From attention-gym (JetSpec, training mask).

## Training of a draft head on sampled blocks: each query sees the prefix, and its own block causally.
attention tree_train(prefix: i32 = 0, block_size: i32 = 8) {
    let j = k - prefix;
    mask = k < prefix or (k >= prefix and q // block_size == j // block_size and j % block_size <= q % block_size);
}
