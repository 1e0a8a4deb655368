"""`megacity demo`: one real request to every engine of a running service, with its answer shown."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from serve_app.client import Answer, MegaCity
from serve_app.errors import MegaCityError

Try = Callable[[MegaCity], Awaitable[str]]


async def demo(url: str, key: str | None = None, quiet: bool = False) -> list[dict[str, Any]]:
    """Run every trial and report each as a dict with `ok`, `ms` and what came back."""
    results = []
    async with MegaCity(url, key) as city:
        for title, trial in TRIALS:
            result = await _run(title, trial, city)
            results.append(result)
            if not quiet:
                _show(result)
    return results


async def _run(title: str, trial: Try, city: MegaCity) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        answer, ok = await trial(city), True
    except MegaCityError as error:
        answer, ok = error.message, False
    return {"title": title, "ok": ok, "ms": round(1000 * (time.perf_counter() - started)), "answer": answer}


def _show(result: dict[str, Any]) -> None:
    print(f"{'✓' if result['ok'] else '✗'} {result['title']}  ({result['ms']} ms)")  # noqa: T201 - this is the output
    print("".join(f"    {line}\n" for line in str(result["answer"]).splitlines()))  # noqa: T201


def _told(answer: Answer) -> str:
    return f"{answer.text}\n[{answer.model} · {answer.route} · {answer.usage.total_tokens} tokens]"


async def _korean(city: MegaCity) -> str:
    return _told(await city.chat("347 더하기 85는 얼마예요?", task="math_tutor", max_tokens=200))


async def _english(city: MegaCity) -> str:
    return _told(await city.chat("Solve 4x + 38 = 110.", max_tokens=200))


async def _stream(city: MegaCity) -> str:
    pieces = [piece async for piece in city.stream("What is 73 × 74?", max_tokens=200)]
    return f"{''.join(pieces)}\n[{len(pieces)} pieces]"


async def _decision(city: MegaCity) -> str:
    decision = await city.route("이 코드를 리뷰해 줘", task="code_review")
    return f"{decision.model}: {'; '.join(decision.reasons)}"


TRIALS: list[tuple[str, Try]] = [
    ("Chat in Korean / 한국어 대화", _korean),
    ("Chat in English / 영어 대화", _english),
    ("A stream / 스트리밍", _stream),
    ("Why a model is chosen / 라우팅 이유", _decision),
]
