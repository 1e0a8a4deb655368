"""What Serve says of a deployment, as the router sees it."""

import pytest
from ray.serve.schema import DeploymentStatus, DeploymentStatusOverview, DeploymentStatusTrigger, ReplicaState

from serve_app.fleet import _state
from serve_app.policies.routing import Health


@pytest.mark.parametrize(
    ("status", "trigger", "replicas", "seen"),
    [
        ("HEALTHY", "CONFIG_UPDATE_COMPLETED", {"RUNNING": 1}, "ready"),
        ("UNHEALTHY", "HEALTH_CHECK_FAILED", {"RUNNING": 1, "STARTING": 1}, "ready"),
        ("UNHEALTHY", "HEALTH_CHECK_FAILED", {"STARTING": 1}, "waking"),
        ("UNHEALTHY", "REPLICA_STARTUP_FAILED", {"STARTING": 1}, "broken"),
        ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED", {}, "broken"),
        ("UPDATING", "CONFIG_UPDATE_STARTED", {}, "waking"),
    ],
)
def test_lost_replicas_are_not_a_broken_engine(
    status: str, trigger: str, replicas: dict[str, int], seen: Health
) -> None:
    said = DeploymentStatusOverview(
        DeploymentStatus(status),
        DeploymentStatusTrigger(trigger),
        {ReplicaState(state): count for state, count in replicas.items()},
        message="",
    )
    assert _state(said) == seen
