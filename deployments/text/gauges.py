"""What vLLM says of itself."""

from typing import Any


class Gauges:
    """What vLLM calls a stat logger: it is told about every step."""

    def __init__(self) -> None:
        names = ("requests_running", "requests_waiting", "kv_cache_tokens", "kv_cache_tokens_used")
        sums = ("prefix_tokens_asked", "prefix_tokens_hit", "preemptions")
        self.values = dict.fromkeys((*names, *sums), 0.0)

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: object, **__: object) -> None:
        now = self.values
        if scheduler_stats is not None:
            now["requests_running"] = scheduler_stats.num_running_reqs
            now["requests_waiting"] = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
            now["kv_cache_tokens_used"] = scheduler_stats.kv_cache_usage * now["kv_cache_tokens"]
            now["prefix_tokens_asked"] += scheduler_stats.prefix_cache_stats.queries
            now["prefix_tokens_hit"] += scheduler_stats.prefix_cache_stats.hits
        if iteration_stats is not None:
            now["preemptions"] += iteration_stats.num_preempted_reqs

    def idle(self) -> None:
        """vLLM tells nothing after its last step."""
        self.values |= {"requests_running": 0.0, "requests_waiting": 0.0, "kv_cache_tokens_used": 0.0}

    def log_engine_initialized(self) -> None:
        """Nothing is logged."""

    def log(self) -> None:
        """As above."""

    def record_sleep_state(self, *_: object) -> None:
        """It is never put to sleep."""
