"""`megacity demo`: one real request to every engine of a running service, with its answer shown."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from operator import mul
from pathlib import Path
from typing import Any

from serve_app.client import Answer, MegaCity, Sound
from serve_app.errors import BadRequest, MegaCityError

SAMPLES = Path(__file__).parents[1] / "docs" / "samples"
SENTENCE = "오늘 학교에서 밥을 먹었어요."
RULES = "# 도서관 규정\n## 대출\n일반 회원은 한 번에 일곱 권을 2주 동안 빌립니다.\n"


class _Skipped(Exception):
    """There is nothing to try, and why."""


@dataclass
class _Stage:
    """What one trial leaves for the next."""

    city: MegaCity
    sound: Sound | None = None

    def spoken(self) -> Sound:
        if self.sound is None:
            raise _Skipped("there is no recording to listen to")
        return self.sound


Try = Callable[[_Stage], Awaitable[str]]


async def demo(url: str, key: str | None = None, quiet: bool = False) -> list[dict[str, Any]]:
    """Run every trial and report each as a dict with `ok`, `ms` and what came back.

    `ok` is `None` for what was not tried because this service has no engine for it; `answer` then says so.
    """
    results = []
    async with MegaCity(url, key) as city:
        stage = _Stage(city)
        for title, trial in TRIALS:
            result = await _run(title, trial, stage)
            results.append(result)
            if not quiet:
                _show(result)
    return results


async def _run(title: str, trial: Try, stage: _Stage) -> dict[str, Any]:
    started = time.perf_counter()
    ok: bool | None
    try:
        answer, ok = await trial(stage), True
    except _Skipped as reason:
        answer, ok = f"Skipped: {reason}.", None
    except MegaCityError as error:
        answer, ok = error.message, None if _lacking(error) else False
    return {"title": title, "ok": ok, "ms": round(1000 * (time.perf_counter() - started)), "answer": answer}


def _lacking(error: MegaCityError) -> bool:
    """The trials leave the choice of the model to the router: it refuses it only if no engine answers such requests."""
    return isinstance(error, BadRequest) and error.param == "model"


def _show(result: dict[str, Any]) -> None:
    mark = {True: "✓", False: "✗", None: "–"}[result["ok"]]
    print(f"{mark} {result['title']}  ({result['ms']} ms)")  # noqa: T201 - this is the output
    print("".join(f"    {line}\n" for line in str(result["answer"]).splitlines()), flush=True)  # noqa: T201


def _told(answer: Answer) -> str:
    return f"{answer.text}\n[{answer.model} · {answer.route} · {answer.usage.total_tokens} tokens]"


async def _korean(stage: _Stage) -> str:
    return _told(await stage.city.chat("347 더하기 85는 얼마예요?", task="math_tutor", max_tokens=200))


async def _english(stage: _Stage) -> str:
    return _told(await stage.city.chat("Solve 4x + 38 = 110.", max_tokens=200))


async def _stream(stage: _Stage) -> str:
    pieces = [piece async for piece in stage.city.stream("What is 73 × 74?", max_tokens=200)]
    return f"{''.join(pieces)}\n[{len(pieces)} pieces]"


async def _decision(stage: _Stage) -> str:
    decision = await stage.city.route("이 코드를 리뷰해 줘", task="code_review")
    return f"{decision.model}: {'; '.join(decision.reasons)}"


async def _embeddings(stage: _Stage) -> str:
    question, others = "How do I reset my password?", ["I forgot my login.", "The soup needs more salt."]
    first, *rest = await stage.city.embed([question, *others])
    alike = (f"{sum(map(mul, first, each)):.2f}  {text}" for each, text in zip(rest, others, strict=True))
    return "\n".join([f"{question} ({len(first)} numbers)", *alike])


async def _documents(stage: _Stage) -> str:
    """The document is in a collection of its own, and is removed again."""
    kept = await stage.city.add_document(text=RULES, name="도서관 규정", collection="megacity-demo")
    try:
        answer = await stage.city.ask("책은 한 번에 몇 권 빌릴 수 있나요?", collection="megacity-demo")
    finally:
        await stage.city.delete_document(kept.id, collection="megacity-demo")
    cited = ", ".join(f"[{one.index}] {one.name}" for one in answer.citations if one.cited)
    return f"{answer.text}\n{cited}"


async def _speech(stage: _Stage) -> str:
    sound = stage.sound = await stage.city.speak(SENTENCE)
    return (
        f"{SENTENCE}\n[{sound.source.model} · {sound.format} · {len(sound) / 1000:.0f} kB · {sound.duration_s:.1f} s]"
    )


async def _hearing(stage: _Stage) -> str:
    heard = await stage.city.transcribe(stage.spoken(), words=True)
    return f"{heard.text}\n[{heard.source.model} · {heard.language} · {len(heard.words)} words]"


async def _pronunciation(stage: _Stage) -> str:
    score = await stage.city.score_pronunciation(stage.spoken(), SENTENCE)
    words = ", ".join(f"{word.reference or word.word} {word.accuracy:.0f}" for word in score.words)
    return f"{score.accuracy:.0f} of 100: {words}"


async def _dance(stage: _Stage) -> str:
    score = await stage.city.score_dance(*_videos(), language="ko")
    size = f"heatmap {len(score.heatmap) / 1000:.0f} kB" if score.heatmap else "no heatmap"
    return "\n".join([*score.feedback, f"[{score.source.model} · {score.score:.0f} of 100 · {size}]"])


async def _coach(stage: _Stage) -> str:
    video, reference = _videos()
    advice = await stage.city.coach("이 춤 동작의 문제점을 설명해 줘", video=video, reference=reference)
    return f"{advice.text}\n[{advice.source.model} · {advice.score:.0f} of 100]"


def _videos() -> tuple[Path, Path]:
    """A learner's dance and the dance."""
    video, reference = SAMPLES / "dance-learner.mp4", SAMPLES / "dance.mp4"
    if not (video.exists() and reference.exists()):
        raise _Skipped("the sample videos come with the source, under docs/samples, and are not here")
    return video, reference


TRIALS: list[tuple[str, Try]] = [
    ("Chat in Korean / 한국어 대화", _korean),
    ("Chat in English / 영어 대화", _english),
    ("A stream / 스트리밍", _stream),
    ("Why a model is chosen / 라우팅 이유", _decision),
    ("Embeddings / 임베딩", _embeddings),
    ("Documents and a question / 문서와 질문", _documents),
    ("Speech / 음성 합성", _speech),
    ("Hearing what was said / 음성 인식", _hearing),
    ("Its pronunciation / 발음 평가", _pronunciation),
    ("A dance / 춤 평가", _dance),
    ("The coach / 동작 코칭", _coach),
]
