"""What an instruction costs on a multiprocessor of compute capability 9.0, and the same of 8.0: the tables behind model.py.

A multiprocessor has four sub-cores. Each issues one instruction of a warp a cycle to pipes of its own; one shared-memory unit serves all four. From the throughput
table of the CUDA programming guide (results a cycle and multiprocessor): f32 add, multiply, multiply-add 128; integer, logic, comparison, minimum, selection, shift and
conversions between f32 and halves 64; integer multiply-add 64; exp2, reciprocal and their like, and conversions to and from integers 16; shuffles 32. So a pipe is busy for

    fma    1 cycle a warp instruction: two halves of 16 lanes; integer multiply-adds use one of them for 2 (heavy)
    alu    2
    xu     8
    tensor multiply-adds of the warp over the rate of a sub-core
    smem   bytes over 128, of all four sub-cores together

Tensor peak of 9.0: 4096 flop a cycle (989 TFLOP/s = 132 multiprocessors x 1.83 GHz x 4096), 512 multiply-adds a sub-core; wgmma m64nNk16 takes N / 2 cycles of all four. mma.sync
does not reach it: 62 % of the peak are what microbenchmarks of H100 found (Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture", 2024). 8.0: half
of the peak, all of it by mma.sync.
"""
import dataclasses
import re

BYTES_A_CYCLE = 128  # of shared memory, a multiprocessor

FMA = {"FFMA", "FADD", "FMUL", "FFMA32I", "FMUL32I", "FADD32I", "HFMA2", "HADD2", "HMUL2", "FSWZADD"}
HEAVY = {"IMAD", "IMUL"}
ALU = {
    "FMNMX", "FSEL", "FSETP", "FSET", "FCHK", "ISETP", "ISET", "IADD3", "IADD", "VIADD", "VIADDMNMX", "VIMNMX", "VIMNMX3", "IMNMX", "LOP3", "LOP",
    "PLOP3", "PSETP", "SHF", "SHL", "SHR", "LEA", "PRMT", "SEL", "BMSK", "SGXT", "P2R", "R2P", "MOV", "MOV32I", "F2FP", "IABS", "I2FP", "HMNMX2",
    "HSETP2", "HSET2", "CS2R", "VOTE", "IDP", "VABSDIFF", "FMNMX3", "I2IP", "LEPC", "VOTEU",
}
XU = {"MUFU", "I2F", "F2I", "F2F", "FRND", "FLO", "POPC", "BREV", "I2I"}
DOUBLE = {"DADD", "DMUL", "DFMA", "DSETP", "DMNMX"}
UNIFORM = {"R2UR", "S2UR", "UMOV", "REDUX", "CREDUX"}  # and all that begin with U but the copies
CONTROL = {
    "BRA", "BRX", "JMP", "JMX", "EXIT", "RET", "CALL", "BSSY", "BSYNC", "BREAK", "WARPSYNC", "NOP", "YIELD", "BMOV", "KILL", "NANOSLEEP", "DEPBAR",
    "BAR", "B2R", "R2B", "ERRBAR", "MEMBAR", "FENCE", "CCTL", "CCTLL", "LDGDEPBAR", "LDC", "LDCU", "S2R", "ELECT", "WARPGROUP", "WARPGROUPSET",
    "SYNCS", "ARRIVES", "UTMALDG", "UTMASTG", "UTMACMDFLUSH", "UTMAPF", "UTMACCTL", "UTMAREDG", "UBLKCP", "UBLKRED", "USETMAXREG", "ACQBULK",
    "PREEXIT", "UCGABAR_ARV", "UCGABAR_WAIT", "ENDCOLLECTIVE", "MATCH", "BPT", "CGAERRBAR", "PMTRIG", "GETLMEMBASE", "SETLMEMBASE", "RPCMOV", "SYNCSU",
}
MEMORY = {
    "LDS", "STS", "LDSM", "STSM", "LDG", "STG", "LDGSTS", "LDL", "STL", "LD", "ST", "SHFL", "ATOM", "ATOMG", "ATOMS", "RED", "REDG", "REDS", "MOVM",
    "LDTM", "QSPC", "LDGMC",
}
# Multiply-adds a cycle of a sub-core at the peak of the tensor units, by what they multiply.
KIND_OF_RATE = ((r"TF32", 0.5), (r"E4M3|E5M2|\.[SU]8", 2.0), (r"", 1.0))


@dataclasses.dataclass(frozen=True)
class Machine:
    name: str
    multiply_adds: float  # halves, a sub-core and cycle
    mma_sync: float       # share of that peak that mma.sync reaches
    conversion_slow: bool = False
    registers: int = 65536
    shared: int = 227 * 1024


MACHINES = {"sm_90": Machine("sm_90", 512, 0.62), "sm_80": Machine("sm_80", 256, 1.0, conversion_slow=True, shared=163 * 1024)}
MACHINES["sm_90a"] = MACHINES["sm_90"]

KINDS = ("issue", "fma", "heavy", "alu", "xu", "uniform", "smem", "tensor", "useful", "stall")


class Cost(dict):
    """Cycles by kind, of one warp: `useful` is what the tensor work takes at the peak, `tensor` what it takes here; smem is of the multiprocessor."""

    def __init__(self, **values):
        super().__init__({kind: 0.0 for kind in KINDS}, **values)

    def __add__(self, other):
        return Cost(**{kind: self[kind] + other[kind] for kind in KINDS})

    def times(self, factor):
        return Cost(**{kind: self[kind] * factor for kind in KINDS})


def width(opcode):
    """Bytes a lane of a memory access."""
    for bits, size in ((".128", 16), (".64", 8), (".U8", 1), (".S8", 1), (".U16", 2), (".S16", 2)):
        if bits in opcode:
            return size
    return 4


def tensor(instruction, machine):
    """(multiply-adds of the warp over the peak, cycles here, cycles of shared memory a warp) of a matrix instruction, or None."""
    name, opcode = instruction.name, instruction.opcode
    rate = machine.multiply_adds * next(factor for pattern, factor in KIND_OF_RATE if re.search(pattern, opcode))
    if name in ("HGMMA", "QGMMA", "IGMMA", "BGMMA"):
        m, n, k = map(int, re.search(r"\.(\d+)x(\d+)x(\d+)", opcode).groups())
        cycles = m / 4 * n * k / rate
        descriptors = instruction.operands.count("gdesc")
        element = {8: 4, 16: 2, 32: 1}.get(k, 2)
        # One gdesc operand is a pair of uniform registers for B alone where A is in registers; else it stands for A and B.
        from_registers = bool(re.match(r"R\d+[^,]*,\s*R\d+", instruction.operands))
        bytes_read = n * k * element + (0 if from_registers or not descriptors else m * k * element)
        return cycles, cycles, bytes_read / BYTES_A_CYCLE / 4
    if name in ("HMMA", "IMMA", "DMMA", "QMMA"):
        shape = re.search(r"\.(16816|1688|16832|884|8816|16864)", opcode)
        m, n, k = {"16816": (16, 8, 16), "1688": (16, 8, 8), "16832": (16, 8, 32), "884": (8, 8, 4), "8816": (8, 8, 16), "16864": (16, 8, 64)}[shape[1]]
        cycles = m * n * k / rate
        return cycles, cycles / machine.mma_sync, 0.0
    return None


def cost(instruction, machine):
    """The Cost of one instruction; None if it is not known here."""
    name, opcode = instruction.name, instruction.opcode
    out = Cost(issue=1.0, stall=float(instruction.stall))
    matrix = tensor(instruction, machine)
    if matrix:
        out["useful"], out["tensor"], out["smem"] = matrix
        out["stall"] = 0.0  # the tensor unit's cycles stand for it
        return out
    if name in FMA:
        out["fma"] = 1.0
    elif name in HEAVY:
        out["fma"], out["heavy"] = 1.0, 4.0 if ".WIDE" in opcode or ".HI" in opcode else 2.0
    elif name in ALU:
        out["alu"] = 8.0 if machine.conversion_slow and name == "F2FP" else 2.0
    elif name in XU:
        out["xu"] = 8.0
    elif name in DOUBLE:
        out["fma"] = 2.0
    elif name in MEMORY:
        if name == "SHFL":
            out["smem"] = 1.0
        elif name in ("LDSM", "STSM"):
            out["smem"] = float(re.search(r"\.(\d)$|\.(\d)\.|$", opcode)[0].strip(".") or 1) if re.search(r"\.[124](\.|$)", opcode) else 1.0
        else:
            out["smem"] = max(1.0, width(opcode) * 32 / BYTES_A_CYCLE)
    elif name in CONTROL:
        pass
    elif name in UNIFORM or name.startswith("U"):
        out["uniform"] = 2.0
    else:
        return None
    return out
