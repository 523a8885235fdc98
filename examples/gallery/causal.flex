# q >= k. Vaswani et al., "Attention Is All You Need" (2017), section 3.2.3.
import std;

## Each query attends to itself and to what came before it.
attention causal() {
    mask = causal();
}
