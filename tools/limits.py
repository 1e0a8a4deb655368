"""Write `docs/limits.md` from the tables that the service keeps: `python -m tools.limits`."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from serve_app.policies.access import SCOPES
from serve_app.policies.limits import RANGES, Limits

PAGE = Path(__file__).resolve().parent.parent / "docs" / "limits.md"
INTRODUCTION = """\
# Limits

Made by `make limits` from `serve_app/policies/limits.py` and `serve_app/policies/access.py`. What is outside a limit is
refused with 400 and the parameter's name (413 for a body), before any engine sees it.
"""


def text() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *_limits(), *_ranges(), *_scopes()])


def _limits() -> Iterator[str]:
    yield "## What a profile may change, under `limits`"
    yield "| key | default | of what |"
    yield "|---|---|---|"
    yield from (f"| `{one.name}` | {one.default:,} | {one.metadata['about']} |" for one in fields(Limits))
    yield ""


def _ranges() -> Iterator[str]:
    yield "## What is fixed"
    yield "| parameter | least | most | unit |"
    yield "|---|---|---|---|"
    yield from (f"| `{name}` | {one.least:,} | {one.most:,} | {one.unit} |" for name, one in RANGES.items())
    yield ""


def _scopes() -> Iterator[str]:
    yield "## Scopes of keys"
    yield "| scope | what it allows |"
    yield "|---|---|"
    yield from (f"| `{name}` | {what} |" for name, what in SCOPES.items())
    yield ""


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
