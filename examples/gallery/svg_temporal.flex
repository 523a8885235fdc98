# abs((q - P) % F - (k - P) % F) < width * F // num_frames, or the prompt; P = prompt_length, F = token_per_frame.
# Xi et al., "Sparse VideoGen" (2025), section 3.

## The temporal heads of video generation: each token sees the same place, and its surroundings, in every frame.
attention svg_temporal(prompt_length: i32 = 226, num_frames: i32 = 13, token_per_frame: i32 = 1350, width: i32 = 2) {
    let place = (q - prompt_length) % token_per_frame - (k - prompt_length) % token_per_frame;
    mask = k < prompt_length or q < prompt_length or abs(place) < width * token_per_frame // num_frames;
}
