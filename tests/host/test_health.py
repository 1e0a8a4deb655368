"""What Serve says of a deployment, as the router sees it."""

import pytest
from ray.serve.schema import DeploymentStatus, DeploymentStatusTrigger, ReplicaState

from serve_app.fleet import _state
from serve_app.policies.routing import Health


@pytest.mark.parametrize(
    ("status", "trigger", "replicas", "seen"),
    [
        ("HEALTHY", "CONFIG_UPDATE_COMPLETED", ["RUNNING"], "ready"),
        ("UNHEALTHY", "HEALTH_CHECK_FAILED", ["RUNNING", "STARTING"], "ready"),
        ("UNHEALTHY", "HEALTH_CHECK_FAILED", ["STARTING"], "waking"),
        ("UNHEALTHY", "REPLICA_STARTUP_FAILED", ["STARTING"], "broken"),
        ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED", [], "broken"),
        ("UPDATING", "CONFIG_UPDATE_STARTED", [], "waking"),
    ],
)
def test_lost_replicas_are_not_a_broken_engine(status: str, trigger: str, replicas: list[str], seen: Health) -> None:
    said = {
        "status": DeploymentStatus(status).value,
        "status_trigger": DeploymentStatusTrigger(trigger).value,
        "replicas": [{"state": ReplicaState(state).value} for state in replicas],
    }
    assert _state(said) == seen
