"""How many rounds a write needs to reach a cluster, by the production code of rumors alone, on simulated nodes.

In each round every node that heard something new pushes it on, all at once. Where a rumor dies out before it has reached
enough of them, rounds of exchanges follow, and count: in each of these every node that lacks the write asks a random peer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from random import Random

from benchmarks.results import Point, Result
from benchmarks.runner import Plan
from crdtdb.gossip import GossipConfig
from crdtdb.gossip.rumors import Rumors

CURVE = "rounds until 99.9 % of the nodes have a write"
_SIZES = (10, 30, 100, 300, 1_000)
_RUNS = 20
_PLACE = [("notes", "a")]


def spreading(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Count the rounds in clusters of 10 to 1,000 nodes."""
    runs = max(2, int(_RUNS * min(1.0, plan.share)))
    for size in _SIZES:
        tell(f"spreading: {size:,} nodes")
        rounds = statistics.median(_rounds(size, seed) for seed in range(runs))
        result.points.append(Point(curve=CURVE, unit="rounds", size=size, value=rounds))
        result.points.append(Point(curve="log2 of the nodes", unit="rounds", size=size, value=math.log2(size)))


def _rounds(size: int, seed: int) -> int:
    rng = Random(seed)
    names = [f"n{number}" for number in range(size)]
    rumors = {name: Rumors(GossipConfig().rumor_fanout, rng) for name in names}
    having, enough, rounds = {names[0]}, math.ceil(0.999 * size), 0
    rumors[names[0]].heard(_PLACE, [names[0]])
    while len(having) < enough:
        rounds += 1
        pushed = [(name, rumor) for name in sorted(having) if rumors[name] for rumor in rumors[name].take(name, names)]
        if not pushed:  # the rumor has died out
            lacking = [name for name in names if name not in having]
            having |= {name for name in lacking if rng.choice(names) in having}
        for _, (places, chosen, told) in pushed:
            for name in chosen:
                if name not in having:
                    having.add(name)
                    rumors[name].heard(places, told)
    return rounds
