"""What a machine's own agent does: it sees that the machine will go, and lets the cluster know in time.

Ray watches neither the cloud's notice nor a UPS. Told by this agent, it starts replacements first, moves what runs and
gives no new work to the machine; when that is done or the time is up, the agent stops the machine's own Ray, by the
process id it was given.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_app.cluster import state
from serve_app.cluster.signs import Sign, Watcher

logger = logging.getLogger(__name__)
STOP_GRACE_S = 10.0
LONGEST_BACKOFF_S = 30.0

Clock = Callable[[], float]
Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Node:
    """The machine's Ray: the head's address, the node's id there (hex) and the process to stop."""

    head: str
    node_id: str
    pid: int


class Confirmed:
    """A sign that has come `times` in a row. One that goes away before that has never been."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._seen = 0

    def heard(self, sign: Sign | None) -> Sign | None:
        self._seen = self._seen + 1 if sign else 0
        return sign if sign and self._seen >= (1 if sign.certain else self._times) else None


@dataclass(slots=True)
class Agent:
    """Watches until there is a sign, drains, waits and stops. `head` talks to the cluster, `watchers` look."""

    node: Node
    head: "Head"
    watchers: Sequence[Watcher]
    every_s: float = 5.0
    confirm: int = 2
    margin_s: float = 5.0
    clock: Clock = time.time
    sleep: Sleep = time.sleep
    _confirmed: dict[str, Confirmed] = field(default_factory=dict)

    def run(self) -> Sign | None:
        """Until the machine is drained and its Ray stopped; None if its Ray ended by itself before any sign."""
        while _alive(self.node.pid):
            sign = self.look()
            if sign:
                self._drain(sign)
                return sign
            self.sleep(self.every_s)
        logger.info("the node's Ray has ended; nothing is left to watch")
        return None

    def look(self) -> Sign | None:
        """The most urgent sign that has been confirmed, if there is one."""
        found = []
        for watcher in self.watchers:
            sign = watcher.look()
            known = self._confirmed.setdefault(watcher.name, Confirmed(self.confirm))
            if confirmed := known.heard(sign):
                found.append(confirmed)
            elif sign:
                logger.info("%s: %s; waiting for it to be said again", watcher.name, sign.reason)
        return min(found, key=lambda sign: sign.deadline, default=None)

    def _drain(self, sign: Sign) -> None:
        until = sign.deadline - self.margin_s
        logger.warning("draining: %s; %.0f s are left", sign.reason, until - self.clock())
        told = self._tell(sign, until)
        while told and _alive(self.node.pid) and self.clock() < until:
            self.sleep(min(1.0, self.every_s))
        late = _alive(self.node.pid)
        if late:
            logger.warning("time is up before everything had moved: stopping the node's Ray")
        self._publish(sign, "stopped: time was up" if late and told else "drained")
        stop(self.node.pid, self.sleep)

    def _tell(self, sign: Sign, until: float) -> bool:
        """Ask the head to drain this node, again and again: it may be restarting. False if time ran out."""
        backoff_s = 1.0
        while self.clock() < until and _alive(self.node.pid):
            try:
                accepted, why = self.head.drain(self.node.node_id, sign.reason, int(sign.deadline * 1000))
                if accepted:
                    self._publish(sign, "draining")
                    return True
                logger.warning("the head refuses to drain this node: %s", why)
            except Exception as error:  # noqa: BLE001 - the head may be away in any way; until the deadline it is tried
                logger.warning("the head did not answer (%s); trying again in %.0f s", type(error).__name__, backoff_s)
            self.sleep(min(backoff_s, max(0.0, until - self.clock())))
            backoff_s = min(LONGEST_BACKOFF_S, 2 * backoff_s)
        return False

    def _publish(self, sign: Sign, what: str) -> None:
        value = {"state": what, "reason": sign.reason, "deadline": round(sign.deadline)}
        with contextlib.suppress(Exception):  # the head may be away; what the node does is in its own log, too
            self.head.publish(f"node/{self.node.node_id[-12:]}", value)


class Head:
    """The cluster's head, as far as an agent needs it. Connects when it is first asked, and anew after a failure."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: Any = None

    def drain(self, node_id: str, reason: str, deadline_ms: int) -> tuple[bool, str]:
        """(accepted, why not). Ray's own: what runs there moves, and the deadline is a hint to it."""
        from ray.core.generated import autoscaler_pb2

        preempted = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        accepted, why = self._gcs().drain_node(node_id, preempted, reason, deadline_ms, timeout=5)
        return bool(accepted), str(why)

    def publish(self, part: str, value: dict[str, Any]) -> None:
        state.publish(self._gcs(), part, value)

    def node_at(self, ip: str) -> str:
        """The id (hex) of the one living node with this address. Raises `LookupError` if it is not one."""
        nodes = self._gcs().get_all_node_info(timeout=10).items()
        found = [str(node_id.hex()) for node_id, info in nodes if info.state == 0 and info.node_manager_address == ip]
        if len(found) != 1:
            raise LookupError(f"{len(found)} living nodes have the address {ip}; name this one with --node-id")
        return found[0]

    def _gcs(self) -> Any:
        if self._client is None:
            from ray._raylet import GcsClient  # type: ignore[attr-defined]

            self._client = GcsClient(address=self.address)
        return self._client


def stop(pid: int, sleep: Sleep = time.sleep) -> None:
    """End a process: asked first, then made to."""
    for word in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, word)
        waited_s = 0.0
        while _alive(pid) and waited_s < STOP_GRACE_S:
            sleep(0.2)
            waited_s += 0.2


def _alive(pid: int) -> bool:
    """Whether it runs; one that only waits to be buried doesn't."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    except PermissionError:
        return True
    return stat.rpartition(")")[2].split()[0] not in "ZX"
