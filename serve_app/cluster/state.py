"""What the parts of a cluster tell `megacity status`: small JSON values in Ray's own key-value store.

The store belongs to the head and goes with it unless the head keeps it in Redis; every part says what it knows anew.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

NAMESPACE = b"megacity"
STALE_S = 120.0


def publish(gcs: Any, part: str, value: Mapping[str, Any]) -> None:
    """Write a part's state through a `GcsClient`. Raises what the client raises while the head is away."""
    said = json.dumps({"at": time.time(), **value}).encode()
    gcs.internal_kv_put(part.encode(), said, True, NAMESPACE, timeout=5)


def read(gcs: Any) -> dict[str, dict[str, Any]]:
    """Every part's state, by name. `age_s` is how old it is; `stale` what should have been written anew since."""
    parts = {}
    for key in sorted(gcs.internal_kv_keys(b"", NAMESPACE, timeout=5)):
        raw = gcs.internal_kv_get(key, NAMESPACE, timeout=5)
        if raw is not None:
            parts[key.decode()] = _aged(json.loads(raw))
    return parts


def _aged(value: dict[str, Any]) -> dict[str, Any]:
    age_s = max(0.0, time.time() - value.pop("at", 0.0))
    return {**value, "age_s": round(age_s, 1), "stale": age_s > STALE_S}
