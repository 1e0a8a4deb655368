import io

import numpy as np
from PIL import Image

from deployments.movement import heatmap
from deployments.movement.comparison import compare
from deployments.movement.recording import Recording
from tools.dancer.invariance import Take

REFERENCE = Take().of(1, noise_seed=0)


def _picture(danced: Recording) -> np.ndarray:
    picture = Image.open(io.BytesIO(heatmap.draw(compare(danced, REFERENCE))))
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGB")).astype(int)


def _row(picture: np.ndarray, at: int) -> np.ndarray:
    y = heatmap.TOP + at * heatmap.ROW + heatmap.ROW // 2
    return picture[y, heatmap.LEFT : heatmap.LEFT + heatmap.MAP_WIDTH]


def test_the_wrong_joint_has_the_darkest_row() -> None:
    picture = _picture(Take(errors={"right_knee": 45}).of(1))
    brightness = [_row(picture, at).mean() for at in range(len(heatmap.PARTS))]
    assert heatmap.PARTS[int(np.argmin(brightness))].name == "right_knee"


def test_what_was_not_seen_is_grey() -> None:
    danced = Take().of(1)
    points = danced.points.copy()
    points[:, 25:, 3] = 0
    picture = _picture(Recording(danced.times, points, danced.world, danced.aspect))
    knee = [part.name for part in heatmap.PARTS].index("left_knee")
    assert (_row(picture, knee) == heatmap.UNSEEN).all()
    assert not (_row(picture, 0) == heatmap.UNSEEN).any()


def test_colours_darken_all_the_way() -> None:
    shades = heatmap.colour(np.linspace(0, 60, 40, dtype=np.float32)).astype(int) @ [299, 587, 114]
    assert (np.diff(shades) < 0).all()
