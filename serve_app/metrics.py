"""Every metric of the house, in one table, and the page that `GET /metrics` shows.

A node has several ingress and engine processes. They write into one folder (`MEGACITY_METRICS_DIR`), so that any
ingress can show the sum. Under Ray the folder is chosen by itself; a process that stands alone counts in memory.
The library's own variable for the folder is set in our processes only: Ray's would write there too.

Labels take their values from bounded sets only: never an id, a name that a caller made up, or text.
The `gen_ai_*` names, labels and buckets are those of the OpenTelemetry semantic conventions for generative AI.
"""

import os
import stat
import tempfile
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector


def _shared_folder() -> Path | None:
    """The folder of this node's processes, made if need be; `None` for a process that stands alone."""
    named = os.environ.get("MEGACITY_METRICS_DIR")
    raylet = os.environ.get("RAY_RAYLET_PID")  # the same in every worker of one Ray node
    if not named and not raylet:
        return None
    folder = Path(named or f"{tempfile.gettempdir()}/megacity-metrics-{os.getuid()}-{raylet}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return None  # somebody else's folder under a name that can be guessed
    return folder


FOLDER = _shared_folder()
if FOLDER:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(FOLDER)
    for left_behind in FOLDER.glob(f"gauge_live*_{os.getpid()}.db"):  # by a dead process with this one's number
        left_behind.unlink(missing_ok=True)
    # The library would ask for the process's number whenever it counts, in case of a fork; nothing forks after this.
    OURS = os.getpid()
    values.ValueClass = values.MultiProcessValue(lambda: OURS)  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()

# Bounds in seconds, as the conventions advise, with room above for cold starts and long answers.
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
LONG_S = (163.84, 327.68, 655.36)
TOKENS = tuple(4**power for power in range(14))

GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")


def _counter(name: str, help_text: str, *labels: str) -> Counter:
    return Counter(name, help_text, labels, registry=REGISTRY)


def _gauge(name: str, help_text: str, *labels: str) -> Gauge:
    return Gauge(name, help_text, labels, registry=REGISTRY, multiprocess_mode="livesum")


def _histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(name, help_text, labels, registry=REGISTRY, buckets=buckets)


# fmt: off
REQUESTS = _counter("megacity_requests_total", "Requests that have ended; status is ok, cancelled or an error code.",
                    "door", "kind", "model", "engine", "status")
ERRORS = _counter("megacity_errors_total", "Errors that runs have ended with.", "door", "code")
CANCELLATIONS = _counter("megacity_cancellations_total", "Requests whose caller went away.", "door", "kind", "model")
ROUTES = _counter("megacity_route_decisions_total", "Where requests were sent; asked is auto or model.",
                  "asked", "model", "engine", "node_class")
PROMPT_TOKENS = _counter("megacity_prompt_tokens_total", "Tokens read.", "model")
COMPLETION_TOKENS = _counter("megacity_completion_tokens_total", "Tokens written.", "model")
IN_FLIGHT = _gauge("megacity_requests_in_flight", "Requests that are being answered.", "door")
ENGINE_BUSY = _gauge("megacity_engine_slots_busy", "Slots of an engine that are in use.", "engine")
ENGINE_WAITING = _gauge("megacity_engine_waiting", "Requests that wait for a slot of an engine.", "engine", "priority")
ENGINE_STATE = _gauge("megacity_engine_state", "What an engine says of itself, over its replicas on this node.",
                      "engine", "what")
ATTEMPTS = _counter("megacity_dispatch_attempts_total", "Runs of an engine; outcome is ok, cancelled or an error code.",
                    "engine", "outcome")
RETRIES = _counter("megacity_dispatch_retries_total", "Runs that were tried again after an engine had failed.",
                   "engine", "reason")
RETRIES_DENIED = _counter("megacity_dispatch_retries_denied_total", "Retries that the budget did not allow.", "engine")
BREAKER_OPEN = _gauge("megacity_breaker_open", "Ingress processes that avoid an engine because it keeps failing.",
                      "engine")
CACHE = _counter("megacity_cache_requests_total", "Requests by what the cache did: hit, miss or bypass.",
                 "kind", "task", "result")
TTFT = _histogram("megacity_time_to_first_token_seconds", "Time to the first token or artifact.",
                  (*FIRST_TOKEN_S, 20.0, 40.0, 80.0), "kind", "model")
TPOT = _histogram("megacity_time_per_output_token_seconds", "Time per token after the first ones.",
                  TOKEN_S, "kind", "model")
DURATION = _histogram("megacity_request_duration_seconds", "Time to the end of a whole answer.",
                      DURATION_S + LONG_S, "kind", "model")

GEN_AI_TOKENS = _histogram("gen_ai_client_token_usage", "Number of input and output tokens used.",
                           TOKENS, *GEN_AI, "gen_ai_token_type")
GEN_AI_DURATION = _histogram("gen_ai_server_request_duration_seconds", "Time to the last byte or last output token.",
                             DURATION_S, *GEN_AI, "error_type")
GEN_AI_TPOT = _histogram("gen_ai_server_time_per_output_token_seconds", "Time per output token after the first.",
                         (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5), *GEN_AI)
GEN_AI_TTFT = _histogram("gen_ai_server_time_to_first_token_seconds", "Time to the first token.",
                         FIRST_TOKEN_S, *GEN_AI)
# fmt: on


def exposition(accept: str = "") -> tuple[bytes, str]:
    """The node's metrics and their content type, in the format that the `Accept` header asks for."""
    registry = REGISTRY
    if FOLDER:
        _forget_dead(FOLDER)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(FOLDER))  # type: ignore[no-untyped-call]
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _forget_dead(folder: Path) -> None:
    """What a dead process held in flight is gone with it; its counters stay."""
    for file in folder.glob("gauge_live*_*.db"):
        if not _alive(int(file.stem.rpartition("_")[2])):
            file.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
