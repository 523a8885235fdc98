"""Machine code of NVIDIA GPUs as a control-flow graph: PTX -> ptxas -> nvdisasm -> functions, blocks, loops.

An instruction keeps what ptxas decided about its timing, bits 105 to 121 of the encoding on Volta and later: the cycles that the warp waits at least before its next one, a
scoreboard that its result and one that the reading of its operands releases, and those that it waits for.
"""
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def find_tool(name):
    """ptxas or nvdisasm: as the variable PTXAS or NVDISASM says, from PATH, CUDA's folder, or what Triton brings into bench/.venv; None if nowhere."""
    places = [os.environ.get(name.upper(), "")]
    places += [os.environ.get(variable, "") + "/bin/" + name for variable in ("CUDA_HOME", "CUDA_PATH")]
    places += [shutil.which(name) or "", "/usr/local/cuda/bin/" + name]
    venvs = (ROOT / "bench" / ".venv").glob("lib/python3*/site-packages")
    places += [str(path) for venv in venvs for path in (venv / f"triton/backends/nvidia/bin/{name}", *venv.glob(f"nvidia/cu*/bin/{name}"))]
    return next((place for place in places if place and os.access(place, os.X_OK)), None)


class ToolError(Exception):
    pass


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ToolError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()[:400]}")
    return done.stdout + done.stderr


@dataclasses.dataclass
class Usage:
    """What ptxas -v says of a kernel."""
    registers: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    shared: int = 0
    warnings: tuple = ()


def assemble(ptx, arch, cubin):
    """The cubin is written; {kernel: Usage}."""
    text = run([find_tool("ptxas"), f"-arch={arch}", "-v", str(ptx), "-o", str(cubin)])
    return usage_of(text)


def usage_of(text):
    """{kernel: Usage} of the words of ptxas -v. Warnings that name a kernel stand with it, others with all."""
    found, general = {}, []
    for part in re.split(r"(?=ptxas info\s+: Compiling entry function)", text):
        name = re.match(r"ptxas info\s+: Compiling entry function '([^']+)'", part)
        if name:
            number = lambda pattern: int(match[1]) if (match := re.search(pattern, part)) else 0
            found[name[1]] = Usage(number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes spill loads"),
                                   number(r"(\d+) bytes smem"))
    for warning in re.findall(r"(?:\bC7\d{3}\b|ptxas[^\n]*warning)[^\n]*", text):
        of = [name for name in found if f"'{name}'" in warning]
        for name in of or found:
            found[name].warnings += (warning.strip(),)
        if not found:
            general.append(warning)
    return found


@dataclasses.dataclass
class Instruction:
    offset: int
    predicate: str  # "@!P0", or empty
    opcode: str     # with modifiers: "HMMA.16816.F32.BF16"
    operands: str
    stall: int = 1
    write: int = None  # the scoreboard that is released when the result is there
    read: int = None   # the one that is released when the operands are read
    wait: int = 0      # a bit for each scoreboard that it waits for

    @property
    def name(self):
        return self.opcode.split(".")[0]

    @property
    def target(self):
        found = re.search(r"`\(([^)]+)\)", self.operands)
        return found[1] if found else None


class Block:
    def __init__(self, index):
        self.index, self.instructions, self.successors, self.predecessors = index, [], [], []


LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P[T0-9]+)\s+)?([A-Z][A-Za-z0-9_.]*)\s*([^;]*?)\s*;\s*/\* 0x([0-9a-f]{16}) \*/")
SECOND = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/")


class Function:
    """One kernel: the blocks that its entry reaches. Calls are taken to return; what is called is not part of it."""

    def __init__(self, name, lines):
        self.name = name
        instructions, labels, pending = [], {}, []
        for line in lines:
            label = re.match(r"^\.?([$\w.]+):", line)
            if label:
                pending.append(line.split(":")[0].strip())
                continue
            second = SECOND.match(line)
            if second and instructions:
                control, last = int(second[1], 16) >> 41, instructions[-1]
                last.stall, last.wait = max(1, control & 15), control >> 11 & 63
                last.write, last.read = (None if number == 7 else number for number in (control >> 5 & 7, control >> 8 & 7))
                continue
            found = LINE.search(line)
            if found:
                for each in pending:
                    labels[each] = len(instructions)
                pending = []
                instructions.append(Instruction(int(found[1], 16), found[2] or "", found[3], found[4]))
        self.blocks = self._blocks(instructions, labels)

    @staticmethod
    def _ends(instruction):
        """(leaves the block, may go on with the next instruction)"""
        if instruction.name in ("BRA", "JMP", "BRX", "JMX", "BREAK"):
            # A branch for divergent warps, or under a second predicate, can fall through; `@P3 BRA P4, ...` has two.
            conditional = instruction.predicate or instruction.opcode.startswith("BRA.") or re.match(r"!?U?P\d", instruction.operands)
            return True, bool(conditional)
        if instruction.name in ("EXIT", "RET", "KILL"):
            return True, bool(instruction.predicate)
        return False, True

    def _blocks(self, instructions, labels):
        starts = {0, *labels.values()}
        for i, each in enumerate(instructions):
            if self._ends(each)[0]:
                starts.add(i + 1)
        order = sorted(s for s in starts if s < len(instructions))
        of = {start: Block(i) for i, start in enumerate(order)}
        for start, end in zip(order, order[1:] + [len(instructions)]):
            block = of[start]
            block.instructions = instructions[start:end]
            last = block.instructions[-1]
            leaves, goes_on = self._ends(last)
            if leaves and last.target in labels and labels[last.target] in of:
                block.successors.append(of[labels[last.target]])
            if goes_on and end in of:
                block.successors.append(of[end])
        reached, todo = set(), [of[0]] if of else []
        while todo:
            block = todo.pop()
            if block in reached:
                continue
            reached.add(block)
            todo += block.successors
        blocks = [of[s] for s in order if of[s] in reached]
        for block in blocks:
            for successor in block.successors:
                successor.predecessors.append(block)
        return blocks

    def loops(self):
        """Natural loops, inner ones first."""
        dominators = {block: set(self.blocks) for block in self.blocks}
        dominators[self.blocks[0]] = {self.blocks[0]}
        changed = True
        while changed:
            changed = False
            for block in self.blocks[1:]:
                of = [dominators[p] for p in block.predecessors]
                new = set.intersection(*of) | {block} if of else {block}
                if new != dominators[block]:
                    dominators[block], changed = new, True
        bodies = {}
        for block in self.blocks:
            for header in block.successors:
                if header not in dominators[block]:
                    continue
                body, todo = {header}, [block]
                while todo:
                    each = todo.pop()
                    if each not in body:
                        body.add(each)
                        todo += each.predecessors
                bodies.setdefault(header, set()).update(body)
        return [Loop(header, body) for header, body in sorted(bodies.items(), key=lambda item: (len(item[1]), item[0].index))]


@dataclasses.dataclass
class Loop:
    header: Block
    body: set

    def instructions(self):
        return [each for block in sorted(self.body, key=lambda b: b.index) for each in block.instructions]

    def latches(self):
        return [block for block in self.body if self.header in block.successors]


def disassemble(cubin):
    """{kernel: Function} of a cubin."""
    functions, name, lines = {}, None, []
    for line in run([find_tool("nvdisasm"), "-c", "-hex", str(cubin)]).splitlines():
        section = re.match(r"^\.text\.(\S+):", line)
        if section:
            if name:
                functions[name] = Function(name, lines)
            name, lines = section[1], []
        elif name:
            lines.append(line)
    if name:
        functions[name] = Function(name, lines)
    return functions
