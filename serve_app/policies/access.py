"""Who may do what: scopes, who may come without a key, and which requests a browser was tricked into sending."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from serve_app.errors import Forbidden
from serve_app.types import Caller, Kind, Priority

INFERENCE = "inference"
KIND_SCOPES: Mapping[str, str] = MappingProxyType(
    {
        "chat": "chat and text completions, and asking where one would go",
        "audio": "transcriptions, pronunciation, speech",
        "motion": "poses, dances, and questions about pictures and movements",
        "retrieval": "embeddings, documents, and questions to them",
    }
)
SCOPES: Mapping[str, str] = MappingProxyType(
    {
        INFERENCE: "every kind of job, also kinds that a later version adds",
        **KIND_SCOPES,
        "finops": "costs, budgets and alerts",
        "metrics": "`GET /metrics`",
        "admin": "everything, and the keys themselves",
    }
)
SCOPE_OF_KIND: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.CHAT: "chat",
        Kind.COMPLETION: "chat",
        Kind.TRANSCRIPTION: "audio",
        Kind.PRONUNCIATION: "audio",
        Kind.SPEECH: "audio",
        Kind.POSE: "motion",
        Kind.DANCE: "motion",
        Kind.COACHING: "motion",
        Kind.EMBEDDING: "retrieval",
        Kind.DOCUMENTS: "retrieval",
        Kind.RETRIEVAL: "retrieval",
    }
)

NOBODY = Caller(tenant="", tier=Priority.BATCH, scopes=frozenset())
LOCAL = Caller()
READY_KEYS: Mapping[str, Caller] = MappingProxyType(
    {
        f"sk-local-{tier.name.lower()}": Caller(tier=tier, key=f"local-{tier.name.lower()}")
        for tier in (Priority.PREMIUM, Priority.STANDARD, Priority.BATCH)
    }
)


@dataclass(frozen=True, slots=True)
class AccessRules:
    """`args.access` of a profile. The rates are for callers whose key has none of its own; `None` is no limit.

    `anonymous` lets callers without a key in as tenant `local`, and is for loopback only. `hosts` are names under which
    such a service may be called, beside the loopback names and the hosts of the zones.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by the profile loader, never changed

    anonymous: bool = False
    hosts: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for rate in (self.requests_per_minute, self.tokens_per_minute):
            if rate is not None and rate < 1:
                raise ValueError("a rate should be at least 1 a minute; leave it out for no limit")


def scope_of(kind: Kind) -> str:
    return SCOPE_OF_KIND[kind]


def require(caller: Caller, scope: str) -> None:
    """Raises `Forbidden` unless the caller has this scope or one that includes it."""
    enough = {scope, "admin"} | ({INFERENCE} if scope in KIND_SCOPES else set())
    if not caller.scopes & enough:
        raise Forbidden(f"This key has no scope '{scope}'. Use one that has it, or ask for it.", code="missing_scope")


def collection_of(tenant: str, name: str) -> str:
    """A collection of documents as the engines know it. The length keeps `a` + `b:c` and `a:b` + `c` apart."""
    return f"{len(tenant)}:{tenant}:{name}"


def is_loopback(host: str) -> bool:
    """Whether `host`, without a port, can only mean this machine."""
    name = host.strip("[]").rstrip(".").casefold()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refuse_strangers(hosts: Sequence[str], header: Mapping[str, str], known: Iterable[str]) -> None:
    """Raises `Forbidden` for what a page from elsewhere made a browser send.

    Callers without a key are trusted for where they are, and a browser on this machine is there too: a foreign page
    reaches it by a plain request (which `Origin` and `Sec-Fetch-Site` tell) or by a name of its own that it has
    pointed at this machine (which `Host` tells). `hosts` are all `Host` headers; `known` are names that are ours.
    """
    if header.get("sec-fetch-site", "none").casefold() == "cross-site":
        raise _stranger("This request was made by a page of another site.")
    allowed = {name.casefold() for name in known}
    if not all(_is_ours(host, allowed) for host in hosts):
        raise _stranger("This service is not known by the name in the Host header.")
    origin = header.get("origin")
    if origin is not None and _authority(origin) not in {_authority(f"//{host}") for host in hosts}:
        raise _stranger("This request was made by a page of another origin.")


def _stranger(what: str) -> Forbidden:
    return Forbidden(
        f"{what} It is refused because callers need no key here; the operator can list names under access.hosts.",
        code="foreign_origin",
    )


def _is_ours(host: str, allowed: set[str]) -> bool:
    """A name that is allowed or below one that is, as zones take their subdomains too."""
    authority = _authority(f"//{host}")
    if authority is None:
        return False
    name = authority[0]
    labels = name.split(".")
    return is_loopback(name) or any(".".join(labels[i:]) in allowed for i in range(len(labels)))


def _authority(url: str) -> tuple[str, int | None] | None:
    """Host and port of a URL or of `//host:port`; `None` for `null` and what is none."""
    try:
        parts = urlsplit(url)
        port = parts.port  # the scheme's own is left out in `Origin` and in `Host` alike
    except ValueError:
        return None
    if not parts.hostname or parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname.rstrip("."), port
