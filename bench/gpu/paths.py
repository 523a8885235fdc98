"""What one pass of a kernel's main loop costs: the loop with the matrix instructions, its cheapest path for a full tile and for one whose mask is evaluated.

A path is judged by what it does before what it costs. Of all paths through the loop those are taken that do all tensor work and all asynchronous copies (a tile that exists, aligned rows);
then, for a full tile, those that hide no score, and for a partial one those that hide as many as a thread has; then the cheapest. Scores are hidden by `FSEL r, x, -INF, p`, one
each. What remains off the path is rare by construction: moving the base of the softmax, asking for the next 32 tiles, careful products of what is not finite.

A loop inside is one step of its path, as often as it runs: until tensor work is complete if it multiplies and that work is known, else as its counter says, else once (waits).
"""
import dataclasses
import re

import pipes

COPIES = {"LDGSTS", "UTMALDG", "UBLKCP"}
TENSOR = {"HGMMA", "HMMA", "QGMMA", "IGMMA", "IMMA", "QMMA"}
MOST_KEYS = 400


class Unknown(Exception):
    """The code is not of a form that this model reads."""


def is_tensor(instruction):
    return instruction.name in TENSOR


def hides(instruction):
    return instruction.name in ("FSEL", "SEL") and "-INF" in instruction.operands or instruction.name == "SEL" and "0xff800000" in instruction.operands


@dataclasses.dataclass
class Path:
    cost: pipes.Cost
    tensor: int = 0
    copies: int = 0
    hidden: int = 0
    count: dict = dataclasses.field(default_factory=dict)  # instructions by name
    trace: tuple = ()  # of blocks, or of (trace, trace) and (trace, times)

    def __add__(self, other):
        names = {name: self.count.get(name, 0) + other.count.get(name, 0) for name in {*self.count, *other.count}}
        return Path(self.cost + other.cost, self.tensor + other.tensor, self.copies + other.copies, self.hidden + other.hidden, names, (self.trace, other.trace))

    def times(self, factor):
        return Path(self.cost.times(factor), self.tensor * factor, self.copies * factor, self.hidden * factor, {n: c * factor for n, c in self.count.items()}, (self.trace, factor))

    def instructions(self):
        """In the order of their execution."""
        out, todo = [], [self.trace]
        while todo:
            trace = todo.pop()
            if trace == ():
                continue
            if not isinstance(trace, tuple):
                out += trace.instructions
            elif isinstance(trace[1], int):
                todo += [trace[0]] * trace[1]
            else:
                todo += [trace[1], trace[0]]
        return out

    @property
    def key(self):
        return self.tensor, self.copies, self.hidden

    @property
    def weight(self):
        """What the cheapest path has least of: the pipe that is busiest, then issue slots."""
        c = self.cost
        return max(c["issue"], c["alu"], c["fma"], c["heavy"], c["xu"]), c["issue"] + c["stall"] / 64


def of_block(block, machine):
    path = Path(pipes.Cost(), trace=block)
    for each in block.instructions:
        cost = pipes.cost(each, machine)
        if cost is None:
            raise Unknown(f"the instruction {each.opcode} is in no table of pipes.py")
        path.cost = path.cost + cost
        path.tensor += is_tensor(each)
        path.copies += each.name in COPIES
        path.hidden += hides(each)
        path.count[each.name] = path.count.get(each.name, 0) + 1
    return path


def constant(text):
    text = text.strip()
    return int(text, 0) if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", text) else None


def trips(loop, entry_blocks):
    """How often a counted loop runs, where a constant step and a constant bound are seen; else None."""
    for latch in loop.latches():
        branch = latch.instructions[-1]
        predicate = branch.predicate.strip("@!")
        sources = {predicate}
        for each in reversed(latch.instructions):  # UISETP, moved to P by PLOP3
            first = each.operands.split(",")[0].strip()
            if first in sources and each.name == "PLOP3":
                sources |= set(re.findall(r"\bUP\d", each.operands))
        for each in reversed(loop.instructions()):
            if each.name not in ("ISETP", "UISETP"):
                continue
            parts = [part.strip() for part in each.operands.split(",")]
            if parts[0] not in sources or len(parts) < 4:
                continue
            register, limit = re.sub(r"\.reuse", "", parts[2]), constant(parts[3])
            if limit is None:
                continue
            steps = [constant(i.operands.split(",")[2]) for i in loop.instructions()
                     if i.name in ("IADD3", "VIADD", "UIADD3") and i.operands.split(",")[0].strip() == register and re.sub(r"\.reuse", "", i.operands.split(",")[1].strip()) == register]
            steps = [s for s in steps if s]
            if len(steps) != 1:
                continue
            step = steps[0]
            begin = initial(register, entry_blocks)
            count = (limit - begin) / step
            if ".NE" not in each.opcode:
                count = -(-(limit - begin) // step) + (1 if ".GE" in each.opcode and step < 0 or ".LE" in each.opcode else 0)
            if count == int(count) and 0 < count <= 4096:
                return int(count)
    return None


def initial(register, blocks):
    """The constant that the last instruction before a loop moves to its counter; 0 if none is seen."""
    for block in blocks:
        for each in reversed(block.instructions):
            if each.operands.split(",")[0].strip() != register:
                continue
            value = constant(each.operands.split(",")[-1])
            return value if each.name in ("MOV", "UMOV", "IMAD", "MOV32I") and value is not None else 0
    return 0


@dataclasses.dataclass
class Pass:
    """One pass of a main loop."""
    full: Path
    partial: Path  # None where no path hides scores
    trips: int     # of the inner loop that multiplies, 1 if there is none
    header: int    # offset in the code


class Analysis:
    def __init__(self, function, machine, scores=0, tensor=0):
        """`scores`: of a thread in a tile; `tensor`: cycles of its warp's products at the peak. 0: as the code shows."""
        self.machine, self.scores, self.expected = machine, scores, tensor
        self.loops = function.loops()
        self.paths = {}
        self.function = function

    def path(self, block):
        if block not in self.paths:
            self.paths[block] = of_block(block, self.machine)
        return self.paths[block]

    def inner(self, loop):
        """The loops directly inside."""
        inside = [each for each in self.loops if each is not loop and each.body < loop.body]
        return [each for each in inside if not any(each.body < other.body for other in inside if other is not each)]

    def main_loops(self):
        """Loops of which each is a pass over tiles: they multiply, hold a softmax (exp2), and contain no other such loop."""
        def is_pass(loop):
            names = [each.opcode for each in loop.instructions()]
            return any(is_tensor(each) for each in loop.instructions()) and any(n.startswith("MUFU.EX2") for n in names)
        found = [loop for loop in self.loops if is_pass(loop)]
        return [loop for loop in found if not any(other.body < loop.body for other in found)]

    def through(self, loop, tensor_trips):
        """{key: cheapest Path} from the header to a latch."""
        collapsed, member = {}, {}
        for inner in self.inner(loop):
            ways = self.through(inner, 1)
            multiplies = any(is_tensor(each) for each in inner.instructions())
            before = [p for p in inner.header.predecessors if p not in inner.body]
            times = tensor_trips if multiplies and self.expected else trips(inner, before) or 1
            collapsed[inner.header] = ({key: way.times(times) for key, way in ways.items()}, inner)
            member.update({block: inner.header for block in inner.body})
        place = lambda block: member.get(block, block)
        order, seen = [], set()

        def visit(block):  # depth first, without recursion: bodies are long
            stack = [(block, iter(self.followers(block, loop, collapsed, place)))]
            seen.add(block)
            while stack:
                top, rest = stack[-1]
                following = next((n for n in rest if n not in seen), None)
                if following is None:
                    order.append(top)
                    stack.pop()
                else:
                    seen.add(following)
                    stack.append((following, iter(self.followers(following, loop, collapsed, place))))

        start = place(loop.header) if loop.header not in collapsed else loop.header
        visit(start)
        best = {block: {} for block in order}
        best[start] = {(0, 0, 0): Path(pipes.Cost())}
        ends = {}
        for block in reversed(order):
            own = collapsed[block][0].values() if block in collapsed else [self.path(block)]
            after = {}
            for way in best[block].values():
                for each in own:
                    keep(after, way + each)
            latches = [block] if block not in collapsed else list(collapsed[block][1].body)
            if any(loop.header in each.successors and not (block in collapsed and loop.header is collapsed[block][1].header) for each in latches):
                for way in after.values():
                    keep(ends, way)
            for following in self.followers(block, loop, collapsed, place):
                for way in after.values():
                    keep(best[following], way)
        return ends

    def followers(self, block, loop, collapsed, place):
        blocks = collapsed[block][1].body if block in collapsed else [block]
        out = []
        for each in blocks:
            for following in each.successors:
                at = place(following)
                if following in loop.body and following is not loop.header and at is not block and at not in out:
                    out.append(at)
        return out

    def passes(self):
        found = []
        for loop in self.main_loops():
            straight = max((way.cost["useful"] for way in self.through(loop, 0).values()), default=0)
            rolled = max((way.cost["useful"] for way in self.through(loop, 1).values()), default=0) - straight
            times = 1
            if self.expected and rolled:
                times = (self.expected - straight) / rolled
                if times != int(times) or times < 1:
                    raise Unknown(f"the loop has products of {straight:.0f} cycles and {rolled:.0f} in a loop inside; {self.expected:.0f} are expected")
            times = int(times)
            ways = list(self.through(loop, times).values())
            if not ways:
                raise Unknown("no path leads through the main loop")
            ways = [way for way in ways if way.tensor == max(w.tensor for w in ways)]
            ways = [way for way in ways if way.copies == max(w.copies for w in ways)]
            plain = min(way.hidden for way in ways)
            full = min((way for way in ways if way.hidden == plain), key=lambda way: way.weight)
            scores = self.scores or int(full.count.get("MUFU", 0)) // 8 * 8
            hidden = [way for way in ways if way.hidden >= max(scores, 1) + plain]
            found.append(Pass(full, min(hidden, key=lambda way: way.weight) if hidden else None, times, loop.header.instructions[0].offset))
        return found


def keep(table, way):
    """The cheapest way of each key. Ways that hide few scores more are of no interest of their own where there are too many."""
    old = table.get(way.key)
    if old is None or way.weight < old.weight:
        table[way.key] = way
    if len(table) > MOST_KEYS:
        worst = max(table, key=lambda key: (-key[0], -key[1], table[key].weight))
        del table[worst]
