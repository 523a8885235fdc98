#!/usr/bin/env python3
"""The model of bench/gpu on kernels whose cost is known by construction, and its check on results that break an invariant. 77 without ptxas and nvdisasm."""
import copy
import dataclasses
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench" / "gpu"))
import model  # noqa: E402
import paths  # noqa: E402
import pipes  # noqa: E402
import sass  # noqa: E402
import simulate  # noqa: E402
import tuned  # noqa: E402

HEAD = ".version 8.0\n.target {target}\n.address_size 64\n"
MMA = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0,%f1,%f2,%f3},{%r0,%r1,%r2,%r3},{%r4,%r5},{%f0,%f1,%f2,%f3};\n"


def kernel(products, scores, masked, rolled=1):
    """A loop over n tiles: `products` mma, in a loop inside where rolled > 1; `scores` exp2; and, if the tile is odd and `masked`, a selection of each score."""
    inner = MMA * products
    if rolled > 1:
        inner = f"mov.u32 %r9, 0;\nINNER:\n.pragma \"nounroll\";\n{inner}add.s32 %r9, %r9, 1;\nsetp.ne.s32 %p3, %r9, {rolled};\n@%p3 bra INNER;\n"
    # Volatile loads keep scores apart, and their sums alive.
    load = "".join(f"ld.volatile.shared.f32 %s{i}, [tile+{4 * i}];\n" for i in range(scores))
    select = "".join(f"setp.gt.s32 %p2, %r6, {i};\nselp.f32 %s{i}, %s{i}, 0fFF800000, %p2;\n" for i in range(scores))
    weigh = "".join(f"ex2.approx.ftz.f32 %s{i}, %s{i};\nadd.f32 %f0, %f0, %s{i};\n" for i in range(scores))
    return HEAD.format(target="sm_80") + f""".shared .align 16 .f32 tile[{scores}];
.visible .entry k_forward(.param .u64 out, .param .u32 n) .maxntid 128, 1, 1 {{
.reg .b32 %r<10>; .reg .f32 %f<4>; .reg .f32 %s<{scores}>; .reg .pred %p<4>; .reg .b64 %rd<2>;
ld.param.u64 %rd0, [out]; ld.param.u32 %r7, [n]; mov.u32 %r6, %tid.x; mov.u32 %r0, %r6; mov.u32 %r1, %r6; mov.u32 %r2, %r6; mov.u32 %r3, %r6; mov.u32 %r4, %r6; mov.u32 %r5, %r6;
mov.f32 %f0, 0f00000000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0;
LOOP:
{load}{inner}
and.b32 %r8, %r7, 1; setp.eq.s32 %p1, %r8, 0;
@%p1 bra FULL;
{select if masked else ""}
FULL:
{weigh}
add.s32 %r7, %r7, -1; setp.gt.s32 %p0, %r7, 0;
@%p0 bra LOOP;
st.global.f32 [%rd0], %f0;
ret;
}}
"""


def analyse(text, arch, folder, **expected):
    file = pathlib.Path(folder) / "k.ptx"
    file.write_text(text)
    usage = sass.assemble(file, arch, f"{file}.cubin")
    function = sass.disassemble(f"{file}.cubin")["k_forward"]
    return paths.Analysis(function, pipes.MACHINES[arch], **expected).passes(), usage


def check_tuned(expect):
    launch = lambda rows, stripes, tiles: {"rows": rows, "stripes": stripes, "tiles": tiles}
    measured = [launch(1, 1.0, 2.0), launch(16, 1.0, 1.5), launch(64, 1.2, 1.0), launch(256, 3.0, 1.0)]
    expect("limit of stripes", tuned.best_limit(measured), 16)
    expect("limit where stripes are never best", tuned.best_limit([launch(1, 2.0, 1.0)]), 0)
    expect("limit of nothing measured", tuned.best_limit([{"rows": 4096, "stripes": None, "tiles": 1.0}]), None)
    text = (ROOT / "runtime" / "cuda" / "tuned.def").read_text()
    expect("number in tuned.def", "FLEX_TUNED(kMostRowsOfStripes, 48)" in tuned.with_value(text, "kMostRowsOfStripes", 48), True)


def main():
    if not (sass.find_tool("ptxas") and sass.find_tool("nvdisasm")):
        print("skipped: there is no ptxas or nvdisasm here")
        return 77
    faults = []

    def expect(what, got, want):
        if got != want:
            faults.append(f"{what}: {got}, {want} expected")

    check_tuned(expect)
    with tempfile.TemporaryDirectory() as folder:
        (one,), usage = analyse(kernel(8, 16, True), "sm_90", folder, scores=16)
        expect("products of 8 mma at the peak", one.full.cost["useful"], 32.0)
        expect("the same on sm_90", round(one.full.cost["tensor"], 6), round(32.0 / 0.62, 6))
        expect("exponents", one.full.count.get("MUFU"), 16)
        expect("hidden in a full tile", one.full.hidden, 0)
        expect("hidden in a tile with a mask", one.partial.hidden if one.partial else None, 16)
        expect("spills", usage["k_forward"].spill_stores, 0)
        (bare,), _ = analyse(kernel(8, 16, False), "sm_90", folder, scores=16)
        expect("a mask where there is none", bare.partial, None)
        if abs(bare.full.cost["issue"] - one.full.cost["issue"]) > 4:
            faults.append(f"a full tile of a kernel with a mask issues {one.full.cost['issue']:.0f}, without {bare.full.cost['issue']:.0f}")
        # 32 mma in a loop of 4 turns: the number of turns follows from what a tile needs, or from the counter.
        (rolled,), _ = analyse(kernel(8, 16, True, rolled=4), "sm_90", folder, scores=16, tensor=128.0)
        expect("products in a loop", rolled.full.cost["useful"], 128.0)
        try:
            analyse(kernel(8, 16, True, rolled=4), "sm_90", folder, scores=16, tensor=100.0)
            faults.append("no number of turns gives the products of a tile, and that is not noticed")
        except paths.Unknown:
            pass
        (sm80,), _ = analyse(kernel(8, 16, True), "sm_80", folder, scores=16)
        expect("products on sm_80", sm80.full.cost["tensor"], 64.0)

        # In steady state a pipe that is the bottleneck is always busy.
        (heavy,), _ = analyse(kernel(1, 32, False), "sm_90", folder, scores=32)
        cycles = simulate.steady_cycles(heavy.full.instructions(), 8, pipes.MACHINES["sm_90"], False)
        if not 8 * heavy.full.cost["xu"] <= cycles <= 8 * heavy.full.cost["xu"] * 1.1:
            faults.append(f"8 warps with {heavy.full.cost['xu']:.0f} cycles of exponents each take {cycles:.0f}")

        # What `check` is for.
        instance = model.Instance("k", "sm_90", "BF16", 16, 16, 64, 32, 4, 0)
        result = model.Result("none", False, instance, usage["k_forward"], 2, one.full, one.partial, *(model.predict(p, 2, pipes.MACHINES["sm_90"], False) for p in (one.full, one.partial)))
        expect("a sound result", model.check([result]), [])
        more = copy.deepcopy(one.full)
        more.cost["useful"] *= 1.5
        spoiled = {"more products than needed": dataclasses.replace(result, full=more), "no mask": dataclasses.replace(result, partial=None),
                   "a mask that costs nothing": dataclasses.replace(result, partial=one.full),
                   "a warning": dataclasses.replace(result, usage=dataclasses.replace(usage["k_forward"], warnings=("C7510",)))}
        for words, each in spoiled.items():
            if not model.check([each]):
                faults.append(f"not noticed: {words}")
        costly = copy.deepcopy(one.full)
        costly.cost["issue"] += 64
        pair = [result, dataclasses.replace(result, variant="causal", full=costly, partial=more)]
        if not any("a full tile costs" in fault for fault in model.check(pair)):
            faults.append("not noticed: a mask in full tiles")
    print("\n".join(faults))
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
