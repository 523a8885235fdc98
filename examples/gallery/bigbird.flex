# Over blocks of tokens: global or window or random. Zaheer et al., "Big Bird" (2020), section 2 and appendix D.

## Block-sparse attention: the first `global_blocks` blocks see all and are seen by all, a block sees `window` blocks to each side,
## and block r of the queries sees the blocks table[r, :] that were drawn for it.
attention bigbird(table: i32[N, J], block_size: i32 = 64, global_blocks: i32 = 1, window: i32 = 1) {
    let q_block = q // block_size;
    let k_block = k // block_size;
    mask = q_block < global_blocks
        or k_block < global_blocks
        or abs(q_block - k_block) <= window
        or any(j in 0..J: table[q_block, j] == k_block);
}
