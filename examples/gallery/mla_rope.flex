# scale * dot(q, k) + scale * dot(qr, kr). DeepSeek-AI, "DeepSeek-V2" (2024), section 2.1.3: decoupled rotary embedding.

## The rotary part of a multi-head latent attention, added to the scores of the latent part.
attention mla_rope(qr: grad f32[B, H, Q, DR], kr: grad f32[B, HKV, K, DR]) {
    let factor = 1.0 / sqrt(f32(D));
    scale = factor;
    score = score + factor * dot(qr[b, h, q, :], kr[b, hkv, k, :]);
}
