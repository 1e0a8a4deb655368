"""Definitions, coaching, greetings and everything that the tutor declines."""

from tools.nano_tutor import motion
from tools.nano_tutor.items import (
    DECLINE,
    GREETING,
    HANGUL,
    Draw,
    Item,
    answer_language,
    ask,
    cores,
    phrase,
    roughen,
    until_split,
)
from tools.nano_tutor.near_miss import near_miss_question
from tools.nano_tutor.wordings import terms, wordings


def draw_def(draw: Draw) -> Item:
    term = draw.rng.choice(terms(draw.language))
    question = ask(draw, "def", {"t": draw.rng.choice(term.names)})
    return Item("def", draw.language, question, term.definition, term.definition)


def draw_motion(draw: Draw) -> Item:
    rng = draw.rng

    def sample() -> tuple[int, tuple[motion.JointDeviation, ...], float]:
        count = rng.choices((0, 1, 2), (1, 2, 7))[0]
        places = rng.sample([(s, j) for s in ("left", "right") for j in motion.JOINTS], count)
        sizes = sorted((rng.randint(1, 60 if rng.random() < 0.8 else 120) for _ in places), reverse=True)
        joints = tuple(
            motion.JointDeviation(side, joint, float(size * rng.choice((-1, 1))))
            for (side, joint), size in zip(places, sizes, strict=True)
        )
        delay = 0.0 if rng.random() < 0.15 else rng.randint(1, 20) / 10 * rng.choice((-1, 1))
        return rng.randint(0, 100), joints, delay

    score, joints, delay = until_split(draw, "motion", sample)
    question = motion.motion_report(score, list(joints), delay, draw.language)
    answer = motion.coaching(score, list(joints), delay, draw.language)
    return Item("motion", draw.language, question, answer, answer)


def draw_hello(draw: Draw) -> Item:
    rng = draw.rng
    text = rng.choice(wordings(draw.language).lines("hello", draw.held_wording))
    if rng.random() < 0.4:
        text = text[:1].upper() + text[1:]
    text = roughen(text + rng.choice(("", "", "!", "?", ".", "~", "!!")), rng)
    return Item("hello", draw.language, text, GREETING[draw.language], GREETING[draw.language])


def declined(kind: str, question: str, read: str | None = None) -> Item:
    language = answer_language(question)
    answer = f"{read}\n{DECLINE[language]}" if read else DECLINE[language]
    return Item(kind, language, question, answer, None)


def draw_off(draw: Draw) -> Item:
    """Requests that have nothing to do with the tutor, and terms that it does not know."""
    rng, words = draw.rng, wordings(draw.language)
    if rng.random() < 0.4:
        term = rng.choice(words.lines("other terms", draw.held_wording))
        return declined("off", ask(draw, "def", {"t": term}))
    return declined("off", phrase(draw, rng.choice(words.lines("chat", draw.held_wording)), {}))


def draw_near(draw: Draw) -> Item:
    """Near misses: wordings of solvable questions with operands out of scope, and neighbouring kinds of task."""
    while True:
        near = near_miss_question(draw.rng, draw.language, draw.held_wording)
        question = phrase(draw, near.template or draw.rng.choice(cores(draw, near.kind)), near.slots)
        if draw.language == "en" or HANGUL.search(question):
            return declined("near", question, near.read)
