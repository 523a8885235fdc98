# score + T[bucket(q - k), h], 32 logarithmic buckets up to distance 128. Raffel et al., "T5" (2020), section 2.1.
import std;

## T5's relative position bias as its decoder has it: keys after the query share bucket 0 (under a causal mask they are not seen).
## bidirectional = true gives the encoder's: 16 buckets for each direction.
attention relative_bias(T: grad f32[32, H], const bidirectional: bool = false) {
    let bucket = if bidirectional then t5_bucket_bidirectional(q - k, 32, 128) else t5_bucket(q - k, 32, 128);
    score = score + T[bucket, h];
}
