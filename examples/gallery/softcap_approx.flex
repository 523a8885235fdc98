# c * tanh_approx(score / c). Gemma Team, "Gemma 2" (2024), section 2, with the hardware's approximate tanh.
import std;

## softcap with a tanh of relative error up to 2^-10.9.
attention softcap_approx(c: f32 = 30.0) {
    score = softcap_approx(c);
}
