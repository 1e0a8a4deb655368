"""Which engine a row of a trace goes to, decided by the router of a profile."""

from collections.abc import Callable, Mapping

from serve_app.errors import MegaCityError
from serve_app.policies.routing import Router
from serve_app.types import Caller, Chat, Constraints, Job, Kind, Message, Priority, Wish

COLUMNS = ("model", "zone", "task", "locale", "tier")
CHARS_PER_TOKEN = 4
LONG = 2000 // CHARS_PER_TOKEN + 1
"""Prompts are told apart by whether they are longer than the routing table's limit; a trace has no words."""


def by_router(router: Router, engines: Mapping[str, object]) -> Callable[[Mapping[str, str]], str]:
    """A function from a row to an engine's name. A row that the router refuses goes to `refused`."""
    health = dict.fromkeys(engines, "ready")
    known: dict[tuple[str, ...], str] = {}

    def name(row: Mapping[str, str]) -> str:
        if row.get("engine"):
            return row["engine"]
        tokens = min(int(row["in_tokens"]), LONG)
        key = (*(row.get(column) or "" for column in COLUMNS), str(tokens >= LONG))
        if key not in known:
            known[key] = _engine(router, health, dict(zip(COLUMNS, key, strict=False)), tokens)
        return known[key]

    return name


def _engine(router: Router, health: Mapping[str, object], wishes: Mapping[str, str], tokens: int) -> str:
    tier = wishes["tier"].upper()
    priority = Priority[tier] if tier in Priority.__members__ else Priority.STANDARD
    zone, task, locale = (wishes[key] or None for key in ("zone", "task", "locale"))
    wish = Wish(wishes["model"] or "auto", zone, task, locale)
    text = Message("user", "x" * (tokens * CHARS_PER_TOKEN))
    job = Job("row", Kind.CHAT, Chat((text,)), Caller(tier=priority), wish=wish, constraints=Constraints(priority))
    try:
        return router.decide(job, health)[0].decision.engine  # type: ignore[arg-type]
    except MegaCityError:
        return "refused"
