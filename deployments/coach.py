"""Answers questions about a movement: what was measured, put into words by a language model.

    video ─▶ pose ─▶ comparison ─▶ words
    picture or video ─▶ what a vision model sees (where there is one) ─┘

The parts are engines of their own. Those that don't wait for each other run at the same time.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, EngineFailed, MegaCityError
from serve_app.types import (
    Artifact,
    Chat,
    Coaching,
    Dance,
    Delta,
    Done,
    Event,
    Job,
    Kind,
    Landmarks,
    Media,
    Message,
    Payload,
    Pose,
    Progress,
    Usage,
)

HANGUL = range(0xAC00, 0xD7A4)
LONGEST_QUESTION = 2_000  # characters
HELD_S, HELD_EVERY_S = 2.0, 0.1
ASKED = {
    "ko": "질문: {question}\n측정 결과: {report}\n{notes}\n측정 결과에만 근거해 고칠 점을 짧게 답해 주세요.",
    "en": "Question: {question}\nMeasured: {report}\n{notes}\nSay briefly what to improve, from the measurements only.",
}
TO_BE_SEEN = {
    "ko": "이 사람의 자세와 동작을 한두 문장으로 설명해 주세요. 질문: {question}",
    "en": "Describe this person's posture and movement in a sentence or two. Question: {question}",
}


@dataclass(frozen=True, slots=True)
class _Measured:
    """What the comparison says, as JSON, and its picture."""

    analysis: dict[str, Any]
    heatmap: bytes


class Coach(Engine):
    """Needs a pose engine, a comparison and a language model; a vision model too, if the profile has one.

    With a reference the movement is compared with it. Without one, its left is compared with its right: the same
    movement in a mirror. Answered by the artifacts `motion` (JSON, see docs/dance.md, with `compared_with`) and
    `heatmap` (PNG), and by deltas.
    """

    class Options(EngineOptions):
        tells: Literal["report", "question"] = "question"
        """What the language model is given: the report line alone, as the nano tutor knows it, or the question too."""
        max_tokens: int = 300

    kinds = frozenset({Kind.COACHING})
    needs = {"pose": Kind.POSE, "compare": Kind.DANCE, "explain": Kind.CHAT}  # noqa: RUF012 - as the contract has it
    may_need = {"see": Kind.CHAT}  # noqa: RUF012 - as above

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        assert isinstance(job.payload, Coaching)
        payload, language = job.payload, _language(job.payload.question)
        moved = _checked(payload)
        measuring = asyncio.ensure_future(self._measured(job, moved, payload.reference, language))
        seeing = asyncio.ensure_future(self._seen(job, moved, payload.question, language))
        try:
            measured, seen = await asyncio.gather(measuring, seeing)
        finally:
            measuring.cancel()
            seeing.cancel()
            await asyncio.wait([measuring, seeing])
        yield Progress(0.8, "measured")
        against = "reference" if payload.reference else "mirror"
        motion = {**measured.analysis, "compared_with": against}
        yield Artifact("motion", "application/json", json.dumps(motion, ensure_ascii=False).encode())
        yield Artifact("heatmap", "image/png", measured.heatmap)
        async for delta in self._explained(job, motion, seen, language):
            yield delta
        yield Done(Usage())

    async def _measured(self, job: Job, moved: Media, reference: Media | Landmarks | None, language: str) -> _Measured:
        sides: tuple[Media | Landmarks, Media | Landmarks] = (moved, reference or moved)
        if job.payload.video is None:  # type: ignore[attr-defined]
            sides = await asyncio.gather(*(self._held(job, side) for side in sides))  # type: ignore[assignment]
        elif reference is None:
            sides = (await self._posed(job, moved),) * 2
        dance = Dance(*sides, mirror="auto" if reference else "yes", language=language)
        found = await self._artifacts("compare", job, dance)
        return _Measured(json.loads(found["analysis"]), found["heatmap"])

    async def _posed(self, job: Job, moved: Media | Landmarks) -> Landmarks:
        if isinstance(moved, Landmarks):
            return moved
        return Landmarks((await self._artifacts("pose", job, Pose(moved)))["landmarks"])

    async def _held(self, job: Job, moved: Media | Landmarks) -> Landmarks:
        """A movement; a pose in a picture as one that is held, which can be compared like any other."""
        return await asyncio.to_thread(_held, await self._posed(job, moved))

    async def _artifacts(self, role: str, job: Job, payload: Payload) -> dict[str, bytes]:
        """Everything that an engine answers to a payload, by name."""
        found: dict[str, bytes] = {}
        async with aclosing(self.handlers[role](_part(job, role, self.needs[role], payload))) as events:
            async for event in events:
                if isinstance(event, Artifact):
                    found[event.name] = event.data
        return found

    async def _seen(self, job: Job, moved: Media, question: str, language: str) -> str:
        """What a vision model says of the picture or video; nothing if there is none or it cannot say."""
        if "see" not in self.handlers:
            return ""
        asked = TO_BE_SEEN[language].format(question=question)
        chat = Chat((Message("user", asked, media=(moved,)),), replace(job.payload.sampling, max_tokens=200))
        try:
            async with aclosing(self.handlers["see"](_part(job, "see", Kind.CHAT, chat))) as events:
                return "".join([event.text async for event in events if isinstance(event, Delta)])
        except MegaCityError:
            return ""  # the measurements are worth telling without it

    async def _explained(self, job: Job, motion: dict[str, Any], seen: str, language: str) -> AsyncGenerator[Delta]:
        """The model's words. Where it has none, those of the comparison."""
        said = False
        chat = self._asked(job, motion, seen, language)
        try:
            async with aclosing(self.handlers["explain"](_part(job, "explain", Kind.CHAT, chat))) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        said = True
                        yield event
        except MegaCityError as error:
            if said:
                raise EngineFailed("The explanation broke off. Please try again.") from error
        if not said:
            yield Delta(" ".join(motion["feedback"]), tokens=0)

    def _asked(self, job: Job, motion: dict[str, Any], seen: str, language: str) -> Chat:
        sampling = replace(job.payload.sampling, max_tokens=self.options.max_tokens, temperature=0.0)  # type: ignore[attr-defined]
        if self.options.tells == "report":  # type: ignore[attr-defined]
            return Chat((Message("user", motion["report"]),), sampling)
        notes = "\n".join(filter(None, [seen, *motion["feedback"]]))
        question = job.payload.text
        text = ASKED[language].format(question=question, report=motion["report"], notes=notes)
        return Chat((Message("user", text),), sampling)


def _held(posed: Landmarks) -> Landmarks:
    import numpy as np

    from deployments.movement import recording

    found = recording.read(posed.data)
    if found.frames != 1:
        return posed
    times = np.arange(0, HELD_S, HELD_EVERY_S).astype(np.float32)
    points, world = (np.repeat(array, len(times), axis=0) for array in (found.points, found.world))
    return Landmarks(recording.write(recording.Recording(times, points, world, found.aspect)))


def _checked(payload: Coaching) -> Media:
    """What is to be looked at. Raises BadRequest."""
    if not payload.question.strip():
        raise BadRequest("There is no question; say in 'text' what you want to know.", param="text")
    if len(payload.question) > LONGEST_QUESTION:
        raise BadRequest(f"'text' should be at most {LONGEST_QUESTION} characters.", param="text")
    moved = payload.video or payload.image
    if moved is None:
        raise BadRequest("There is nothing to look at; send an 'image' or a 'video'.", param="video")
    return moved


def _part(job: Job, role: str, kind: Kind, payload: Payload) -> Job:
    """The job that another engine is given, which chooses its own model."""
    return replace(job, id=f"{job.id}.{role}", kind=kind, payload=payload, plan=(), model=None)


def _language(question: str) -> str:
    return "ko" if any(ord(letter) in HANGUL for letter in question) else "en"
