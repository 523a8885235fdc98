attention step1() {
    mask = q >= k;
}
