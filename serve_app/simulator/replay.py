"""A trace under the real policy and under those to compare with."""

import heapq
from collections.abc import Callable, Iterable
from typing import Any

from serve_app.policies.fleet import decide
from serve_app.simulator import rivals
from serve_app.simulator.run import Outcome, Policy, SpotCap, simulate
from serve_app.simulator.setup import Cfg
from serve_app.simulator.trace import Trace

OURS = "megacity"
TUNED = "Ray Serve at 70 %"
"""What costs are compared with."""

Factory = Callable[[Trace, Cfg], Policy]

POLICIES: dict[str, Factory] = {
    OURS: lambda _trace, _cfg: decide,
    TUNED: lambda _trace, _cfg: rivals.ray_serve(0.7),
    "Ray Serve, default": lambda _trace, _cfg: rivals.ray_serve(),
    "like SkyServe": lambda _trace, _cfg: rivals.skyserve(),
    "always on at peak": lambda trace, cfg: rivals.always_on(peaks(trace, cfg)),
}


def replay(trace: Trace, cfg: Cfg, spot: SpotCap, names: Iterable[str] = tuple(POLICIES)) -> dict[str, Outcome]:
    """One outcome per policy."""
    return {name: simulate(trace, cfg, POLICIES[name](trace, cfg), spot) for name in names}


def peaks(trace: Trace, cfg: Cfg) -> dict[str, int]:
    """The most requests of each engine that would run at once if nobody waited."""
    most, running = dict.fromkeys(trace.engines, 0), {name: _Running() for name in trace.engines}
    for t, owner, prompt, output in zip(trace.t, trace.engine, trace.prompt, trace.output, strict=True):
        name = trace.engines[owner]
        spec: dict[str, Any] = cfg["engines"][name]
        ends = t + spec["fixed"] + prompt / spec["prefill"] + output * spec["tpot"]
        most[name] = max(most[name], running[name].with_one(t, ends))
    return most


class _Running:
    def __init__(self) -> None:
        self.ends: list[float] = []

    def with_one(self, t: float, ends: float) -> int:
        """How many run at `t`, with one that ends at `ends`."""
        while self.ends and self.ends[0] <= t:
            heapq.heappop(self.ends)
        heapq.heappush(self.ends, ends)
        return len(self.ends)
