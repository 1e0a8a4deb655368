"""The contract of every engine, kept by vLLM."""

import pytest

from tests.deployments.test_contract import (
    test_bad_input_is_refused_before_the_first_event,
    test_cancelling_the_task_frees_the_slots,
    test_closing_frees_the_slots,
    test_max_tokens_is_kept,
    test_one_done_comes_last,
    test_runs_at_the_same_time_do_not_mix,
    test_usage_counts_what_was_sent,
)

__all__ = [
    "test_bad_input_is_refused_before_the_first_event",
    "test_cancelling_the_task_frees_the_slots",
    "test_closing_frees_the_slots",
    "test_max_tokens_is_kept",
    "test_one_done_comes_last",
    "test_runs_at_the_same_time_do_not_mix",
    "test_usage_counts_what_was_sent",
]
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800), pytest.mark.asyncio(loop_scope="session")]
