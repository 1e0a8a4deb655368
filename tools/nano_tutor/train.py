"""Trains the tutor on generated questions: `python -m tools.nano_tutor.train --minutes 90 --run /tmp/nano-tutor/run`.

Muon on the hidden matrices, AdamW on the rest; the learning rate warms up, stays, and falls to zero over the last part
of the time given. Time is computing time, so a run that must wait for other programs loses none of its schedule. A run
continues from its checkpoint, also with more minutes than it was started with.

`--from models/nano-tutor --peak 0.7` starts a new run from a finished artefact: its weights and its tokenizer, fresh
optimizers, a lower rate.
"""

import argparse
import random
import shutil
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from tools.nano_tutor import data
from tools.nano_tutor.model import Shape, Tutor
from tools.nano_tutor.muon import Muon
from tools.nano_tutor.tokenizer import END, prompt, save_tokenizer, train_tokenizer

ROW = 256
ROWS = 20
SCORED_STEP = 512
"""Counts of scored places are rounded up to a multiple of this, so that few shapes are compiled."""
WARMUP_STEPS = 100
MUON_LR, ADAMW_LR = 0.012, 3e-3
EMA_DECAY = 0.998
SPLIT_SHARE, SPLIT_RATE = 0.35, 0.1
READ_SHARE = 0.8
"""Share of the longer answers that end after their first line: what is hard is to read the question."""
EVALUATE_EVERY_S, SAVE_EVERY_S, LOG_EVERY_STEPS = 360, 180, 50
CELL_ITEMS = 20
IGNORED = -100
WATCHED = ("seen", "dev")
Encoded = tuple[list[int], int]
"""Token ids of question and answer, and how many of them belong to the question."""


@dataclass(slots=True)
class Packer:
    """Encodes items and packs them into rows."""

    tokenizer: Tokenizer
    split_tokenizer: Tokenizer
    rng: random.Random
    weights: dict[str, float] = field(default_factory=lambda: dict(data.WEIGHTS))
    waiting: Encoded | None = None

    def encode(self, item: data.Item, split: bool = False) -> Encoded:
        """`split` breaks words of the question at random places, so that unknown words are not a surprise."""
        head = (self.split_tokenizer if split else self.tokenizer).encode(prompt(item.question)).ids
        return head + self.tokenizer.encode(item.answer + END).ids, len(head)

    def first_line(self, item: data.Item, encoded: Encoded) -> Encoded:
        """The same item up to the end of the answer's first line, if more follows."""
        line, more, _ = item.answer.partition("\n")
        tokens, head = encoded
        return (tokens[: head + len(self.tokenizer.encode(line + more).ids)] if more else tokens), head

    def draw(self) -> Encoded:
        while True:
            item = data.training_item(self.rng, self.weights)
            encoded = self.encode(item, split=self.rng.random() < SPLIT_SHARE)
            if self.rng.random() < READ_SHARE:
                encoded = self.first_line(item, encoded)
            if len(encoded[0]) <= ROW:
                return encoded

    def batch(self) -> list[list[Encoded]]:
        rows: list[list[Encoded]] = [[] for _ in range(ROWS)]
        free = [ROW] * ROWS
        while True:
            encoded = self.waiting or self.draw()
            self.waiting = None
            fit = next((i for i, room in enumerate(free) if room >= len(encoded[0])), None)
            if fit is None:
                self.waiting = encoded
                return rows
            rows[fit].append(encoded)
            free[fit] -= len(encoded[0])


@dataclass(frozen=True, slots=True)
class Batch:
    ids: Tensor
    positions: Tensor
    mask: Tensor
    scored: Tensor
    """Indices into the flattened rows: places whose next token belongs to an answer."""
    targets: Tensor
    documents: Tensor
    """For every scored place the number of its document."""


def tensors(rows: list[list[Encoded]], width: int = ROW) -> Batch:
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions, owner = torch.zeros_like(ids), torch.full_like(ids, -1)
    scored, targets, documents, number = [], [], [], 0
    for r, row in enumerate(rows):
        start = 0
        for tokens, head in row:
            end = start + len(tokens)
            ids[r, start:end] = torch.tensor(tokens)
            positions[r, start:end] = torch.arange(len(tokens))
            owner[r, start:end] = number
            scored += range(r * width + start + head - 1, r * width + end - 1)
            targets += tokens[head:]
            documents += [number] * (len(tokens) - head)
            start, number = end, number + 1
    same = owner.unsqueeze(2) == owner.unsqueeze(1)
    mask = (same & torch.ones(width, width, dtype=torch.bool).tril()).unsqueeze(1)
    return Batch(ids, positions, mask, torch.tensor(scored), torch.tensor(targets), torch.tensor(documents))


def answer_logits(model: Tutor, batch: Batch) -> Tensor:
    hidden = model(batch.ids, batch.positions, batch.mask)
    return model.logits(hidden.flatten(0, 1)[batch.scored])


def rounded(batch: Batch) -> Batch:
    """The same batch with its scored places filled up to a round count by places that no loss looks at."""
    extra = -len(batch.targets) % SCORED_STEP
    scored = F.pad(batch.scored, (0, extra))
    targets, documents = (F.pad(t, (0, extra), value=IGNORED) for t in (batch.targets, batch.documents))
    return replace(batch, scored=scored, targets=targets, documents=documents)


def answer_loss(model: Tutor, batch: Batch) -> Tensor:
    """Mean cross entropy of the answers' tokens; products in bf16, which CPUs with AMX do several times faster."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = answer_logits(model, batch)
    return F.cross_entropy(logits.float(), batch.targets, ignore_index=IGNORED)


compiled_loss = torch.compile(answer_loss)


@torch.no_grad()
def exact_share(model: Tutor, encoded: list[Encoded]) -> float:
    """Share of answers that greedy decoding would reproduce word for word (teacher-forced, which is equivalent)."""
    right, order = 0, sorted(encoded, key=lambda e: len(e[0]))
    for i in range(0, len(order), 16):
        rows = [[e] for e in order[i : i + 16]]
        batch = tensors(rows, max(len(e[0]) for e in order[i : i + 16]))
        wrong = answer_logits(model, batch).argmax(-1) != batch.targets
        right += len(rows) - len(set(batch.documents[wrong].tolist()))
    return right / len(encoded)


Cells = dict[tuple[str, str], list[Encoded]]


def evaluation_cells(packer: Packer) -> Cells:
    """Held-out operands; per kind one cell with wordings that are trained and one with some that are not.

    The wordings held out for the evaluation stay out of this: what a run is steered by is no test of it.
    """
    return {
        (kind, wording): [
            packer.encode(item)
            for language in data.LANGUAGES
            for item in data.evaluation_items(kind, language, wording, CELL_ITEMS, seed=11)
        ]
        for kind in data.DRAWS
        for wording in WATCHED
    }


def evaluate(model: Tutor, cells: Cells) -> dict[tuple[str, str], float]:
    model.eval()
    shares = {cell: exact_share(model, encoded) for cell, encoded in cells.items()}
    model.train()
    return shares


def rebalanced(shares: dict[tuple[str, str], float]) -> dict[str, float]:
    """Kinds that are still wrong often get more of the data."""
    errors = {kind: 1 - sum(shares[kind, wording] for wording in WATCHED) / 2 for kind in data.WEIGHTS}
    return {kind: base * (0.4 + 2 * errors[kind]) for kind, base in data.WEIGHTS.items()}


@dataclass(slots=True)
class Run:
    """Model, optimizers, moving average and counters of a run; all of it is in the checkpoint."""

    model: Tutor
    muon: Muon
    adamw: torch.optim.AdamW
    average: Tutor
    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    answer_tokens: int = 0

    def save(self, path: Path, weights: dict[str, float]) -> None:
        state = {name: getattr(self, name).state_dict() for name in ("model", "muon", "adamw", "average")}
        counters = {name: getattr(self, name) for name in ("step", "seconds", "tokens", "answer_tokens")}
        part = path.with_suffix(".part")
        torch.save({**state, **counters, "shape": self.model.shape.as_dict(), "weights": weights}, part)
        part.replace(path)

    def load(self, path: Path) -> dict[str, float]:
        state = torch.load(path, weights_only=True)
        for name in ("model", "muon", "adamw", "average"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("step", "seconds", "tokens", "answer_tokens"):
            setattr(self, name, state[name])
        return {**data.WEIGHTS, **state["weights"]}

    def adopt(self, weights: Path) -> None:
        """Takes the weights of a finished artefact (fp16, names with `model.` in front)."""
        state = {name.removeprefix("model."): value.float() for name, value in load_file(str(weights)).items()}
        self.model.load_state_dict(state)
        self.average.load_state_dict(state)


def new_run(shape: Shape) -> Run:
    model, average = Tutor(shape), Tutor(shape)
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    adamw = torch.optim.AdamW(others, lr=ADAMW_LR, betas=(0.9, 0.98), weight_decay=0.0)
    return Run(model, Muon(matrices, lr=MUON_LR), adamw, average)


def rate(step: int, seconds: float, total_s: float, decay_share: float) -> float:
    """Warm-up, plateau, linear fall over the last `decay_share` of the time."""
    left = max(0.0, 1 - seconds / total_s)
    return min(1.0, (step + 1) / WARMUP_STEPS, left / decay_share)


def train_step(run: Run, batch: Batch, factor: float) -> float:
    loss = compiled_loss(run.model, rounded(batch))
    loss.backward()
    for optimizer, lr in ((run.muon, MUON_LR), (run.adamw, ADAMW_LR)):
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    decay = min(EMA_DECAY, run.step / (run.step + 20))
    with torch.no_grad():
        torch._foreach_lerp_(list(run.average.parameters()), list(run.model.parameters()), 1 - decay)
    run.step += 1
    run.tokens += int(batch.ids.numel())
    run.answer_tokens += len(batch.targets)
    return loss.item()


def report(run: Run, shares: dict[tuple[str, str], float]) -> None:
    kinds = list(data.DRAWS)
    for wording in WATCHED:
        cells = " ".join(f"{kind} {100 * shares[kind, wording]:.0f}" for kind in kinds)
        print(f"eval {run.seconds:.0f}s {run.tokens / 1e6:.2f}M {wording:4} | {cells}", flush=True)


def train(run: Run, packer: Packer, cells: Cells, options: argparse.Namespace) -> None:
    checkpoint: Path = options.run / "checkpoint.pt"
    total_s, last_eval, last_save = options.minutes * 60, run.seconds, run.seconds
    losses: list[float] = []
    stop = StopRequest()
    clock = time.process_time()
    while run.seconds < total_s and not stop.requested:
        factor = options.peak * rate(run.step, run.seconds, total_s, options.decay_share)
        losses.append(train_step(run, tensors(packer.batch()), factor))
        now = time.process_time()
        run.seconds, clock = run.seconds + (now - clock) / options.threads, now
        if run.step % LOG_EVERY_STEPS == 0:
            loss = sum(losses) / len(losses)
            print(f"step {run.step} {run.seconds:.0f}s {run.tokens / 1e6:.2f}M tokens loss {loss:.4f}", flush=True)
            losses.clear()
        if run.seconds - last_eval > EVALUATE_EVERY_S:
            shares = evaluate(run.average, cells)
            report(run, shares)
            packer.weights = rebalanced(shares)
            last_eval = run.seconds
        if run.seconds - last_save > SAVE_EVERY_S:
            run.save(checkpoint, packer.weights)
            last_save = run.seconds
    run.save(checkpoint, packer.weights)
    if not stop.requested:
        report(run, evaluate(run.average, cells))


class StopRequest:
    """Set by SIGTERM: the run saves its state and ends."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._set)

    def _set(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.requested = True


def load_tokenizers(folder: Path) -> tuple[Tokenizer, Tokenizer]:
    path = folder / "tokenizer.json"
    if not path.exists():
        save_tokenizer(train_tokenizer(), path)
    split = Tokenizer.from_file(str(path))
    split.model.dropout = SPLIT_RATE
    return Tokenizer.from_file(str(path)), split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("/tmp/nano-tutor/run"), help="tokenizer and checkpoint")
    parser.add_argument("--minutes", type=float, default=90, help="computing time per thread, earlier parts included")
    parser.add_argument("--decay-share", type=float, default=0.85, help="last share of the time: the rate falls")
    parser.add_argument("--from", dest="start", type=Path, metavar="ARTEFACT", help="begin with these weights")
    parser.add_argument("--peak", type=float, default=1.0, help="factor on all learning rates")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    run, checkpoint, weights = new_run(Shape()), options.run / "checkpoint.pt", dict(data.WEIGHTS)
    if checkpoint.exists():
        weights = run.load(checkpoint)
    elif options.start:
        options.run.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.start / "tokenizer.json", options.run / "tokenizer.json")
        run.adopt(options.start / "model.safetensors")
    tokenizer, split_tokenizer = load_tokenizers(options.run)
    packer = Packer(tokenizer, split_tokenizer, random.Random(f"{options.seed}/{run.step}"), weights)
    print(f"{sum(p.numel() for p in run.model.parameters())} parameters, step {run.step}", flush=True)
    train(run, packer, evaluation_cells(packer), options)


if __name__ == "__main__":
    main()
