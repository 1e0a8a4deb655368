"""When a model that sleeps is woken, and when it goes back to sleep: the coder's rule.

It wakes when a request is meant for it by its words, or when there are many requests in a short time; it sleeps after
a while without any. The answer comes with its reason, for those who look.
"""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class OnDemand:
    """More than `more_than` requests in `within_s` seconds wake it, `idle_s` seconds without any let it sleep."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    more_than: int = 10
    within_s: float = 600.0
    idle_s: float = 1800.0


@dataclass(frozen=True, slots=True)
class Waking:
    """Whether the model should be awake, and why."""

    awake: bool
    reason: str


def waking(rule: OnDemand, t: float, arrivals: int, called: bool, busy: bool, mem: dict[str, Any]) -> Waking:
    """What holds at `t` (seconds, any origin).

    `arrivals` are requests since the last call, `called` says that one of them was meant for this model by its words,
    `busy` that something runs or waits. `mem` is kept by the caller between calls and holds plain data.
    """
    recent = [(when, count) for when, count in mem.get("recent", ()) if 0 <= t - when < rule.within_s]
    mem["recent"] = recent = [*recent, (t, arrivals)] if arrivals else recent
    if arrivals or busy:
        mem["active"] = t
    volume = sum(count for _, count in recent)
    if called or volume > rule.more_than:
        mem["awake"] = True
        return Waking(True, "asked for by its words" if called else f"{volume} requests in {rule.within_s / 60:g} min")
    idle = t - mem.get("active", t)
    if mem.get("awake") and idle < rule.idle_s:
        return Waking(True, f"idle for {idle:.0f} of {rule.idle_s:.0f} s")
    mem["awake"] = False
    return Waking(False, f"{volume} of more than {rule.more_than} requests in {rule.within_s / 60:g} min")
