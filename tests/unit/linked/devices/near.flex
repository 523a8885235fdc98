import std;

attention near(slope: f32[H], window: i32 = 90) {
    score = score + slope[h] * f32(k - q);
    mask  = sliding_window(window);
}
