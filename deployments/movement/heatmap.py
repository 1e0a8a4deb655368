"""The comparison as a picture: joints by time, and the same on a figure."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deployments.movement.body import ACROSS, PARTS
from deployments.movement.comparison import Comparison
from deployments.movement.features import LONGEST_S

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Floats = NDArray[np.float32]

WIDTH, HEIGHT = 1120, 520
LEFT, TOP, ROW, MAP_WIDTH = 130, 60, 26, 620
FIGURE_X, POSE_X, FIGURE_Y, METRE = 860, 1024, 230, 190
WORST_DEG = 60.0
PAPER, INK, FAINT, UNSEEN = (255, 255, 255), (34, 34, 34), (178, 178, 178), (232, 232, 232)
# From nothing to `WORST_DEG`; lightness falls all the way, so that it can be read without colour.
COLOURS = np.array([(255, 247, 220), (254, 217, 118), (253, 141, 60), (227, 26, 28), (128, 0, 38)], float)
TICKS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120)
# A standing figure, in metres around the hips: joints as x and y of the dancer's left side; the right is its mirror.
STANDING = {"shoulder": (0.18, -0.5), "elbow": (0.34, -0.28), "wrist": (0.46, -0.06), "hand": (0.5, 0.04)}
STANDING |= {"hip": (0.11, 0.0), "knee": (0.15, 0.42), "ankle": (0.17, 0.82), "foot": (0.27, 0.88)}
NEXT = {"shoulder": "elbow", "elbow": "wrist", "wrist": "hand", "hip": "knee", "knee": "ankle", "ankle": "foot"}


def draw(comparison: Comparison) -> bytes:
    """A PNG. Its words are English, because the font that comes with Pillow has no other letters."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(picture)
    title = f"Score {comparison.score:.0f}    mean deviation {comparison.deviation_deg:.0f} deg"
    pen.text((LEFT, 20), title + ("    mirrored" if comparison.mirrored else ""), INK, font_size=18)
    picture.paste(Image.fromarray(_map(comparison.errors)), (LEFT, TOP))
    _rows(pen)
    _time(pen, comparison.times_s)
    _scale(pen)
    _figure(pen, comparison)
    _poses(pen, comparison)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()


def colour(degrees: Floats) -> NDArray[np.uint8]:
    """RGB for each; what is NaN is grey."""
    place = np.nan_to_num(degrees / WORST_DEG).clip(0, 1) * (len(COLOURS) - 1)
    below = np.minimum(place.astype(int), len(COLOURS) - 2)
    share = (place - below)[..., None]
    mixed = COLOURS[below] * (1 - share) + COLOURS[below + 1] * share
    return np.where(np.isnan(degrees)[..., None], UNSEEN, mixed).astype(np.uint8)


def _map(errors: Floats) -> NDArray[np.uint8]:
    """Time to the right, one row per part."""
    columns = np.linspace(0, len(errors) - 1, MAP_WIDTH).round().astype(int)
    return np.repeat(colour(errors[columns].T), ROW, axis=0)


def _rows(pen: "ImageDraw") -> None:
    for at, part in enumerate(PARTS):
        y = TOP + at * ROW
        pen.text((LEFT - 8, y + ROW // 2), part.name.replace("_", " "), INK, anchor="rm", font_size=13)
        pen.line((LEFT, y, LEFT + MAP_WIDTH - 1, y), PAPER)


def _time(pen: "ImageDraw", times_s: Floats) -> None:
    first, last = float(times_s[0]), float(times_s[-1])
    span = max(last - first, 1e-3)
    step = next((tick for tick in TICKS_S if span / tick <= 12), LONGEST_S / 4)
    bottom = TOP + len(PARTS) * ROW
    for tick in np.arange(np.ceil(first / step) * step, last + 1e-6, step):
        x = LEFT + (tick - first) / span * (MAP_WIDTH - 1)
        pen.line((x, bottom, x, bottom + 5), INK)
        pen.text((x, bottom + 8), f"{tick:g}", INK, anchor="mt", font_size=13)
    pen.text((LEFT + MAP_WIDTH / 2, bottom + 26), "seconds of the reference", INK, anchor="mt", font_size=13)


def _scale(pen: "ImageDraw") -> None:
    y, width = HEIGHT - 36, 240
    for x in range(width):
        shade = tuple(colour(np.array(x / (width - 1) * WORST_DEG, np.float32)).tolist())
        pen.line((LEFT + x, y, LEFT + x, y + 10), shade)
    for degrees in (0, 20, 40, 60):
        pen.text((LEFT + degrees / WORST_DEG * width, y + 13), f"{degrees}", INK, anchor="mt", font_size=11)
    pen.text((LEFT + width + 16, y + 5), "degrees off; grey: not seen", INK, anchor="lm", font_size=13)


def _figure(pen: "ImageDraw", comparison: Comparison) -> None:
    """Seen as the dancer's mirror image would be: the dancer's left is on the left."""
    pen.text((FIGURE_X, TOP - 20), "on average", INK, anchor="mm", font_size=13)
    means = {part.name: _mean(comparison.errors[:, at]) for at, part in enumerate(PARTS)}
    pen.text((FIGURE_X - 70, TOP + 10), "L", INK, anchor="mm", font_size=13)
    pen.text((FIGURE_X + 70, TOP + 10), "R", INK, anchor="mm", font_size=13)
    trunk = [_spot(-1, "shoulder"), _spot(1, "shoulder"), _spot(1, "hip"), _spot(-1, "hip")]
    pen.polygon(trunk, _shade(means["trunk"]), FAINT)
    head = (FIGURE_X, FIGURE_Y - 0.68 * METRE)
    pen.ellipse((head[0] - 20, head[1] - 25, head[0] + 20, head[1] + 25), _shade(means["head"]), FAINT)
    for side, sign in (("left", -1), ("right", 1)):
        for joint, following in NEXT.items():
            _limb(pen, _spot(sign, joint), _spot(sign, following), _shade(means[f"{side}_{joint}"]))


def _mean(errors: Floats) -> float:
    seen = errors[~np.isnan(errors)]
    return float(seen.mean()) if len(seen) else np.nan


def _shade(degrees: float) -> tuple[int, ...]:
    return tuple(colour(np.array(degrees, np.float32)).tolist())


def _spot(sign: int, joint: str) -> tuple[float, float]:
    x, y = STANDING[joint]
    return FIGURE_X + sign * x * METRE, FIGURE_Y + y * METRE


def _limb(pen: "ImageDraw", begin: tuple[float, float], end: tuple[float, float], shade: tuple[int, ...]) -> None:
    pen.line((*begin, *end), FAINT, 12)
    pen.line((*begin, *end), shade, 10)
    pen.ellipse((begin[0] - 6, begin[1] - 6, begin[0] + 6, begin[1] + 6), shade, FAINT)


def _poses(pen: "ImageDraw", comparison: Comparison) -> None:
    """The worst moment: the reference in grey, and the dancer over it."""
    worst = comparison.worst
    pen.text((POSE_X, TOP - 20), f"at {comparison.times_s[worst]:.1f} s", INK, anchor="mm", font_size=13)
    reference, dancer = comparison.poses
    for pose, width, errors in ((reference, 4, None), (dancer, 5, comparison.errors[worst])):
        for line in ACROSS:
            ends = (_seen_from_front(pose[spots[0]]) for spots in (line.base, line.tip))
            pen.line([xy for end in ends for xy in end], FAINT if errors is None else INK, 3)
        for at, part in enumerate(PARTS):
            begin, end = (_seen_from_front(pose[list(spots), :2].mean(axis=0)) for spots in (part.base, part.tip))
            shade: Any = FAINT if errors is None else _shade(float(errors[at]))
            if errors is not None:
                pen.line((*begin, *end), INK, width + 2)
            pen.line((*begin, *end), shade, width)
    pen.text((POSE_X, HEIGHT - 20), "grey: reference", INK, anchor="mm", font_size=11)


def _seen_from_front(metres: Floats) -> tuple[float, float]:
    """Mirrored like the figure."""
    return POSE_X - float(metres[0]) * METRE * 0.8, FIGURE_Y + float(metres[1]) * METRE * 0.8
