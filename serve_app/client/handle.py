"""The way over a deployment handle, for applications and drivers of the same Ray cluster."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from serve_app.client.way import Answerer, Run
from serve_app.errors import EngineFailed, MegaCityError, QueueFull, Unavailable
from serve_app.policies.routing import route_header
from serve_app.types import Decision, Delta, Done, Job, Routed

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class Handle:
    """What comes over a handle are batches, and errors are items of them, not raised ones."""

    def __init__(self, handle: "DeploymentHandle") -> None:
        self._handle = handle

    async def run(self, job: Job) -> Run:
        with _cluster_errors():
            batches = self._handle.options(stream=True, method_name="run").remote(job)
            try:
                async for batch in batches:
                    for item in batch:
                        match item:
                            case MegaCityError():
                                raise item
                            case Routed(decision):
                                yield Answerer(decision.model, decision.version, route_header(decision))
                            case Delta() | Done():
                                yield item
            finally:
                batches.cancel()

    async def decide(self, job: Job) -> Decision:
        with _cluster_errors():
            decision: Decision = await self._handle.options(method_name="decide").remote(job)
        return decision

    async def models(self) -> list[str]:
        with _cluster_errors():
            names: list[str] = await self._handle.options(method_name="models").remote()
        return names

    async def aclose(self) -> None:
        """A handle holds nothing open."""


def app_handle(app: str) -> "DeploymentHandle":
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        return serve.get_app_handle(app)
    except RayServeException as error:
        raise Unavailable(f"This Ray cluster has no Serve application '{app}'. Is the service running?") from error


@contextlib.contextmanager
def _cluster_errors() -> Iterator[None]:
    """Errors of ours as they were raised; Ray's as the nearest of ours."""
    from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError

    try:
        yield
    except (RequestCancelledError, TaskCancelledError) as error:
        raise asyncio.CancelledError from error
    except BackPressureError as error:
        raise QueueFull("The service has no room for another request. Please try again.") from error
    except (RayActorError, DeploymentUnavailableError) as error:
        raise Unavailable("The service was lost. Please try again.") from error
    except RayTaskError as error:
        if isinstance(error.cause, MegaCityError):
            raise error.cause from None
        raise EngineFailed("The service failed while answering.") from error
    except RayError as error:
        raise Unavailable("The service could not be reached. Please try again.") from error
