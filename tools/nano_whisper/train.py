"""Trains the nano whisper on shards of `tools.nano_whisper.data`, on one thread, for so many minutes of CPU time.

OMP_NUM_THREADS=1 python -m tools.nano_whisper.train --data FOLDER --run FOLDER --minutes 60
"""

import argparse
import json
import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from deployments.sounds import english
from deployments.sounds.korean import pronounce
from deployments.sounds.phones import of_syllable
from tools.nano_tutor.muon import Muon
from tools.nano_whisper import tokenizer as ids
from tools.nano_whisper.model import LEAD, POSITIONS, TAIL, NanoWhisper, Shape

EARS = ("conv1", "conv2", "encoder", "encoder_norm", "phones")
LISTENS = 2
"""Every so many steps the encoder learns too, if it has come from another run; in between only the decoder."""
POOL = 768
BATCH, BATCH_FRAMES = 32, 5_000
LONGEST = 1000
SPECIAL = [ids.END, ids.START, *ids.LANGUAGE.values(), ids.TRANSCRIBE, ids.PREVIOUS, ids.NO_SPEECH, ids.NO_TIMESTAMPS]
Frames = npt.NDArray[np.float16]


class Vocabulary:
    """Small ids for what is trained: the BPE's tokens, the special ones, one that stands for all unused, timestamps."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        names = [number for number in range(ids.END) if tokenizer.id_to_token(number)]
        self.large = [*names, *SPECIAL]
        self.small = {large: small for small, large in enumerate(self.large)}
        self.unused = len(self.large)
        self.first_moment = self.unused + 1
        self.log_unused = math.log(ids.SIZE - ids.TIMESTAMPS - len(self.large))

    def text(self, sentence: str) -> list[int]:
        return [self.small[token] for token in self.tokenizer.encode(f" {sentence}").ids]

    def moment(self, frame: int) -> int:
        return self.first_moment + min(frame // 2, ids.TIMESTAMPS - 1)


@dataclass(slots=True)
class Item:
    language: str
    text: str
    phones: list[int]
    frames: Frames
    places: list[float] = field(default_factory=list)
    """For each token of the text, among which phone it is said."""


def places(item: Item, words: Vocabulary) -> list[float]:
    """Spread over the phones of each word: in Korean those of its syllable, in English evenly over the letters."""
    weights = [0.0]
    for word in item.text.split(" "):
        weights += [*_weights(word, item.language), 0.0]
    ends = np.cumsum(weights)
    ends *= len(item.phones) / max(ends[-1], 1.0)
    starts = np.concatenate([[0.0], ends[:-1]])
    return [float(starts[a] + ends[b - 1]) / 2 for a, b in words.tokenizer.encode(f" {item.text}").offsets]


def _weights(word: str, language: str) -> list[float]:
    """Of each character of a word, how many phones it stands for."""
    letters = [at for at, character in enumerate(word) if character.isalpha() or character == "'"]
    if language == "ko":
        counts: list[float] = [len(of_syllable(syllable)) for syllable in pronounce(word)]
    else:
        counts = [len(english.pronounce(re.sub("[^A-Za-z']", "", word))[0]) / max(1, len(letters))] * len(letters)
    found = [0.0] * len(word)
    for at, count in zip(letters, counts, strict=False):
        found[at] = count
    return found


class Data:
    """The shards that are there by now; `refresh` looks for new ones."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = folder, set[str]()
        self.items: dict[str, list[Item]] = {"ko": [], "en": []}

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("????.npy")):
            if path.stem not in self.seen:
                self.seen.add(path.stem)
                self._read(path)

    def _read(self, path: Path) -> None:
        frames, at = np.load(path, mmap_mode="r"), 0
        for known in json.loads(path.with_suffix(".json").read_text()):
            end = at + known.pop("frames")
            self.items[known["language"]].append(Item(**known, frames=frames[:, at:end]))
            at = end


@dataclass(slots=True)
class Sample:
    frames: npt.NDArray[np.float32]
    phones: list[int]
    tokens: list[int]
    """Prompt and answer. Empty if only the phones are known."""
    skip: int
    """How many targets belong to the prompt."""
    moments: list[tuple[float, float, float]]
    """For each token about where it is said and how vague that is, in rows of the encoder; vagueness 0 if it is
    nowhere. Then among which phone it is said, -1 if among none."""


def compose(rng: random.Random, data: Data, words: Vocabulary) -> Sample:
    """One to four utterances of one language in one window."""
    language = rng.choice(("ko", "en"))
    pool = data.items[language]
    items = [rng.choice(pool)]
    if items[0].text:
        wanted = rng.choices((1, 2, 3, 4), (80, 11, 6, 3))[0]
        more = [item for item in rng.choices(pool, k=4 * wanted) if item.text]
        items += more[: wanted - 1]
    frames, phones, spans, at = [], [], [], 0
    for item in items:
        gap = rng.choice((0, rng.randint(0, 25), rng.randint(0, 90))) if at else rng.choice((0, 0, rng.randint(0, 50)))
        if at + gap + item.frames.shape[1] > LONGEST and at:
            break
        sound = np.asarray(item.frames, np.float32)
        frames += [np.full((sound.shape[0], gap), sound.min(), np.float32), sound]
        spans.append((at + gap, at + gap + sound.shape[1], item))
        at = spans[-1][1]
        phones += item.phones
    tokens, skip, moments = _tokens(rng, language, spans, words, pool)
    return Sample(masked(rng, np.concatenate(frames, axis=1)), phones, tokens, skip, moments)


Told = tuple[list[int], int, list[tuple[float, float, float]]]
NOWHERE = (0.0, 0.0, -1.0)
SHARP = 5.0
"""Rows of the encoder, 20 ms each."""


def _tokens(rng: random.Random, language: str, spans: list[Any], words: Vocabulary, pool: list[Item]) -> Told:
    head: list[int] = []
    if rng.random() < 0.1:
        head = [words.small[ids.PREVIOUS], *words.text(rng.choice(pool).text)]
    skip = len(head)
    head += [words.small[ids.START]]
    if not spans[0][2].text:
        if spans[0][2].phones:
            return [], 0, []
        return [*head, words.small[ids.NO_SPEECH]], skip, [NOWHERE] * (len(head) + 1)
    head += [words.small[ids.LANGUAGE[language]], words.small[ids.TRANSCRIBE]]
    timed = rng.random() < 0.5
    if not timed:
        head.append(words.small[ids.NO_TIMESTAMPS])
    moments, phones = [NOWHERE] * len(head), 0
    for start, end, item in spans:
        said = words.text(item.text)
        vague = 4 + 0.06 * (end - start)
        item.places = item.places or places(item, words)
        where = [
            ((start + (end - start) * (at + 0.5) / len(said)) / 2, vague / 2, phones + item.places[at])
            for at in range(len(said))
        ]
        phones += len(item.phones)
        if timed:
            first = min(start, 100) if start == spans[0][0] else start
            said = [words.moment(first), *said, words.moment(end)]
            where = [(start / 2, 4.0, -1.0), *where, (end / 2, 4.0, -1.0)]
        head += said
        moments += where
    return [*head, words.small[ids.END]], skip, [*moments, NOWHERE]


def masked(rng: random.Random, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """SpecAugment, lightly; a shift of loudness."""
    if rng.random() < 0.5:
        frames = frames.copy()
        for _ in range(2):
            start, width = rng.randrange(frames.shape[1]), rng.randint(0, 8)
            frames[:, start : start + width] = frames.min()
        start, width = rng.randrange(frames.shape[0]), rng.randint(0, 10)
        frames[start : start + width] = frames.min()
    return frames


@dataclass(slots=True)
class Batch:
    frames: Tensor
    tokens: Tensor
    targets: Tensor
    phones: Tensor
    phone_counts: Tensor
    moments: Tensor
    """[batch, targets, 3]"""


def batches(rng: random.Random, data: Data, words: Vocabulary) -> Iterator[Batch]:
    while True:
        data.refresh()
        pool = sorted((compose(rng, data, words) for _ in range(POOL)), key=lambda s: s.frames.shape[1])
        groups = list(grouped(pool))
        rng.shuffle(groups)
        for group in groups:
            yield collate(group)


def grouped(samples: list[Sample]) -> Iterator[list[Sample]]:
    """Batches of about equal cost, of samples of about equal length."""
    group: list[Sample] = []
    for sample in samples:
        if len(group) == BATCH or ((len(group) + 1) * sample.frames.shape[1] > BATCH_FRAMES and len(group) > 3):
            yield group
            group = []
        group.append(sample)
    yield group


def collate(samples: list[Sample]) -> Batch:
    frames = max(sample.frames.shape[1] for sample in samples) + 12
    frames += frames % 2
    length = max([2, *(len(sample.tokens) for sample in samples)]) - 1
    sound = np.zeros((len(samples), 80, frames), np.float32)
    tokens = np.zeros((len(samples), length), np.int64)
    targets = np.full((len(samples), length), -100)
    moments = np.full((len(samples), length, 3), NOWHERE, np.float32)
    for row, sample in enumerate(samples):
        sound[row, :, : sample.frames.shape[1]] = sample.frames
        count = len(sample.tokens) - 1
        if count > 0:
            tokens[row, :count] = sample.tokens[:-1]
            targets[row, sample.skip : count] = sample.tokens[1 + sample.skip :]
            moments[row, :count] = sample.moments[1:]
    phones = torch.tensor([phone for sample in samples for phone in sample.phones], dtype=torch.long)
    counts = torch.tensor([len(sample.phones) for sample in samples])
    return Batch(
        torch.from_numpy(sound),
        torch.from_numpy(tokens),
        torch.from_numpy(targets),
        phones,
        counts,
        torch.from_numpy(moments),
    )


def place(rng: random.Random, rows: int, share: float) -> tuple[Tensor, Tensor, slice]:
    """Where in the window, which is Whisper's 30 s or shorter, the rows lie: positions, what to add to the scores, and
    which of them are the rows themselves."""
    longest = rows + TAIL + int((POSITIONS - rows - TAIL) * share)
    window = rng.choice((longest, longest, min(POSITIONS, rows + TAIL + rng.randint(0, 300))))
    room = window - rows - TAIL
    before = rng.choice((0, 0, rng.randint(LEAD, room // 2))) if room > 4 * LEAD else 0
    lead = sorted(rng.sample(range(before), LEAD)) if before else []
    tail = sorted(rng.sample(range(before + rows, window), TAIL))
    at = torch.tensor([*lead, *range(before, before + rows), *tail])
    bias = torch.zeros(len(at))
    bias[: len(lead)] = math.log(max(before, 1) / LEAD)
    bias[len(lead) + rows :] = math.log((window - before - rows) / TAIL)
    return at, bias[None, None, None], slice(len(lead), len(lead) + rows)


@torch.no_grad()
def aligned(sounds: Tensor, batch: Batch) -> Tensor:
    """The row in which each phone is named first on the best CTC path, [batch, phones]; Viterbi over all at once."""
    scores = sounds.float().log_softmax(-1)
    size, rows, _ = scores.shape
    most = int(batch.phone_counts.max())
    labels = torch.zeros(size, most, dtype=torch.long)
    labels[torch.arange(most) < batch.phone_counts[:, None]] = batch.phones
    spelt = torch.zeros(size, 2 * most + 1, dtype=torch.long)
    spelt[:, 1::2] = labels
    barred = torch.ones_like(spelt, dtype=torch.bool)
    barred[:, 3::2] = spelt[:, 3::2] == spelt[:, 1:-2:2]
    said = scores.gather(2, spelt[:, None].expand(-1, rows, -1))
    total = torch.full_like(said[:, 0], -1e9)
    total[:, :2] = said[:, 0, :2]
    came = torch.zeros(rows, *total.shape, dtype=torch.long)
    for row in range(1, rows):
        step, skip = F.pad(total, (1, 0), value=-1e9)[:, :-1], F.pad(total, (2, 0), value=-1e9)[:, :-2]
        best, came[row] = torch.stack([total, step, skip.masked_fill(barred, -1e9)]).max(dim=0)
        total = best + said[:, row]
    last = 2 * batch.phone_counts[:, None]
    ends = torch.cat([last, (last - 1).clamp(min=0)], dim=1)
    state = ends.gather(1, total.gather(1, ends).argmax(dim=1, keepdim=True))
    named = torch.zeros(size, most + 1)
    for row in range(rows - 1, -1, -1):
        named.scatter_(1, torch.where(state % 2 == 1, state // 2, most), float(row))
        state = state - came[row].gather(1, state)
    return named[:, :most]


def guidance(looks: list[Tensor], batch: Batch, rows: slice, sounds: Tensor) -> Tensor:
    """One head of each block is told where to look, as the phone head knows it: the last block's where the token is
    said, those before it where the token before was said."""
    middle, vague, place = batch.moments.unbind(-1)
    if len(batch.phones):
        named = aligned(sounds, batch)
        index = place.floor().long().clamp(min=0, max=named.shape[1] - 1)
        middle = torch.where(place >= 0, named.gather(1, index), middle)
        vague = torch.where(place >= 0, SHARP, vague)
    losses = []
    for depth, look in enumerate(looks):
        if depth < len(looks) - 1:  # what was said last can be found by its sound, what comes next only from there
            missed = _missed(look[:, 1:, rows], middle[:, :-1], vague[:, :-1] * (vague[:, 1:] > 0))
        else:
            missed = _missed(look[..., rows], middle, vague)
        losses.append(missed)
    return torch.stack(losses).mean()


def _missed(look: Tensor, middle: Tensor, vague: Tensor) -> Tensor:
    """How little of the looking is about the middle, where there is one."""
    away = (torch.arange(look.shape[-1]) - middle[..., None]) / vague.clamp(min=1e-3)[..., None]
    seen = (look.float() * torch.exp(-0.5 * away**2)).sum(-1)
    return -(seen[vague > 0] + 1e-4).log().mean()


def loss_of(
    model: NanoWhisper, batch: Batch, words: Vocabulary, rng: random.Random, share: float, listening: bool
) -> tuple[Tensor, dict[str, float]]:
    """`share` of the 30 s window is there behind the speech: training begins without it. Unless `listening`, only the
    decoder learns, which is much cheaper."""
    at, bias, rows = place(rng, batch.frames.shape[2] // 2, share)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.set_grad_enabled(listening):
            memory = model.hear(batch.frames, at, bias)
            sounds = model.phones(memory)
        logits, looks = model.write(batch.tokens, memory, bias)
    known = batch.targets.flatten() >= 0
    logits = logits.flatten(0, 1)[known].float()
    logits = torch.cat(
        [
            logits[:, : words.unused],
            logits[:, words.unused : words.first_moment] + words.log_unused,
            logits[:, words.first_moment :],
        ],
        dim=1,
    )
    told = F.cross_entropy(logits, batch.targets.flatten()[known], label_smoothing=0.02)
    guided = guidance(looks, batch, rows, sounds[:, rows])
    loss = told + 0.5 * guided
    parts = {"told": told.item(), "guided": guided.item()}
    if listening:
        heard = hearing_loss(sounds[:, rows], batch)
        outside = torch.cat([sounds[:, : rows.start], sounds[:, rows.stop :]], dim=1).float().flatten(0, 1)
        loss = loss + 0.7 * heard + 0.1 * F.cross_entropy(outside, torch.zeros(len(outside), dtype=torch.long))
        parts["heard"] = heard.item()
    return loss, parts


def hearing_loss(sounds: Tensor, batch: Batch) -> Tensor:
    """CTC, per phone. Zeros behind an utterance are part of it: the head has to name nothing there."""
    scores = sounds.float().log_softmax(-1).transpose(0, 1)
    lengths = torch.full((scores.shape[1],), scores.shape[0])
    loss = F.ctc_loss(scores, batch.phones, lengths, batch.phone_counts, reduction="sum", zero_infinity=True)
    return loss / max(1, len(batch.phones))


def rate(done: float) -> float:
    """Share of the peak: a short rise, a plateau, a linear fall over the last 60 %."""
    return min(1.0, done / 0.02 + 0.05, max(0.0, (1 - done) / 0.6) + 0.01)


def optimizers(model: NanoWhisper, muon_rate: float, adam_rate: float, ears: float) -> list[torch.optim.Optimizer]:
    """Two for what hears, whose rates are `ears` times those of what writes, and two for what writes."""
    hearing = (model.conv1, model.conv2, model.encoder, model.encoder_norm, model.phones)
    heard = [p for module in hearing for p in module.parameters()]
    known = {id(p) for p in heard}
    written = [p for p in model.parameters() if id(p) not in known]
    blocks = {id(p) for p in [*model.encoder.parameters(), *model.decoder.parameters()] if p.ndim == 2}
    found: list[torch.optim.Optimizer] = []
    for params, factor in ((heard, ears), (written, 1.0)):
        matrices = [p for p in params if id(p) in blocks]
        rest = [p for p in params if id(p) not in blocks]
        found.append(Muon(matrices, lr=muon_rate * factor))
        found.append(torch.optim.AdamW(rest, lr=adam_rate * factor, betas=(0.9, 0.98), weight_decay=0.01))
    return found


def take_ears(model: NanoWhisper, path: Path) -> None:
    """The part that hears, of another run: it does not depend on the tokenizer."""
    state = torch.load(path, weights_only=True)["model"]
    ears = {name: value for name, value in state.items() if name.split(".")[0] in EARS}
    missing = model.load_state_dict(ears, strict=False).missing_keys
    assert all(name.split(".")[0] not in EARS for name in missing)


class Run:
    """A model on its way, with what it takes to go on after an interruption."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.words = Vocabulary(Tokenizer.from_file(str(arguments.run / "tokenizer.json")))
        self.model = NanoWhisper(Shape(), self.words.first_moment, ids.TIMESTAMPS)
        if arguments.ears:
            take_ears(self.model, arguments.ears)
        self.optimizers = optimizers(self.model, arguments.muon, arguments.adam, 0.5 if arguments.ears else 1.0)
        self.peaks = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.path = arguments.run / "checkpoint.pt"
        self.spent, self.step, self.seed = 0.0, 0, 1
        if self.path.exists():
            self._resume()
        self._opened, self._before = time.time(), self.spent
        self._began = time.process_time() - self.spent

    def _resume(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.spent, self.step, self.seed = state["spent"], state["step"], state["seed"] + 1

    def save(self) -> None:
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"model": self.model.state_dict(), "optimizers": states, "spent": self.spent, "step": self.step}
        torch.save(state | {"seed": self.seed}, self.path.with_suffix(".new"))
        self.path.with_suffix(".new").replace(self.path)

    def progress(self) -> float:
        """From 0 to 1: by CPU time, or faster if there is a deadline before it."""
        self.spent = time.process_time() - self._began
        budget = 60 * self.arguments.minutes
        if not self.arguments.deadline:
            return self.spent / budget
        hurry = (time.time() - self._opened) / max(1.0, self.arguments.deadline - self._opened)
        return max(self.spent / budget, self._before / budget + (1 - self._before / budget) * hurry)

    def learn(self, batch: Batch, rng: random.Random, done: float) -> dict[str, float]:
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate(done)
        listening = not self.arguments.ears or self.step % LISTENS == 0
        share = min(1.0, max(0.0, (done - 0.35) / 0.25))
        loss, parts = loss_of(self.model, batch, self.words, rng, share, listening)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        for optimizer in self.optimizers if listening else self.optimizers[2:]:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return parts


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    run = Run(arguments)
    rng, said, totals = random.Random(run.seed), time.time(), dict[str, list[float]]()
    for batch in batches(rng, Data(arguments.data), run.words):
        done = run.progress()
        for name, value in run.learn(batch, rng, done).items():
            totals.setdefault(name, []).append(value)
        if run.step % 50 == 0:
            means = " ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in totals.items())
            print(
                f"step {run.step} cpu {run.spent:.0f} s wall/step {(time.time() - said) / 50:.3f} {means}", flush=True
            )
            said, totals = time.time(), {}
        if run.step % 100 == 0 or done >= 1:
            run.save()
        if done >= 1:
            return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="holds tokenizer.json; the checkpoint is written here")
    parser.add_argument("--ears", type=Path, help="checkpoint of another run, from which the encoder is taken")
    parser.add_argument("--minutes", type=float, default=60, help="of CPU time")
    parser.add_argument(
        "--deadline", type=float, help="end by then, in seconds since the epoch, though less CPU was had"
    )
    parser.add_argument("--muon", type=float, default=0.02)
    parser.add_argument("--adam", type=float, default=2e-3)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
