# c * tanh(score / c). Gemma Team, "Gemma 2" (2024), section 2; Grok-1.
import std;

## Scores bounded smoothly to (-c, c).
attention softcap(c: f32 = 30.0) {
    score = softcap(c);
}
