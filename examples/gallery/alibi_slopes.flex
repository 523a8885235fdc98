# score + (k - q) * slope[h]. Press et al., "Train Short, Test Long" (ALiBi, 2022), with slopes that can be learned.
import std;

## A penalty linear in the distance, with a given slope for each head.
attention alibi_slopes(slope: grad f32[H]) {
    score = alibi_slopes(slope);
}
