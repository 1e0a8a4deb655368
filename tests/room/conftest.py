import itertools
from collections.abc import Callable

import pytest

from serve_app.types import Caller, Chat, Constraints, Job, Kind, Message, Priority

Ask = Callable[..., Job]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ask() -> Ask:
    numbers = itertools.count()

    def one(tenant: str = "a", priority: Priority = Priority.STANDARD, deadline: float | None = None) -> Job:
        chat = Chat((Message("user", "hello"),))
        return Job(f"job-{next(numbers)}", Kind.CHAT, chat, Caller(tenant), constraints=Constraints(priority, deadline))

    return one
