"""The dancer as pictures: rounded limbs in clothes, lit from above, in front of a plain room."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.dancer.figure import Body, Camera, Dance, Numbers, perform

Picture = NDArray[np.uint8]

SKIN, HAIR, SHIRT, TROUSERS, SHOES = (224, 172, 140), (52, 36, 28), (176, 44, 52), (44, 60, 110), (235, 235, 230)
LIGHT = np.array([-0.35, -0.75, -0.56])
AMBIENT = 0.55
# Limbs: landmarks at both ends, radii in metres there, colour; painted from the farthest to the nearest.
LIMBS = [
    limb
    for side in (0, 1)
    for limb in (
        (11 + side, 13 + side, 0.058, 0.046, SHIRT),
        (13 + side, 15 + side, 0.042, 0.030, SKIN),
        (15 + side, 19 + side, 0.034, 0.026, SKIN),
        (23 + side, 25 + side, 0.090, 0.064, TROUSERS),
        (25 + side, 27 + side, 0.060, 0.044, TROUSERS),
        (29 + side, 31 + side, 0.042, 0.036, SHOES),
    )
]


def video(path: Path, dance: Dance, fps: int = 30, size: tuple[int, int] = (1280, 720), **looks: Any) -> None:
    """An MP4 (H.264) of the dance; `looks` are those of `pictures`."""
    save(path, pictures(dance, np.arange(0, dance.duration_s, 1 / fps), size, **looks), fps)


def save(path: Path, frames: Iterable[Picture], fps: int) -> None:
    """An MP4 of frames of one size."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "20"})
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(frames):
            if not number:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))


def still(size: tuple[int, int] = (320, 320)) -> bytes:
    """A PNG of the dancer, standing."""
    from PIL import Image

    world = perform(Dance(1, calm=0.0), np.zeros(1))[0]
    out = io.BytesIO()
    Image.fromarray(paint(world, size, Camera(aspect=size[0] / size[1]))).save(out, "PNG")
    return out.getvalue()


def pictures(
    dance: Dance,
    times: Numbers,
    size: tuple[int, int] = (1280, 720),
    body: Body | None = None,
    camera: Camera | None = None,
    errors: dict[str, float] | None = None,
    mirrored: bool = False,
) -> Iterator[Picture]:
    camera = camera or Camera(aspect=size[0] / size[1])
    for world in perform(dance, times, body, errors):
        picture = paint(world, size, camera)
        yield picture[:, ::-1].copy() if mirrored else picture


def paint(world: Numbers, size: tuple[int, int], camera: Camera) -> Picture:
    """One pose, (33, 3), as RGB, height x width x 3."""
    width, height = size
    scale = height * camera.metre
    spots = world * scale + np.array([camera.x * width, camera.y * height, 0])
    canvas = _room(width, height)
    shapes = [(spots[a], spots[b], ra * scale, rb * scale, colour) for a, b, ra, rb, colour in LIMBS]
    shapes += _trunk(spots, scale)
    for begin, end, r_begin, r_end, colour in sorted(shapes, key=lambda shape: -(shape[0][2] + shape[1][2])):
        _capsule(canvas, begin, end, r_begin, r_end, colour)
    _head(canvas, spots, scale)
    return canvas.clip(0, 255).astype(np.uint8)


def _room(width: int, height: int) -> Numbers:
    shade = np.linspace(205, 170, height)[:, None, None] * np.array([1.0, 0.99, 0.95])
    shade[int(height * 0.86) :] *= 0.75
    return np.repeat(shade, width, axis=1)


def _trunk(spots: Numbers, scale: float) -> list[tuple[Numbers, Numbers, float, float, tuple[int, int, int]]]:
    left, right, left_hip, right_hip = spots[11], spots[12], spots[23], spots[24]
    neck, middle = (left + right) / 2, (left_hip + right_hip) / 2
    shapes = [(neck, (spots[7] + spots[8]) / 2, 0.055 * scale, 0.055 * scale, SKIN)]
    shapes += [(left_hip, right_hip, 0.085 * scale, 0.085 * scale, TROUSERS)]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):  # ribs of a shirt, from shoulder to shoulder
        top = right + (left - right) * share
        bottom = right_hip + (left_hip - right_hip) * share
        inward = (middle + neck) / 2
        top = top + (inward - top) * 0.12
        shapes.append((top, bottom + (top - bottom) * 0.08, 0.075 * scale, 0.085 * scale, SHIRT))
    return shapes


def _head(canvas: Numbers, spots: Numbers, scale: float) -> None:
    middle = (spots[7] + spots[8]) / 2
    up = middle - (spots[11] + spots[12]) / 2
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    r = 0.088 * scale
    _capsule(canvas, middle + up * r * 0.75, middle + up * r * 0.15, r * 1.06, r * 1.1, HAIR)
    _capsule(canvas, middle + up * r * 0.35, middle - up * r * 0.5, r * 0.96, r * 0.72, SKIN)
    across = spots[2] - spots[5]
    for eye in (spots[2], spots[5]):
        _capsule(canvas, eye - across * 0.16, eye + across * 0.16, r * 0.12, r * 0.12, (245, 245, 245), flat=True)
        _capsule(canvas, eye, eye, r * 0.09, r * 0.09, (40, 25, 20), flat=True)
        brow = eye + up * r * 0.25
        _capsule(canvas, brow - across * 0.22, brow + across * 0.22, r * 0.05, r * 0.05, HAIR, flat=True)
    nose = spots[0]
    _capsule(canvas, nose + up * r * 0.35, nose, r * 0.07, r * 0.13, (205, 148, 118), flat=True)
    _capsule(canvas, spots[9], spots[10], r * 0.07, r * 0.07, (170, 70, 70), flat=True)


def _capsule(
    canvas: Numbers, begin: Numbers, end: Numbers, r_begin: float, r_end: float, colour: tuple[int, int, int],
    flat: bool = False,
) -> None:  # fmt: skip
    """A limb with round ends, seen from the front, with the shading of a cylinder."""
    height, width = canvas.shape[:2]
    reach = max(r_begin, r_end) + 2
    left, top = (int(max(0, min(begin[k], end[k]) - reach)) for k in (0, 1))
    right, bottom = (int(min(limit, max(begin[k], end[k]) + reach)) for k, limit in ((0, width), (1, height)))
    if left >= right or top >= bottom:
        return
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    dx, dy = end[0] - begin[0], end[1] - begin[1]
    along = (((x - begin[0]) * dx + (y - begin[1]) * dy) / max(dx * dx + dy * dy, 1e-6)).clip(0, 1)
    radius = r_begin + (r_end - r_begin) * along
    away_x, away_y = x - begin[0] - along * dx, y - begin[1] - along * dy
    distance = np.hypot(away_x, away_y)
    cover = (radius - distance + 0.5).clip(0, 1)[..., None]
    depth = np.sqrt((1 - (distance / np.maximum(radius, 1e-6)) ** 2).clip(0, 1))
    lit = (away_x * LIGHT[0] + away_y * LIGHT[1]) / np.maximum(radius, 1e-6) - depth * LIGHT[2]
    shade = np.ones_like(lit) if flat else AMBIENT + (1 - AMBIENT) * lit.clip(0, 1) * 1.2
    patch = canvas[top:bottom, left:right]
    patch += (shade[..., None] * np.array(colour) - patch) * cover
