"""The numbers of runtime/cuda/tuned.def from a sweep (timing.py)."""
import math
import re


def best_limit(rows):
    """Up to how many rows of a KV head kernels with one stripe of rows are to be preferred. `rows`: of the sweep, with `rows` and the `stripes` and `tiles` ms of a launch
    (the best of each kind with splits as the runtime chooses them). The limit whose choices take the least time, all launches weighing the same; the smallest of equal ones. None without launches."""
    told = [row for row in rows if row.get("stripes") and row.get("tiles")]
    if not told:
        return None
    cost = lambda limit: sum(math.log(row["stripes"] if row["rows"] <= limit else row["tiles"]) for row in told)
    return min(sorted({0, *(row["rows"] for row in told)}), key=lambda limit: (round(cost(limit), 9), limit))


def with_value(text, name, value):
    """The text of tuned.def with another value of one number."""
    found, count = re.subn(rf"^FLEX_TUNED\({name}, -?\d+\)", f"FLEX_TUNED({name}, {value})", text, flags=re.M)
    if count != 1:
        raise ValueError(f"tuned.def has {count} lines for {name}")
    return found
