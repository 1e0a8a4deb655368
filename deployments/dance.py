"""A dance against its reference: score, what is off by how much and when, and how to get better."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from serve_app.engine import Engine
from serve_app.errors import BadRequest, EngineFailed, MegaCityError
from serve_app.types import Artifact, Dance, Done, Event, Job, Kind, Landmarks, Media, Pose, Usage

if TYPE_CHECKING:
    from deployments.movement.comparison import Comparison
    from deployments.movement.recording import Recording

MIRRORS = ("auto", "yes", "no")
LANGUAGES = ("ko", "en")
SIDES = ("video", "reference")


class Compare(Engine):
    """Needs a pose engine for what comes as a picture or video; both sides are looked at in parallel.

    The artifact `analysis` is JSON: `score`, `deviation_deg`, `coverage`, `mirrored`, `tempo`, `joints`, `moments`,
    `feedback` (sentences) and `report` (the one line that the tutor reads). `docs/dance.md` says what they mean.
    """

    kinds = frozenset({Kind.DANCE})
    needs = {"pose": Kind.POSE}  # noqa: RUF012 - as the contract has it

    async def load(self) -> None:
        """Compare something, so that the first request doesn't wait for imports."""
        await asyncio.to_thread(_warm_up)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        payload = job.payload
        assert isinstance(payload, Dance)
        if payload.mirror not in MIRRORS:
            raise BadRequest(f"'mirror' should be one of {', '.join(MIRRORS)}.", param="mirror")
        if payload.language not in LANGUAGES:
            raise BadRequest(f"'language' should be one of {', '.join(LANGUAGES)}.", param="language")
        started = time.perf_counter()
        sides = await self._sides(job, payload)
        analysis, heatmap, landmarks = await asyncio.to_thread(_analysed, sides, payload)
        yield Artifact("analysis", "application/json", analysis)
        yield Artifact("heatmap", "image/png", heatmap)
        if payload.keypoints:
            yield Artifact("landmarks", "application/json", landmarks)
        yield Done(Usage(engine_s=time.perf_counter() - started))

    async def _sides(self, job: Job, payload: Dance) -> list[bytes]:
        """Both sides. If one cannot be had, the other is given up, and the error says which it was."""
        tasks = [
            asyncio.ensure_future(self._side(job, name, source))
            for name, source in zip(SIDES, (payload.video, payload.reference), strict=True)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _side(self, job: Job, name: str, source: Media | Landmarks) -> bytes:
        if isinstance(source, Landmarks):
            return source.data
        asked = replace(job, id=f"{job.id}.{name}", kind=Kind.POSE, payload=Pose(source), plan=(), model=None)
        landmarks = None
        try:
            async with aclosing(self.handlers["pose"](asked)) as events:
                async for event in events:
                    if isinstance(event, Artifact) and event.name == "landmarks":
                        landmarks = event.data
        except MegaCityError as error:
            error.param = error.param or name
            raise
        if landmarks is None:
            raise EngineFailed("The pose engine stopped before its answer was complete. Please try again.")
        return landmarks


def _analysed(sides: list[bytes], payload: Dance) -> tuple[bytes, bytes, bytes]:
    """The three artifacts. Raises BadRequest or Unprocessable, naming the side."""
    from deployments.movement import heatmap
    from deployments.movement.comparison import compare

    danced, reference = (_read(side, name) for side, name in zip(sides, SIDES, strict=True))
    found = compare(danced, reference, payload.mirror)
    keypoints = json.dumps(danced.keypoints()).encode() if payload.keypoints else b""
    return json.dumps(analysis(found, payload.language), ensure_ascii=False).encode(), heatmap.draw(found), keypoints


def analysis(found: "Comparison", language: str) -> dict[str, Any]:
    """The comparison for JSON: degrees to a tenth, seconds to a hundredth."""
    from deployments.movement import words

    return {
        "score": round(found.score, 1),
        "deviation_deg": round(found.deviation_deg, 1),
        "coverage": round(found.coverage, 3),
        "mirrored": found.mirrored,
        "tempo": {name: round(value, 3) for name, value in asdict(found.tempo).items()},
        "joints": {part.name: _rounded(asdict(part), {"name"}) for part in found.parts},
        "moments": [
            {
                **_rounded(asdict(moment), {"joints"}),
                "joints": [{"joint": name, "deviation_deg": round(degrees, 1)} for name, degrees in moment.joints],
            }
            for moment in found.moments
        ],
        "feedback": words.feedback(found, language),
        "report": words.motion_report(found, language),
    }


def _rounded(values: dict[str, Any], without: set[str]) -> dict[str, Any]:
    digits = {name: 1 if name.endswith("_deg") or name == "score" else 2 for name in values}
    return {
        name: None if value is None else round(value, digits[name])
        for name, value in values.items()
        if name not in without
    }


def _read(landmarks: bytes, name: str) -> "Recording":
    from deployments.movement import recording

    try:
        return recording.read(landmarks)
    except BadRequest as error:
        error.param = name
        raise


def _warm_up() -> None:
    import numpy as np

    from deployments.movement import heatmap
    from deployments.movement.comparison import compare
    from deployments.movement.recording import Recording

    times, random = np.arange(0, 2, 0.05, dtype=np.float32), np.random.default_rng(0)
    points, world = random.random((len(times), 33, 4), np.float32), random.random((len(times), 33, 3), np.float32)
    still = Recording(times, points, world)
    heatmap.draw(compare(still, still))
