# (qb == kb and same copy) or (qb > kb and q noised and k clean) or (qb >= kb and both clean), block = (i % S) // L.
# Arriola et al., "Block Diffusion" (BD3-LM, 2025), section 3.1.
import std;

## The training mask of block diffusion over 2 seq_len tokens: the noised copy first, then the clean one.
attention block_diffusion(seq_len: i32 = 1024, block_size: i32 = 16) {
    mask = block_diffusion(seq_len, block_size);
}
