"""How long requests wait for one of many slots: the Erlang C formula."""

import math


def wait_share(slots: int, load: float) -> float:
    """The share of requests that have to wait at all (Erlang C). `load`: requests running on average; 1 if too many."""
    if load >= slots:
        return 1.0
    if load <= 0:
        return 0.0
    blocked = 1.0
    for n in range(1, slots + 1):  # Erlang B, by its recursion
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / slots * (1 - blocked))


def wait_quantile(slots: int, load: float, service_s: float, share: float) -> float:
    """The seconds that `share` of the requests wait no longer than, for exponential service times."""
    waiting = wait_share(slots, load)
    if waiting <= 1 - share:
        return 0.0
    if load >= slots:
        return math.inf
    return math.log(waiting / (1 - share)) * service_s / (slots - load)


def slots_for(load: float, service_s: float, wait_s: float, share: float = 0.95, step: int = 1) -> int:
    """The fewest slots, in steps, with which `share` of the requests wait no longer than `wait_s`."""
    slots = max(step, math.ceil(load / step) * step)
    while wait_quantile(slots, load, service_s, share) > wait_s:
        slots += step
    return slots
