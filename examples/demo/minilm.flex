# minilm.flex
import std;

## The attention of all-MiniLM-L6-v2, as of every BERT: each token sees the whole sentence, and nobody sees the padding after it.
## scale is not written: it is 1/sqrt(D) unless said otherwise.
attention minilm(len: i32[B]) {
    mask = padding(len);
}
