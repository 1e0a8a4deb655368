"""The coach with the real comparison and the real tutor; poses are those of a dancer who is exactly known."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from deployments.coach import Coach
from deployments.dance import Compare
from deployments.llm import CTranslate2
from deployments.movement import recording
from serve_app.errors import BadRequest, EngineFailed, Unavailable
from serve_app.types import Artifact, Chat, Coaching, Delta, Done, Event, Handler, Job, Kind, Media, Payload, Pose
from tools.dancer.invariance import Take

QUESTION = "이 춤 동작의 문제점 설명해줘"
GOOD, BAD, STILL, NOBODY = (Media(name, name, 1) for name in ("good", "bad", "still", "nobody"))
TAKES = {
    "good": Take(),
    "bad": Take(errors={"left_elbow": 40, "right_knee": 20}),
    "still": Take(fps=1, duration_s=1),
}


class House:
    """The engines around a coach, what they were asked, and how many were at work at the same time."""

    def __init__(self, tutor: CTranslate2) -> None:
        self.asked: list[Job] = []
        self.busy = self.most = 0
        compare = Compare(Compare.Options(), {"pose": self.pose})
        self.handlers: dict[str, Handler] = {"pose": self.pose, "compare": compare.run, "explain": tutor.run}

    def coach(self, **options: object) -> Coach:
        return Coach(Coach.Options.model_validate({"tells": "report", **options}), self.handlers)

    async def pose(self, job: Job) -> AsyncGenerator[Event]:
        assert isinstance(job.payload, Pose)
        name = job.payload.media.sha256
        if name not in TAKES:
            raise BadRequest("Nobody can be seen.")
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(0.02)
        self.busy -= 1
        yield Artifact("landmarks", "application/octet-stream", recording.write(TAKES[name].of(1)))
        yield Done()

    async def listening(self, job: Job) -> AsyncGenerator[Event]:
        """A language model that only remembers."""
        self.asked.append(job)
        yield Delta("heard")
        yield Done()


@pytest.fixture
async def tutor() -> AsyncIterator[CTranslate2]:
    tutor = CTranslate2(CTranslate2.Options.model_validate({"path": "models/nano-tutor"}), slots=1)
    await tutor.load()
    yield tutor
    await tutor.close()


@pytest.fixture
def house(tutor: CTranslate2) -> House:
    return House(tutor)


def job(payload: Payload) -> Job:
    return Job("j", Kind.COACHING, payload)


async def answer(coach: Coach, payload: Payload) -> tuple[str, dict[str, bytes]]:
    events = [event async for event in coach.run(job(payload))]
    assert isinstance(events[-1], Done)
    artifacts = {event.name: event.data for event in events if isinstance(event, Artifact)}
    return "".join(event.text for event in events if isinstance(event, Delta)), artifacts


@pytest.mark.parametrize(("question", "elbow"), [(QUESTION, "팔꿈치"), ("What is wrong with this move?", "elbow")])
async def test_the_worst_joint_is_named_in_the_askers_language(house: House, question: str, elbow: str) -> None:
    text, found = await answer(house.coach(), Coaching(question, video=BAD, reference=GOOD))
    motion = json.loads(found["motion"])
    assert elbow in text
    assert elbow in motion["report"]
    assert motion["compared_with"] == "reference"
    assert motion["score"] < 90
    assert found["heatmap"].startswith(b"\x89PNG")


async def test_both_videos_are_looked_at_at_the_same_time(house: House) -> None:
    await answer(house.coach(), Coaching(QUESTION, video=BAD, reference=GOOD))
    assert house.most == 2


async def test_without_a_reference_left_is_compared_with_right(house: House) -> None:
    _, found = await answer(house.coach(), Coaching(QUESTION, video=BAD))
    motion = json.loads(found["motion"])
    assert (motion["compared_with"], motion["mirrored"]) == ("mirror", True)


async def test_a_pose_in_a_picture_is_compared_as_one_that_is_held(house: House) -> None:
    _, found = await answer(house.coach(), Coaching(QUESTION, image=STILL, reference=GOOD))
    assert json.loads(found["motion"])["compared_with"] == "reference"
    _, found = await answer(house.coach(), Coaching(QUESTION, image=STILL))
    assert json.loads(found["motion"])["compared_with"] == "mirror"


async def test_a_larger_model_gets_the_question_and_the_measurements(house: House) -> None:
    house.handlers["explain"] = house.listening
    await answer(house.coach(tells="question"), Coaching(QUESTION, video=BAD, reference=GOOD))
    (asked,) = house.asked
    assert isinstance(asked.payload, Chat)
    assert QUESTION in asked.payload.text
    assert "동작 보고: 점수" in asked.payload.text


@pytest.mark.parametrize(
    ("payload", "param"),
    [
        (Coaching(" ", video=BAD), "text"),
        (Coaching("x" * 2_001, video=BAD), "text"),
        (Coaching(QUESTION), "video"),
        (Coaching(QUESTION, video=NOBODY), None),
        (Coaching(QUESTION, video=BAD, reference=NOBODY), "reference"),
    ],
)
async def test_what_cannot_be_answered_is_refused_before_the_first_event(
    house: House, payload: Coaching, param: str | None
) -> None:
    with pytest.raises(BadRequest) as refused:
        await anext(house.coach().run(job(payload)))
    assert refused.value.param == param


async def test_without_words_of_a_model_those_of_the_comparison_do(house: House) -> None:
    async def away(_: Job) -> AsyncGenerator[Event]:
        raise Unavailable("away")
        yield Done()

    house.handlers["explain"] = away
    text, found = await answer(house.coach(), Coaching(QUESTION, video=BAD, reference=GOOD))
    assert text == " ".join(json.loads(found["motion"])["feedback"])


async def test_an_explanation_that_breaks_off_is_an_error(house: House) -> None:
    async def breaking(_: Job) -> AsyncGenerator[Event]:
        yield Delta("Your left")
        raise Unavailable("away")

    house.handlers["explain"] = breaking
    with pytest.raises(EngineFailed):
        await answer(house.coach(), Coaching(QUESTION, video=BAD, reference=GOOD))


async def test_leaving_early_leaves_nothing_behind(house: House) -> None:
    before = asyncio.all_tasks()
    run = house.coach().run(job(Coaching(QUESTION, video=BAD, reference=GOOD)))
    async with aclosing(run):
        await anext(run)
    waiting = asyncio.create_task(anext(house.coach().run(job(Coaching(QUESTION, video=BAD, reference=GOOD)))))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert asyncio.all_tasks() == before


async def test_what_a_vision_model_sees_is_told_too(house: House) -> None:
    house.handlers |= {"explain": house.listening, "see": house.listening}
    await answer(house.coach(tells="question"), Coaching(QUESTION, video=BAD, reference=GOOD))
    seeing, telling = (job.payload for job in house.asked)
    assert isinstance(seeing, Chat)
    assert isinstance(telling, Chat)
    assert seeing.messages[0].media == (BAD,)
    assert "heard" in telling.text


async def test_a_vision_model_that_is_away_is_done_without(house: House) -> None:
    async def away(_: Job) -> AsyncGenerator[Event]:
        raise Unavailable("away")
        yield Done()

    house.handlers["see"] = away
    text, _ = await answer(house.coach(), Coaching(QUESTION, video=BAD, reference=GOOD))
    assert text
