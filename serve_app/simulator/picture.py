"""The timeline of a simulation as an SVG: what was there in which pool, and what was asked of it."""

from collections.abc import Iterable, Sequence
from html import escape

from serve_app.simulator.run import POOLS, Outcome, Sample

WIDTH, HEIGHT, LEFT, TOP, GAP = 1000, 150, 60, 40, 46
COLOURS = {"own": "#2f7d4f", "spot": "#4a7fc1", "od": "#d9822b"}
NAMES = {"own": "own GPUs", "spot": "spot", "od": "on demand"}
POINTS = 360
"""A day is drawn with a point every four minutes."""


def timeline(outcome: Outcome, title: str) -> str:
    """Slots that are ready per pool, stacked, and requests that run or wait, one panel per engine."""
    names = list(outcome.samples)
    height = TOP + len(names) * (HEIGHT + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
        *_legend(),
    ]
    for row, name in enumerate(names):
        parts += _panel(outcome, name, TOP + row * (HEIGHT + GAP))
    return "\n".join([*parts, "</svg>\n"])


def _legend() -> Iterable[str]:
    x = LEFT + 480
    for pool in POOLS:
        yield f'<rect x="{x}" y="9" width="10" height="10" fill="{COLOURS[pool]}"/>'
        yield f'<text x="{x + 14}" y="18">{NAMES[pool]}</text>'
        x += 100
    yield f'<path d="M{x} 14h14" stroke="#222" fill="none"/><text x="{x + 18}" y="18">running and waiting</text>'


def _panel(outcome: Outcome, name: str, top: int) -> Iterable[str]:
    samples = _thinned(outcome.samples[name])
    slots = outcome.cfg["engines"][name]["slots"]
    sizes = (slots["own"], slots["cloud"], slots["cloud"])
    stacks = [_stack(sample, sizes) for sample in samples]
    asked = [sample.running + sample.queued for sample in samples]
    most = max([1, *(stack[-1] for stack in stacks)]) * 1.15
    end = max(outcome.seconds, 1.0)
    xs = [LEFT + sample.t / end * WIDTH for sample in samples]

    def y(value: float) -> float:
        return top + HEIGHT - min(1.0, value / most) * HEIGHT

    yield f'<text x="{LEFT}" y="{top - 4}">{escape(name)}: {outcome.attainment(name):.2%} in time</text>'
    for level in reversed(range(3)):
        below = [stack[level - 1] if level else 0 for stack in stacks]
        yield _area(xs, [y(stack[level]) for stack in stacks], [y(b) for b in below], COLOURS[POOLS[level]])
    line = " ".join(f"{x:.1f},{y(value):.1f}" for x, value in zip(xs, asked, strict=True))
    yield f'<polyline points="{line}" fill="none" stroke="#222" stroke-width="0.8"/>'
    yield from _axes(top, most, end)


def _stack(sample: Sample, sizes: Sequence[int]) -> list[int]:
    own, spot, od = (count * size for count, size in zip(sample.ready, sizes, strict=True))
    return [own, own + spot, own + spot + od]


def _thinned(samples: list[Sample]) -> list[Sample]:
    return samples[:: max(1, len(samples) // POINTS)]


def _area(xs: list[float], upper: list[float], lower: list[float], colour: str) -> str:
    there = [f"{x:.1f},{y:.1f}" for x, y in zip(xs, upper, strict=True)]
    back = [f"{x:.1f},{y:.1f}" for x, y in reversed(list(zip(xs, lower, strict=True)))]
    return f'<polygon points="{" ".join(there + back)}" fill="{colour}" fill-opacity="0.75"/>'


def _axes(top: int, most: float, end: float) -> Iterable[str]:
    bottom = top + HEIGHT
    yield f'<path d="M{LEFT} {top}v{HEIGHT}h{WIDTH}" stroke="#888" fill="none"/>'
    yield f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end" fill="#555">{most:.0f} slots</text>'
    for part in range(7):
        x, hour = LEFT + part / 6 * WIDTH, part / 6 * end / 3600
        yield f'<text x="{x:.0f}" y="{bottom + 15}" text-anchor="middle" fill="#555">{hour:.1f} h</text>'
