"""One person, followed through the frames of a video with MediaPipe."""

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deployments.movement import recording
from deployments.movement.body import HIPS, SHOULDERS
from deployments.movement.features import UNSEEN
from deployments.movement.recording import LANDMARKS, Recording

if TYPE_CHECKING:
    from mediapipe.tasks.python.vision import PoseLandmarker  # type: ignore[import-untyped]

Floats = NDArray[np.float32]

COUNT_S = 2.0  # how often it is counted how many people there are
LOST_S = 1.0  # after so long without the person, whoever is principal then is followed
NEAR = 0.5  # of a person's size: further nobody gets from one frame to the next
APART = 0.25  # of a person's size: what is closer is the same person, seen twice


class Tracker:
    """Takes frames in order, from one thread at a time; `close` may come from another, at any time.

    MediaPipe is quickest when it follows as many people as there are: whom it misses it searches for in every frame.
    So they are counted every now and then, and it is told that number.
    """

    def __init__(self, model: bytes, gpu: bool, people: int, confidence: float) -> None:
        self._model, self._gpu, self._people, self._confidence = model, gpu, people, confidence
        self._lock = threading.Lock()
        self._closed = False
        self._counter: PoseLandmarker | None = None
        self._follower: PoseLandmarker | None = None
        self._following, self._present = 0, 1
        self._counted_at = self._seen_at = -np.inf
        self._last: Floats | None = None
        self._stamp = -1
        self._times: list[float] = []
        self._points: list[Floats] = []
        self._world: list[Floats] = []
        self._aspect = 1.0

    @property
    def frames(self) -> int:
        return len(self._times)

    def see(self, rgb: NDArray[np.uint8], time_s: float) -> None:
        with self._lock:
            if not self._closed:
                self._see(rgb, time_s)

    def recorded(self) -> bytes | None:
        """What was seen so far, or nothing if nobody was."""
        if not np.isfinite(self._seen_at):
            return None
        arrays = (np.array(self._times, np.float32), np.array(self._points), np.array(self._world))
        return recording.write(Recording(*arrays, aspect=self._aspect))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for landmarker in (self._counter, self._follower):
                if landmarker is not None:
                    landmarker.close()

    def _see(self, rgb: NDArray[np.uint8], time_s: float) -> None:
        import mediapipe as mp  # type: ignore[import-untyped]

        picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb)
        self._aspect = rgb.shape[1] / rgb.shape[0]
        counted = self._count(picture, time_s) if time_s - self._counted_at >= COUNT_S else None
        # A picture has one frame, which needs no following.
        self._keep(self._follow(picture, time_s) if self._times or not counted else counted, time_s)

    def _count(self, picture: Any, time_s: float) -> Any:
        self._counted_at = time_s
        self._counter = self._counter or self._landmarker(self._people)
        result = self._counter.detect(picture)
        self._present = min(max(self._present, distinct(_points(result))), self._people)
        return result

    def _follow(self, picture: Any, time_s: float) -> Any:
        if self._present > self._following:
            if self._follower:
                self._follower.close()
            self._follower, self._following = self._landmarker(self._present, video=True), self._present
        assert self._follower
        self._stamp = max(self._stamp + 1, round(time_s * 1000))
        return self._follower.detect_for_video(picture, self._stamp)

    def _keep(self, result: Any, time_s: float) -> None:
        people = _points(result)
        at = choose(people, self._last if time_s - self._seen_at <= LOST_S else None)
        empty = np.zeros((LANDMARKS, 4), np.float32)
        self._times.append(max(time_s, self._times[-1] + 1e-3) if self._times else time_s)
        self._points.append(empty if at is None else people[at])
        self._world.append(empty[:, :3] if at is None else _world(result, at))
        if at is not None:
            self._last, self._seen_at = people[at], time_s

    def _landmarker(self, people: int, video: bool = False) -> "PoseLandmarker":
        from mediapipe.tasks.python import BaseOptions, vision  # type: ignore[import-untyped]

        delegate = BaseOptions.Delegate.GPU if self._gpu else BaseOptions.Delegate.CPU
        options = vision.PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=self._model, delegate=delegate),
            running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
            num_poses=people,
            min_pose_detection_confidence=self._confidence,
            min_pose_presence_confidence=self._confidence,
            min_tracking_confidence=self._confidence,
        )
        return vision.PoseLandmarker.create_from_options(options)


def choose(people: Floats, last: Floats | None) -> int | None:
    """Which of `people`, (n, 33, 4), to follow: the one who was followed, or at first the largest and most central."""
    if not len(people):
        return None
    places, sizes = np.array([_place(person) for person in people]), np.array([_size(person) for person in people])
    if last is None:
        return int((sizes * (1 - np.abs(places[:, 0] - 0.5))).argmax())
    away = np.linalg.norm(places - _place(last), axis=1)
    nearest = int(away.argmin())
    return nearest if away[nearest] < NEAR * max(_size(last), 0.1) else None


def distinct(people: Floats) -> int:
    """How many of `people`, (n, 33, 4), are not the same person seen twice."""
    kept: list[Floats] = []
    for person in people:
        place, size = _place(person), _size(person)
        if all(np.linalg.norm(place - _place(other)) > APART * max(size, _size(other)) for other in kept):
            kept.append(person)
    return len(kept)


def _place(person: Floats) -> Floats:
    """The middle of the trunk."""
    middle: Floats = person[[*HIPS, *SHOULDERS], :2].mean(axis=0)
    return middle


def _size(person: Floats) -> float:
    """The longer side of the box around what is seen of a person."""
    seen = person[person[:, 3] >= UNSEEN][:, :2].clip(0, 1)
    return float(np.ptp(seen, axis=0).max()) if len(seen) else 0.0


def _points(result: Any) -> Floats:
    """(people, 33, 4): x, y, z, visibility."""
    rows = [[(p.x, p.y, p.z, p.visibility) for p in person] for person in result.pose_landmarks]
    points = np.array(rows, np.float32).reshape(-1, LANDMARKS, 4)
    points[..., 3] = points[..., 3].clip(0, 1)
    return points


def _world(result: Any, at: int) -> Floats:
    return np.array([(p.x, p.y, p.z) for p in result.pose_world_landmarks[at]], np.float32)
