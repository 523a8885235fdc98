# The variants that bench/cpu_vs_pytorch.py times against PyTorch.
import std;

attention none() { }

attention causal_only() { mask = causal(); }

attention alibi_causal() {
    score = alibi();
    mask = causal();
}

attention softcap_causal() {
    score = softcap(30.0);
    mask = causal();
}

attention window(size: i32 = 1024) { mask = sliding_window(size); }

attention documents(doc: i32[N]) { mask = doc[q] == doc[k] and causal(); }
