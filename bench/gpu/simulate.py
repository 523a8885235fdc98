"""A sub-core of a Hopper multiprocessor, cycle by cycle: a few warps that walk a path of their loop again and again, in steady state.

In order within a warp: an instruction waits for the stall count of the one before, for the scoreboards that ptxas made it wait for, for its pipe, and for the one issue
slot of the sub-core. wgmma queues at the tensor unit, first come first served; WARPGROUP.DEPBAR waits for groups of them. Barriers with a number in a register are taken for turns that the warps
(one of each warpgroup) hand on: BAR.SYNC waits for one's own, BAR.ARV gives the next warp its own. Data in memory are there when asked for: what copies must hide is not seen.

Latencies are rounded from published microbenchmarks of Volta to Hopper. They matter little where two warps fill each other's gaps. What is not published is how many products of wgmma a
warp can have under way before it waits to issue the next (TENSOR_QUEUE): for `none` on sm_90a, 1 to 16 of them give 0.64 to 0.89 of the peak at D = 64, 0.70 to 0.99 at 96, 0.97 to 1.00 at 128.
"""
import re

import pipes

LATENCY = {"MUFU": 22, "SHFL": 24, "LDS": 29, "LDSM": 33, "LDG": 280, "LD": 280, "LDL": 40, "LDC": 30, "LDCU": 30, "ULDC": 12, "S2R": 20, "S2UR": 20, "R2UR": 12, "F2I": 18, "I2F": 18, "F2F": 18,
           "FRND": 18, "FLO": 18, "POPC": 18, "BREV": 18, "SYNCS": 24, "ATOMS": 60, "REDUX": 24, "VOTEU": 12, "ELECT": 14, "B2R": 20, "P2R": 8}
QUEUE = 64        # cycles of work that the shared-memory unit takes before it lets warps wait
TENSOR_QUEUE = 2  # products under way and waiting, of one warp, before the next has to wait


class Step:
    """One instruction of a trace, prepared."""
    __slots__ = ("name", "cost", "stall", "write", "read", "wait", "kind", "groups", "latency")

    def __init__(self, instruction, machine):
        self.name, self.cost = instruction.name, pipes.cost(instruction, machine)
        self.stall, self.write, self.read, self.wait = instruction.stall, instruction.write, instruction.read, instruction.wait
        self.latency = LATENCY.get(self.name, 16)
        self.kind, self.groups = "plain", 0
        if self.name in ("HGMMA", "QGMMA", "IGMMA", "BGMMA"):
            self.kind, self.groups = "async", int("gsb" in instruction.operands)
        elif self.cost["tensor"]:
            self.kind = "sync"
        elif self.name == "WARPGROUP" and "DEPBAR" in instruction.opcode:
            self.kind, self.groups = "groups", int(re.findall(r"0x([0-9a-f]+)", instruction.operands)[-1], 16)
        elif self.name == "BAR":
            by_register = bool(re.match(r"U?R\d", instruction.operands))
            self.kind = ("turn" if "SYNC" in instruction.opcode else "pass") if by_register else "rendezvous" if "SYNC" in instruction.opcode or "RED" in instruction.opcode else "plain"


class Warp:
    def __init__(self, index, begin):
        self.index, self.at, self.ready, self.issued, self.rounds = index, 0, float(begin), -1.0, []
        self.scoreboard = [0.0] * 6
        self.groups, self.queue, self.last_async = [], [], 0.0
        self.waiting = False  # at a rendezvous
        self.turns = []       # times at which it was given the turn


def steady_cycles(trace, warps, machine, same_block):
    """Cycles of a round of all warps; None if the barriers are not understood. `trace`: the instructions of one pass; `same_block`: whether block barriers join these warps."""
    steps = [Step(each, machine) for each in trace]
    # Warps begin apart, by chance: the mean of a few ways.
    spans = [run(steps, warps, same_block, part) for part in ((0.0,) if warps == 1 else (0.2, 0.5, 0.8))]
    return sum(spans) / len(spans) if None not in spans else None


def run(steps, warps, same_block, apart, rounds=8, skip=4):
    crew = [Warp(i, i * apart * sum(step.stall for step in steps)) for i in range(warps)]
    uses_turns = any(step.kind == "turn" for step in steps)
    if uses_turns:
        crew[0].turns.append(0.0)
    free = {"issue": 0.0, "alu": 0.0, "heavy": 0.0, "lite": 0.0, "xu": 0.0, "uniform": 0.0, "smem": 0.0, "tensor": 0.0}
    while any(len(warp.rounds) < rounds for warp in crew):
        best, best_time = None, float("inf")
        for warp in crew:
            if warp.waiting:
                continue
            time = earliest(warp, steps[warp.at], free)
            if best is None or time < best_time or time == best_time and warp.issued < best.issued:
                best, best_time = warp, time
        if best is None or best_time == float("inf"):
            return None  # the barriers are not of a form that is known here
        best.issued = best_time
        issue(best, steps[best.at], best_time, free, crew, same_block)
        if best.at + 1 == len(steps):
            best.at = 0
            best.rounds.append(best_time)
        else:
            best.at += 1
    spans = [(warp.rounds[rounds - 1] - warp.rounds[skip - 1]) / (rounds - skip) for warp in crew]
    return sum(spans) / len(spans)


def earliest(warp, step, free):
    time = max(warp.ready, free["issue"])
    if step.wait:
        for i in range(6):
            if step.wait >> i & 1:
                time = max(time, warp.scoreboard[i])
    c = step.cost
    if step.kind == "sync":
        time = max(time, free["tensor"])
    elif step.kind == "async":
        if len(warp.queue) >= TENSOR_QUEUE:
            time = max(time, warp.queue[-TENSOR_QUEUE])
    elif step.kind == "groups":
        if len(warp.groups) > step.groups:
            time = max(time, warp.groups[-1 - step.groups])
    elif step.kind == "turn":
        time = max(time, warp.turns[0]) if warp.turns else float("inf")
    if c["alu"]:
        time = max(time, free["alu"])
    if c["heavy"]:
        time = max(time, free["heavy"])
    elif c["fma"]:
        time = max(time, min(free["heavy"], free["lite"]))
    if c["xu"]:
        time = max(time, free["xu"])
    if c["uniform"]:
        time = max(time, free["uniform"])
    if c["smem"] and step.kind == "plain":
        time = max(time, free["smem"] - QUEUE)
    return time


def issue(warp, step, time, free, crew, same_block):
    c, done = step.cost, time + step.latency
    free["issue"] = time + 1
    warp.ready = time + step.stall
    if step.kind == "sync":
        free["tensor"] = time + c["tensor"]
        done = time + c["tensor"] + 30
    elif step.kind == "async":
        done = max(time, free["tensor"]) + c["tensor"]
        free["tensor"] = done
        warp.queue = warp.queue[-7:] + [done]
        if step.groups:
            warp.groups = warp.groups[-7:] + [done + 16]
    if c["alu"]:
        free["alu"] = time + c["alu"]
    if c["heavy"]:
        free["heavy"] = time + c["heavy"]
    elif c["fma"]:
        half = "lite" if free["lite"] <= free["heavy"] else "heavy"
        free[half] = time + 2
    if c["xu"]:
        free["xu"] = time + c["xu"]
    if c["uniform"]:
        free["uniform"] = time + c["uniform"]
    if c["smem"] and step.kind == "plain":
        free["smem"] = max(time, free["smem"]) + c["smem"] * 4
        done = max(done, free["smem"] + step.latency)
    if step.write is not None:
        warp.scoreboard[step.write] = done
    if step.read is not None:
        warp.scoreboard[step.read] = max(warp.scoreboard[step.read], time + 8)
    if step.kind == "turn":
        warp.turns.pop(0)
    elif step.kind == "pass":
        crew[(warp.index + 1) % len(crew)].turns.append(time + 20)
    elif step.kind == "rendezvous" and same_block and len(crew) > 1:
        warp.waiting = True
        if all(each.waiting for each in crew):
            for each in crew:
                each.waiting, each.ready = False, max(each.ready, time + 20)
