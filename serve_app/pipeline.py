"""The request path is a list that is read in one place."""

from collections.abc import Sequence

from serve_app.types import Handler, Stage


def compose(stages: Sequence[Stage], innermost: Handler) -> Handler:
    """Wrap `innermost` so that the first stage of the list sees a job first and an event last."""
    handler = innermost
    for stage in reversed(stages):
        handler = stage(handler)
    return handler
