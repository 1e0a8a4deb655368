"""Retrieval and embeddings, measured: `python -m benchmarks.retrieval` writes `benchmarks/results/retrieval.json`.

The questions are the project's own (`benchmarks/data/retrieval-*.txt`), three per passage in wordings of their own,
and thirty per language that no passage answers. The first question of each passage, and every third of those without
an answer, is for tuning; the curves of `deployments/retrieval/ranking.py` come from them (`--fit`). What is reported
of "don't know" is measured on the others.
"""

import argparse
import asyncio
import json
import math
import re
import sqlite3
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deployments.embeddings import Encoder
from deployments.rag import CANDIDATES, Retriever
from deployments.retrieval import ranking
from deployments.retrieval.terms import key, share_of_latin, terms
from serve_app.types import Artifact, Documents, Done, Embedding, Event, Job, Kind, Retrieval

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "retrieval.json"
NOTHING = ("none", "없는 것")
K = 5
MODEL = "models/all-minilm-l6-v2"


@dataclass
class Question:
    """`section` is the heading of the passage that answers it, or empty."""

    text: str
    section: str
    tuning: bool


@dataclass
class Corpus:
    documents: list[str] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)


def read(language: str) -> Corpus:
    """Documents in Markdown, without the lines that begin with a question mark: those are the questions."""
    corpus, section, title, asked = Corpus(), "", "", 0
    for line in (FOLDER / "data" / f"retrieval-{language}.txt").read_text("utf-8").splitlines():
        if line.startswith("? "):
            nothing = title in NOTHING
            corpus.questions.append(Question(line[2:], "" if nothing else section, asked % 3 == 0))
            asked += 1
            continue
        if line.startswith("# "):
            title, asked = line[2:], 0
            if title not in NOTHING:
                corpus.documents.append("")
        elif line.startswith("## "):
            section, asked = f"{title} > {line[3:]}", 0
            corpus.sections[section] = section + "\n"
        elif line:
            corpus.sections[section] += line
        if title not in NOTHING:
            corpus.documents[-1] += line + "\n"
    return corpus


async def engines(folder: str) -> tuple[Encoder, Retriever]:
    encoder = Encoder(Encoder.Options(path=MODEL, max_tokens=256, compute_type="int8_float32"))
    await encoder.load()
    retriever = Retriever(Retriever.Options(url=f"sqlite:///{folder}/documents.db"), {"embed": encoder.run})
    await retriever.load()
    return encoder, retriever


async def collect(engine: Encoder | Retriever, kind: Kind, payload: Any) -> list[Event]:
    return [event async for event in engine.run(Job("bench", kind, payload))]


@dataclass
class Halves:
    """What both halves of the search say about a question, by section."""

    question: Question
    strengths: dict[str, float]
    cosines: dict[str, float]
    read: float


async def halves(retriever: Retriever, encoder: Encoder, language: str, corpus: Corpus) -> list[Halves]:
    for document in corpus.documents:
        await collect(retriever, Kind.DOCUMENTS, Documents(language, "add", content=document))
    store = retriever._store
    found = []
    for question in corpus.questions:
        (vector,) = await _vectors(encoder, [question.text])
        strengths = dict(store.lexical(language, [key(term) for term in terms(question.text)], CANDIDATES))
        cosines = store.nearest(language, vector, CANDIDATES, list(strengths))
        names = {at: passage.context for at, passage in store.passages([*strengths, *cosines]).items()}
        found.append(
            Halves(
                question,
                {names[at]: score for at, score in strengths.items()},
                {names[at]: score for at, score in cosines.items()},
                share_of_latin(question.text),
            )
        )
    return found


async def dense_alone(encoder: Encoder, corpus: Corpus, found: Sequence[Halves]) -> list[dict[str, float]]:
    """Every section's cosine, whether or not the encoder can read it: what a system without a lexical half would do."""
    sections = np.stack(await _vectors(encoder, list(corpus.sections.values())))
    asked = np.stack(await _vectors(encoder, [one.question.text for one in found]))
    return [dict(zip(corpus.sections, map(float, row), strict=True)) for row in asked @ sections.T]


async def _vectors(encoder: Encoder, texts: Sequence[str]) -> list[np.ndarray]:
    artifact = (await collect(encoder, Kind.EMBEDDING, Embedding(tuple(texts))))[0]
    assert isinstance(artifact, Artifact)
    return list(np.frombuffer(artifact.data, "<f4").reshape(len(texts), -1))


def recall(found: Sequence[Halves], scores: Sequence[dict[str, float]], k: int) -> float:
    """The share of the questions with an answer whose passage is among the first `k`."""
    hits = [
        one.question.section in sorted(score, key=lambda name: -score[name])[:k]
        for one, score in zip(found, scores, strict=True)
        if one.question.section
    ]
    return round(sum(hits) / len(hits), 3)


def by_ranks(one: Halves, dense: dict[str, float]) -> dict[str, float]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)."""
    fused: Counter[str] = Counter()
    for half in (one.strengths, dense):
        for place, name in enumerate(sorted(half, key=lambda name: -half[name]), 1):
            fused[name] += 1 / (60 + place)  # type: ignore[assignment]
    return dict(fused)


def hybrid(one: Halves) -> dict[str, float]:
    names = one.strengths.keys() | one.cosines.keys()
    return {n: ranking.relevance(one.strengths.get(n, 0), one.cosines.get(n, 0), one.read) for n in names}


def dont_know(found: Sequence[Halves], threshold: float = 0.5) -> dict[str, float]:
    """On the questions that were not used for tuning. Answered is not yet right: that is recall@1."""
    best = [(one.question, max(hybrid(one).values(), default=0)) for one in found if not one.question.tuning]
    with_answer = [score >= threshold for question, score in best if question.section]
    without = [score < threshold for question, score in best if not question.section]
    return {
        "answerable_answered": round(sum(with_answer) / len(with_answer), 3),
        "unanswerable_refused": round(sum(without) / len(without), 3),
        "questions": len(best),
    }


def fit(found: Sequence[Halves]) -> ranking.Curve:
    """The logistic curve of whether a tuning question has an answer, over its best score; both cases weigh the same."""
    points = []
    for one in found:
        if one.question.tuning:
            names = one.strengths.keys() | one.cosines.keys()
            fused = {n: ranking.fused(one.strengths.get(n, 0), one.cosines.get(n, 0), one.read) for n in names}
            best = max(fused, key=lambda name: fused[name], default="")
            points.append((fused.get(best, 0.0), bool(one.question.section)))
    x, y = np.array([p[0] for p in points]), np.array([float(p[1]) for p in points])
    weight = np.where(y == 1, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    slope, offset = 10.0, -2.0
    for _ in range(100):  # Newton's method, with a little damping against separable data
        p = 1 / (1 + np.exp(-(slope * x + offset)))
        gradient = np.array([(weight * (y - p) * x).sum() - 1e-3 * slope, (weight * (y - p)).sum()])
        curvature = weight * p * (1 - p)
        hessian = np.array(
            [[(curvature * x * x).sum() + 1e-3, (curvature * x).sum()], [(curvature * x).sum(), curvature.sum()]]
        )
        step = np.linalg.solve(hessian, gradient)
        slope, offset = slope + step[0], offset + step[1]
    return ranking.Curve(round(float(-offset / slope), 3), round(float(slope), 1))


def lexical_variants(corpus: Corpus) -> dict[str, dict[str, float]]:
    """Ways to cut a text into terms, with the same BM25, and SQLite's own trigram index."""
    cutters: dict[str, Callable[[str], Counter[str]]] = {
        "terms (used)": terms,
        "words as written": lambda text: Counter(re.findall(r"\w+", text.casefold())),
        "pairs of characters": lambda text: Counter(_grams(text.casefold(), 2)),
        "triples of jamo": lambda text: Counter(_grams(unicodedata.normalize("NFD", text.casefold()), 3)),
    }
    asked = [question for question in corpus.questions if question.section]
    found = {name: _bm25_recall(corpus, asked, cut) for name, cut in cutters.items()}
    return {**found, "SQLite FTS5 trigram": _fts5_recall(corpus, asked)}


def _grams(text: str, size: int) -> Iterator[str]:
    for word in re.findall(r"\w+", text):
        yield from (word[at : at + size] for at in range(max(1, len(word) - size + 1)))


def _bm25_recall(corpus: Corpus, asked: Sequence[Question], cut: Callable[[str], Counter[str]]) -> dict[str, float]:
    held = {name: cut(text) for name, text in corpus.sections.items()}
    frequency = Counter(term for one in held.values() for term in one)
    hits: Counter[int] = Counter()
    for question in asked:
        scores = {
            name: sum(
                math.log(1 + (len(held) - frequency[t] + 0.5) / (frequency[t] + 0.5)) * 2.2 * own[t] / (own[t] + 1.2)
                for t in cut(question.text)
                if t in own
            )
            for name, own in held.items()
        }
        best = [name for name in sorted(scores, key=lambda name: -scores[name]) if scores[name]]
        hits.update(k for k in (1, K) if question.section in best[:k])
    return {f"recall@{k}": round(hits[k] / len(asked), 3) for k in (1, K)}


def _fts5_recall(corpus: Corpus, asked: Sequence[Question]) -> dict[str, float]:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE passages USING fts5(name UNINDEXED, text, tokenize='trigram')")
    database.executemany("INSERT INTO passages VALUES (?, ?)", corpus.sections.items())
    hits: Counter[int] = Counter()
    for question in asked:
        grams = {gram for gram in _grams(question.text, 3) if len(gram) == 3}
        match = " OR ".join(f'"{gram}"' for gram in grams)
        query = "SELECT name FROM passages WHERE passages MATCH ? ORDER BY bm25(passages) LIMIT 5"
        best = [row[0] for row in database.execute(query, (match,))] if match else []
        hits.update(k for k in (1, K) if question.section in best[:k])
    return {f"recall@{k}": round(hits[k] / len(asked), 3) for k in (1, K)}


async def quality(language: str, fitting: bool) -> dict[str, Any]:
    corpus = read(language)
    with tempfile.TemporaryDirectory() as folder:
        encoder, retriever = await engines(folder)
        found = await halves(retriever, encoder, language, corpus)
        dense = await dense_alone(encoder, corpus, found)
        answered = await _cited(retriever, language, corpus)
        await retriever.close()
        await encoder.close()
    if fitting:
        print(language, fit(found))
    ways = {
        "lexical": [one.strengths for one in found],
        "dense": dense,
        "reciprocal rank fusion": [by_ranks(one, other) for one, other in zip(found, dense, strict=True)],
        "hybrid (used)": [hybrid(one) for one in found],
    }
    return {
        "passages": len(corpus.sections),
        "questions": sum(bool(question.section) for question in corpus.questions),
        "questions_without_answer": sum(not question.section for question in corpus.questions),
        **{name: {f"recall@{k}": recall(found, scores, k) for k in (1, K)} for name, scores in ways.items()},
        "lexical variants": lexical_variants(corpus),
        "dont_know": dont_know(found),
        "answer_cites_the_right_passage": answered,
    }


async def _cited(retriever: Retriever, language: str, corpus: Corpus) -> float:
    """Of the answers to questions that have one, the share whose references include the passage that holds it."""
    right = []
    for question in corpus.questions:
        if not question.section or question.tuning:
            continue
        events = await collect(retriever, Kind.RETRIEVAL, Retrieval(language, question.text))
        body = json.loads(next(event.data for event in events if isinstance(event, Artifact)))
        if body["found"]:
            right.append(any(one["cited"] and one["heading"] == question.section for one in body["citations"]))
    return round(sum(right) / len(right), 3)


async def batching(workers: int, at_once: int = 64, texts: int = 512) -> dict[str, Any]:
    """Requests of one sentence each: one after the other, and `at_once` at a time.

    The ratio of CPU times does not depend on what else the machine does.
    """
    sentences = [question.text for language in ("en",) for question in read(language).questions]
    asked = [f"{sentences[n % len(sentences)]} ({n})" for n in range(texts)]
    encoder = Encoder(Encoder.Options(path=MODEL, max_tokens=256, compute_type="int8_float32", workers=workers))
    await encoder.load()

    async def ask(text: str) -> None:
        events = await collect(encoder, Kind.EMBEDDING, Embedding((text,)))
        assert isinstance(events[-1], Done)

    async def load() -> None:
        gate = asyncio.Semaphore(at_once)

        async def one(text: str) -> None:
            async with gate:
                await ask(text)

        await asyncio.gather(*(one(text) for text in asked))

    wall, cpu = [], []
    for _ in range(5):
        started, used = time.perf_counter(), time.process_time()
        for text in asked:
            await ask(text)
        alone, alone_cpu = time.perf_counter() - started, time.process_time() - used
        started, used = time.perf_counter(), time.process_time()
        await load()
        wall.append(round(alone / (time.perf_counter() - started), 2))
        cpu.append(round(alone_cpu / (time.process_time() - used), 2))
    await encoder.close()
    return {"workers": workers, "at_once": at_once, "ratios_of_time": sorted(wall), "ratios_of_cpu_time": sorted(cpu)}


async def main(fitting: bool) -> None:
    results: dict[str, Any] = {language: await quality(language, fitting) for language in ("ko", "en")}
    results["batching_cpu"] = [await batching(workers) for workers in (1, 2)]
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(results, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="print the curves that the tuning questions give")
    asyncio.run(main(parser.parse_args().fit))
