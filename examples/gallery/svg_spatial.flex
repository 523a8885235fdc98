# abs(q - k) < (width * token_per_frame) rounded down to round_width, or the prompt. Xi et al., "Sparse VideoGen" (2025), section 3.

## The spatial heads of video generation: each token sees the frames near its own, and the prompt (attn_sink: the first frame too).
attention svg_spatial(
    prompt_length: i32 = 226,
    token_per_frame: i32 = 1350,
    width: i32 = 2,
    round_width: i32 = 128,
    attn_sink: bool = false,
) {
    let band = width * token_per_frame // round_width * round_width;
    let first = if attn_sink then prompt_length + token_per_frame else prompt_length;
    mask = k < first or q < prompt_length or abs(q - k) < band;
}
