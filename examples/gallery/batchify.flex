# q // n == k // n and inner(q % n, k % n). From attention-gym: a batch laid out in one sequence.
import std;

## Every n tokens are a sequence of their own, causal inside.
attention batchify(n: i32 = 128) {
    mask = batchify(causal(), n);
}
