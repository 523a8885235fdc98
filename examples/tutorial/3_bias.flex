import std;

attention step3(slope: f32[H], window: i32 = 8) {
    score = score + slope[h] * f32(k - q);
    mask  = sliding_window(window);
}
