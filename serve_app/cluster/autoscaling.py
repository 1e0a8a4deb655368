"""The fleet policy in force: what Serve's controller asks how many replicas every engine should have.

Named in a profile as `autoscaling_policy: {policy_function: serve_app.cluster.autoscaling:Fleet}`. Serve sends this
module to its controller by value, so everything that thinks is in `steering`, which is imported there.
"""

from typing import Any


class Fleet:
    """Made once in the controller and asked some ten times a second, with the contexts of all engines that scale."""

    def __init__(self) -> None:
        from serve_app.cluster.steering import Steering

        self._steering = Steering()

    def __call__(self, contexts: dict[Any, Any]) -> tuple[dict[Any, int], dict[Any, dict[str, Any]]]:
        return self._steering.targets(contexts), {}
