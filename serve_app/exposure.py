"""What has to be in place before a door may listen where other machines can reach it.

Asked by `megacity up` before it starts anything, and again by every ingress replica, so that no other way of deploying
a profile gets around it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from serve_app.config import Settings
from serve_app.errors import ConfigError
from serve_app.services.keys import Keys, private

SHORTEST_TOKEN = 32  # characters; Ray's own are 64


async def check(settings: Settings, keys: Keys, environ: Mapping[str, str] = os.environ) -> None:
    """Raises `ConfigError` with the remedy; says nothing of a service that listens on loopback only."""
    exposed = settings.ingress.exposed()
    if exposed is None:
        return
    problem = _of_callers(settings) or _of_ray(environ)
    if problem is None and not await keys.any_live():
        problem = "there is no key in force, so nobody could call; make one with `megacity keys create`"
    if problem:
        raise ConfigError(f"refusing to listen on {exposed}: {problem}")


def _of_callers(settings: Settings) -> str | None:
    return "set access.anonymous to false in the profile" if settings.access.anonymous else None


def _of_ray(environ: Mapping[str, str]) -> str | None:
    """Ray's own ports run whatever they are sent, and some listen on every interface."""
    if environ.get("RAY_AUTH_MODE", "").casefold() != "token":
        return "Ray's ports need a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH in the environment"
    path = Path(environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not path.is_file():
        return "Ray's token file is missing; make one with `openssl rand -hex 32` and name it in RAY_AUTH_TOKEN_PATH"
    if not private(path):
        return f"Ray's token file can be read by others; run `chmod 600 {path}`"
    if len(path.read_text().strip()) < SHORTEST_TOKEN:
        return f"Ray's token is shorter than {SHORTEST_TOKEN} characters; make one with `openssl rand -hex 32`"
    return None
