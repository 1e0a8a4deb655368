"""What a cloud is out of, and which machines die young: when to ask for which kind again. Pure but for its clock."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

Clock = Callable[[], float]
FIRST_PAUSE_S = 5.0
"""After a refusal of everything, or a machine that died young. It doubles with each further one."""


@dataclass(frozen=True, slots=True)
class StockRules:
    """`cooldown_s`: how long nothing is asked of spot after it was sold out. `young_s`: what goes before that age
    without having been let go has died. `deaths`: so many in a row put launches off, for `longest_pause_s` at most."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    cooldown_s: float = 300.0
    young_s: float = 300.0
    deaths: int = 3
    longest_pause_s: float = 300.0


@dataclass(slots=True)
class _Type:
    sold_out_until: float = 0.0
    paused_until: float = 0.0
    pause_s: float = 0.0
    deaths: int = 0
    launched: dict[str, int] = field(default_factory=lambda: {"spot": 0, "ondemand": 0, "refused": 0})


class Stock:
    """One memory for all node types of a cluster. Times are in seconds of `clock`."""

    def __init__(self, rules: StockRules, clock: Clock = time.time) -> None:
        self._rules = rules
        self._clock = clock
        self._types: dict[str, _Type] = {}
        self._seen: dict[str, tuple[str, float]] = {}

    def has_spot(self, node_type: str) -> bool:
        return self._clock() >= self._of(node_type).sold_out_until

    def paused_s(self, node_type: str) -> float:
        """How long nothing of this type should be asked for, because nothing is to be had or what comes dies."""
        return max(0.0, self._of(node_type).paused_until - self._clock())

    def spot_refused(self, node_type: str) -> None:
        self._of(node_type).sold_out_until = self._clock() + self._rules.cooldown_s

    def all_refused(self, node_type: str) -> None:
        known = self._of(node_type)
        known.launched["refused"] += 1
        self._pause(known)

    def launched(self, node_type: str, market: str, count: int) -> None:
        known = self._of(node_type)
        known.launched[market] += count
        if known.deaths < self._rules.deaths:
            known.pause_s = 0.0

    def alive(self, nodes: Iterable[tuple[str, str]]) -> None:
        """What there is now, as (id, type): whoever is missing without having been let go has died."""
        there, now = dict(nodes), self._clock()
        for node in set(self._seen) - set(there):
            self._ended(*self._seen.pop(node), now)
        for node, node_type in there.items():
            _, born = self._seen.setdefault(node, (node_type, now))
            if now - born >= self._rules.young_s:
                self._of(node_type).deaths = 0

    def let_go(self, node: str, failed: bool) -> None:
        """This machine is being ended by us; `failed`: because what was to run on it had died."""
        node_type, born = self._seen.pop(node, ("", 0.0))
        if node_type and failed:
            self._ended(node_type, born, self._clock())
        elif node_type:
            self._of(node_type).deaths = 0

    def state(self) -> dict[str, dict[str, Any]]:
        """For `megacity status`: what each type is short of, in words and seconds."""
        return {name: self._described(name, known) for name, known in sorted(self._types.items())}

    def _described(self, name: str, known: _Type) -> dict[str, Any]:
        pause = self.paused_s(name)
        if pause and known.deaths >= self._rules.deaths:
            words = f"{known.deaths} machines in a row died within {self._rules.young_s:.0f} s of their start"
        elif pause:
            words = "nothing to be had, neither spot nor on demand"
        else:
            words = "available" if self.has_spot(name) else "spot is sold out; on demand stands in"
        spot = max(0.0, known.sold_out_until - self._clock())
        until = known.paused_until if pause else known.sold_out_until
        return {"state": words, "again_at": round(until) if pause or spot else None, **known.launched}

    def _of(self, node_type: str) -> _Type:
        return self._types.setdefault(node_type, _Type())

    def _ended(self, node_type: str, born: float, now: float) -> None:
        known = self._of(node_type)
        if now - born >= self._rules.young_s:
            known.deaths = 0
            return
        known.deaths += 1
        if known.deaths >= self._rules.deaths:
            self._pause(known)

    def _pause(self, known: _Type) -> None:
        known.pause_s = min(self._rules.longest_pause_s, max(FIRST_PAUSE_S, 2 * known.pause_s))
        known.paused_until = self._clock() + known.pause_s
