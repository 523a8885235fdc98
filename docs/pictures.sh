#!/usr/bin/env bash
# Draws the pictures of README.md into docs/images/, with the compiler that `./dev build` leaves. Run it when they would change.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p docs/images

# draw NAME OPTION...: one variant of the gallery
draw() { build/release/bin/flexc show "examples/gallery/$1.flex" --png "docs/images/$1.png" "${@:2}"; }
# repeat VALUE:COUNT...: 0:3 1:2 -> 0,0,0,1,1
repeat() {
    local out=() item i
    for item in "$@"; do for ((i = 0; i < ${item#*:}; i++)); do out+=("${item%:*}"); done; done
    (IFS=,; echo "${out[*]}")
}

draw causal --shape Q=64
draw sliding_window --shape Q=64 --set window=15
draw dilated_window --shape Q=64 --set window=24 --set dilation=4
draw prefix_lm --shape Q=64 --set prefix=20
draw document --shape Q=64 --set doc="$(repeat 0:20 1:9 2:35)" --set off=0,20,29,64
draw block_diffusion --shape Q=64 --set seq_len=32 --set block_size=8
draw natten_2d --shape Q=64 --set canvas_w=8 --set canvas_h=8 --set kernel_w=5 --set kernel_h=5
draw alibi --what score --shape H=4,Q=64 --heads 0,1,2,3
