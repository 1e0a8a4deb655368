"""Results that are too large for an answer: files under `home()/objects`, found again by their key.

A key says in its first half whose it is, without saying who that is, and cannot be guessed for its second half. A URL
carries a signature and when it expires, so that a browser can play what a program has asked for.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from serve_app.services.home import home
from serve_app.services.keys import server_secret

PATH = "/api/v1/objects/"
KEY = re.compile(r"[0-9a-f]{24}-[0-9a-f]{32}\.([a-z0-9]{2,5})")
EXTENSIONS: Mapping[str, str] = MappingProxyType(
    {
        "audio/mpeg": "mp3",
        "audio/wav": "wav",
        "audio/ogg": "ogg",
        "audio/aac": "aac",
        "audio/flac": "flac",
        "audio/pcm": "pcm",
        "image/png": "png",
        "image/jpeg": "jpg",
        "image/webp": "webp",
        "video/mp4": "mp4",
        "application/json": "json",
    }
)
MEDIA_TYPES: Mapping[str, str] = MappingProxyType({extension: name for name, extension in EXTENSIONS.items()})
DAY_S = 24 * 3600.0
SWEEP_S = 600.0


@dataclass(frozen=True, slots=True)
class Found:
    path: Path
    media_type: str


class Objects:
    """`retention_s`: how long an object is kept, and its URL is good. `secret` signs; every node has the same one.

    What has been kept long enough is removed by whoever stores next, at most every ten minutes.
    """

    def __init__(self, root: Path | None = None, secret: bytes | None = None, retention_s: float = DAY_S) -> None:
        self._root = root
        self._secret = secret
        self.retention_s = retention_s
        self._swept = 0.0

    async def put(self, tenant: str, data: bytes, media_type: str) -> str:
        """Keep `data` for `tenant`; returns the path and query of its URL."""
        key = await asyncio.to_thread(self._put, tenant, data, media_type)
        expires = int(time.time() + self.retention_s)
        return f"{PATH}{key}?expires={expires}&signature={self._signature(key, expires)}"

    async def find(self, key: str, tenant: str | None = None, expires: int = 0, signature: str = "") -> Found | None:
        """The object, for its owner or for whoever has a signature that has not expired."""
        named = KEY.fullmatch(key)
        if named and (self._owns(tenant, key) or self._signed(key, expires, signature)):
            path = self._folder() / key
            if await asyncio.to_thread(self._fresh, path):
                return Found(path, MEDIA_TYPES.get(named[1], "application/octet-stream"))
        return None

    def _put(self, tenant: str, data: bytes, media_type: str) -> str:
        folder = self._folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep(folder)
        key = f"{self._owner(tenant)}-{secrets.token_hex(16)}.{EXTENSIONS[media_type]}"
        part = folder / f".{key}"
        part.touch(mode=0o600)
        part.write_bytes(data)
        part.rename(folder / key)  # so that nobody ever reads half of it
        return key

    def _sweep(self, folder: Path) -> None:
        now = time.time()
        if now - self._swept < SWEEP_S:
            return
        self._swept = now
        for path in folder.iterdir():
            if not self._fresh(path):
                path.unlink(missing_ok=True)

    def _fresh(self, path: Path) -> bool:
        try:
            return time.time() - path.stat().st_mtime < self.retention_s
        except FileNotFoundError:
            return False

    def _folder(self) -> Path:
        return self._root or home() / "objects"

    def _owns(self, tenant: str | None, key: str) -> bool:
        return tenant is not None and hmac.compare_digest(self._owner(tenant), key[:24])

    def _signed(self, key: str, expires: int, signature: str) -> bool:
        good = hmac.compare_digest(self._signature(key, expires).encode(), signature.encode())
        return good and time.time() < expires

    def _owner(self, tenant: str) -> str:
        return self._hashed(f"tenant:{tenant}")[:24]

    def _signature(self, key: str, expires: int) -> str:
        return self._hashed(f"object:{key}:{expires}")

    def _hashed(self, text: str) -> str:
        if self._secret is None:
            self._secret = server_secret(home())
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
