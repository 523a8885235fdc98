attention step2(window: i32 = 8) {
    mask = q >= k and q - k <= window;
}
