"""Signs that a machine will go: a cloud's notice, a UPS that runs empty, a broken GPU. Standard library only."""

import json
import logging
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

logger = logging.getLogger(__name__)
METADATA_URL = "http://169.254.169.254"
TOKEN_TTL_S = 300
TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 5.0
LEAST_CHARGE = 20.0
"""Percent, from which on a machine on battery goes down in order."""
BATTERY_S = 120.0
"""How long a drain may take on what is left, unless the UPS gives less."""
BROKEN_S = 60.0

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Sign:
    """Why the machine will go and when (seconds since the epoch). `certain`: nobody takes it back."""

    reason: str
    deadline: float
    certain: bool = False


class Watcher(Protocol):
    """Looks once. What cannot be asked is no sign: it is logged, and the machine stays."""

    @property
    def name(self) -> str: ...

    def look(self) -> Sign | None: ...


class SpotNotice:
    """EC2's notice, two minutes ahead, from the instance metadata (version 2: with a token)."""

    name = "spot"

    def __init__(self, url: str = METADATA_URL) -> None:
        self._url = url.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._token = ""
        self._renew_at = 0.0

    def look(self) -> Sign | None:
        try:
            raw = self._get("/latest/meta-data/spot/instance-action")
        except (OSError, ValueError) as error:
            logger.info("the instance metadata cannot be read: %s", type(error).__name__)
            self._renew_at = 0.0
            return None
        return None if raw is None else _notice(raw)

    def _get(self, path: str) -> bytes | None:
        """The body, or None where there is nothing, which is EC2's way to say that all is well."""
        if time.monotonic() >= self._renew_at:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
            asked = urllib.request.Request(f"{self._url}/latest/api/token", method="PUT", headers=headers)
            self._token = self._read(asked).decode()
            self._renew_at = time.monotonic() + TOKEN_TTL_S / 2
        request = urllib.request.Request(self._url + path, headers={"X-aws-ec2-metadata-token": self._token})
        try:
            return self._read(request)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def _read(self, request: urllib.request.Request) -> bytes:
        with self._opener.open(request, timeout=TIMEOUT_S) as response:
            body: bytes = response.read(65536)
            return body


def _notice(raw: bytes) -> Sign:
    """A notice that cannot be read is one all the same: EC2 gives two minutes."""
    try:
        said = json.loads(raw)
        deadline = datetime.fromisoformat(said["time"].replace("Z", "+00:00")).timestamp()
        return Sign(f"the cloud takes this machine back ({str(said['action'])[:20]})", deadline, certain=True)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Sign("the cloud takes this machine back", time.time() + 120, certain=True)


@dataclass(frozen=True, slots=True)
class Power:
    """What a UPS says: on battery, percent of charge, seconds left; None where it doesn't say."""

    on_battery: bool
    charge: float | None = None
    seconds: float | None = None
    low: bool = False


class Ups:
    """apcupsd's `apcaccess` or NUT's `upsc`: below `least` percent on battery the machine goes down in order."""

    name = "ups"

    def __init__(
        self,
        command: Sequence[str],
        read: Callable[[str], Power],
        least: float = LEAST_CHARGE,
        clock: Clock = time.time,
    ) -> None:
        self._command = list(command)
        self._read = read
        self._least = least
        self._clock = clock

    def look(self) -> Sign | None:
        power = self._ask()
        if power is None or not power.on_battery:
            return None
        if not power.low and (power.charge is None or power.charge > self._least):
            return None
        left_s = min(BATTERY_S, power.seconds) if power.seconds else BATTERY_S
        charge = "low" if power.charge is None else f"at {power.charge:.0f} %"
        return Sign(f"mains power is away and the battery is {charge}", self._clock() + left_s)

    def _ask(self) -> Power | None:
        try:
            done = subprocess.run(
                self._command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True, errors="replace"
            )
            return self._read(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            logger.info("the UPS cannot be asked: %s", type(error).__name__)
            return None


def apcaccess(text: str) -> Power:
    """`NAME : value unit` lines of apcupsd. Raises `ValueError` without a STATUS."""
    rows = _rows(text)
    status = rows.get("STATUS", "")
    if not status or "COMMLOST" in status:
        raise ValueError("apcupsd has lost its UPS")
    minutes = _figure(rows.get("TIMELEFT"))
    return Power(
        "ONBATT" in status,
        _figure(rows.get("BCHARGE")),
        None if minutes is None else minutes * 60,
        "LOWBATT" in status,
    )


def upsc(text: str) -> Power:
    """`name: value` lines of NUT. Raises `ValueError` without `ups.status`."""
    rows = _rows(text)
    status = rows.get("ups.status", "").split()
    if not status:
        raise ValueError("NUT knows no status of this UPS")
    return Power(
        "OB" in status, _figure(rows.get("battery.charge")), _figure(rows.get("battery.runtime")), "LB" in status
    )


def _rows(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _figure(value: str | None) -> float | None:
    try:
        return float(value.split()[0]) if value else None
    except (ValueError, IndexError):
        return None


class Gpus:
    """The driver's word on every GPU (NVML): one that has fallen off the bus, or memory errors beyond repair."""

    name = "gpu"

    def __init__(self, nvml: Any, clock: Clock = time.time) -> None:
        self._nvml = nvml
        self._clock = clock
        nvml.nvmlInit()
        self._count = nvml.nvmlDeviceGetCount()

    def look(self) -> Sign | None:
        try:
            wrong = next(filter(None, map(self._problem, range(self._count))), None)
        except self._nvml.NVMLError as error:
            wrong = f"a GPU does not answer ({type(error).__name__})"
        return Sign(wrong, self._clock() + BROKEN_S) if wrong else None

    def _problem(self, index: int) -> str | None:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        self._nvml.nvmlDeviceGetMemoryInfo(handle)
        try:
            uncorrected = self._nvml.nvmlDeviceGetTotalEccErrors(
                handle, self._nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, self._nvml.NVML_VOLATILE_ECC
            )
        except self._nvml.NVMLError_NotSupported:  # cards for desks have no ECC
            return None
        return f"GPU {index} has {uncorrected} memory errors beyond repair" if uncorrected else None


def gpus() -> Gpus | None:
    """None where there is no driver or no `pynvml` to ask it with."""
    try:
        import pynvml  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    try:
        return Gpus(pynvml)
    except pynvml.NVMLError as error:
        logger.info("the GPU driver cannot be asked: %s", type(error).__name__)
        return None
