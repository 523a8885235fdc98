# iv[img[k], 0] <= q < iv[img[k], 1]. Alayrac et al., "Flamingo" (2022), section 2.3.

## Cross-attention of text to images: image token k belongs to image img[k], which the text tokens [iv[i, 0], iv[i, 1]) may see.
attention flamingo(iv: i32[N, 2], img: i32[K]) {
    mask = iv[img[k], 0] <= q < iv[img[k], 1];
}
