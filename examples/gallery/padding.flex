# k < len[b]. The key padding mask of Vaswani et al. (2017) as every encoder has it.
import std;

## Keys beyond the length of their sequence are padding.
attention padding(len: i32[B]) {
    mask = padding(len);
}
