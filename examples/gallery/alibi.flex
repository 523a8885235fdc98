# score + (k - q) * exp2(-8 (h + 1) / H). Press et al., "Train Short, Test Long" (ALiBi, 2022).
import std;

## A penalty linear in the distance, with a fixed slope for each head.
attention alibi() {
    score = alibi();
}
