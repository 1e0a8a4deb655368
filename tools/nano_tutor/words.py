"""Definitions, coaching, greetings and everything that the tutor declines."""

from tools.nano_tutor import motion, noise
from tools.nano_tutor.grammar import expand
from tools.nano_tutor.items import (
    DECLINE,
    GREETING,
    HANGUL,
    Draw,
    Item,
    answer_language,
    ask,
    noisier,
    phrase,
    pick,
    roughen,
    until_split,
    with_names,
)
from tools.nano_tutor.near_miss import near_miss_question
from tools.nano_tutor.wordings import terms, wordings

UNKNOWN_TERM_SHARE = 0.3


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
    words = wordings(draw.language)
    text = pick(draw, "hello")
    text = expand(with_names(draw, text, words), words.macros, {}, rng)
    if rng.random() < 0.4:
        text = text[:1].upper() + text[1:]
    text = roughen(text + rng.choice(("", "", "!", "?", ".", "~", "!!")), rng)
    if draw.noisy:
        text = noisier(draw, text, words)
    return Item("hello", draw.language, text, GREETING[draw.language], GREETING[draw.language])


def declined(kind: str, question: str, read: str | None = None) -> Item:
    language = answer_language(question)
    answer = f"{read}\n{DECLINE[language]}" if read else DECLINE[language]
    return Item(kind, language, question, answer, None)


def draw_off(draw: Draw) -> Item:
    """Requests that have nothing to do with the tutor, and terms that it does not know."""
    rng, words = draw.rng, wordings(draw.language)
    if rng.random() < 0.4:
        term = pick(draw, "other terms")
        if draw.noisy and rng.random() < UNKNOWN_TERM_SHARE:
            term = noise.word(rng, draw.language, words)
        return declined("off", ask(draw, "def", {"t": term}))
    return declined("off", phrase(draw, pick(draw, "chat"), {}))


def draw_near(draw: Draw) -> Item:
    """Near misses: wordings of solvable questions with operands out of scope, and neighbouring kinds of task."""
    while True:
        near = near_miss_question(draw)
        question = phrase(draw, near.template or pick(draw, f"core {near.kind}"), near.slots)
        if draw.language == "en" or HANGUL.search(question):
            return declined("near", question, near.read)
