"""Whisper's architecture, written so that training at a 30 s window costs little more than the speech in it.

After an utterance the window is filled with zeros, so all positions behind it look the same but for where they are.
Training attends to a few of them, drawn at random, each weighing as much as all that it stands for (`log(n / k)` on its
scores); likewise for the silence before an utterance. At export nothing of that is left: it is a plain Whisper.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deployments.sounds.phones import PHONES

POSITIONS = 1500
TEXT_POSITIONS = 448


@dataclass(frozen=True, slots=True)
class Shape:
    width: int = 144
    heads: int = 3
    encoder: int = 4
    decoder: int = 2
    mels: int = 80


def sinusoids(length: int, channels: int) -> Tensor:
    """Whisper's own, [length, channels]."""
    scale = math.log(10_000) / (channels // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-scale * torch.arange(channels // 2))[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor, bias: Tensor | None, causal: bool = False) -> tuple[Tensor, Tensor]:
        """Also where the first head looks, [batch, rows of x, rows of source]."""
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in ((self.query, x), (self.key, source), (self.value, source))
        )
        mixed, weights = attend(q, k, v, bias, causal)
        return self.out(mixed.transpose(1, 2).flatten(2)), weights[:, 0]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> tuple[Tensor, Tensor]:
    """Written out: on a CPU in bfloat16 this is three times as fast as torch's fused kernel."""
    with torch.autocast("cpu", enabled=False):
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        if causal:
            ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(ahead, -torch.inf)
        weights = scores.softmax(-1)
        return weights @ v, weights


class Block(nn.Module):
    def __init__(self, shape: Shape, cross: bool) -> None:
        super().__init__()
        width = shape.width
        self.self_norm, self.self_attention = nn.LayerNorm(width), Attention(width, shape.heads)
        if cross:
            self.cross_norm, self.cross_attention = nn.LayerNorm(width), Attention(width, shape.heads)
        self.mlp_norm, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor, bias: Tensor | None, memory: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Also where the first head looks in `memory`."""
        y, looks = self.self_norm(x), None
        x = x + self.self_attention(y, y, None if memory is not None else bias, causal=memory is not None)[0]
        if memory is not None:
            said, looks = self.cross_attention(self.cross_norm(x), memory, bias)
            x = x + said
        return x + self.down(F.gelu(self.up(self.mlp_norm(x)))), looks


class NanoWhisper(nn.Module):
    """`text_tokens` ids are learnt one by one; timestamps share a projection of sinusoids, so all are known."""

    def __init__(self, shape: Shape, text_tokens: int, timestamps: int) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.conv1 = nn.Conv1d(shape.mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.encoder = nn.ModuleList(Block(shape, cross=False) for _ in range(shape.encoder))
        self.encoder_norm = nn.LayerNorm(width)
        self.phones = nn.Linear(width, len(PHONES))
        self.embedding = nn.Embedding(text_tokens, width)
        self.moments = nn.Linear(64, width, bias=False)
        self.text_positions = nn.Parameter(torch.randn(TEXT_POSITIONS, width) * 0.02)
        self.decoder = nn.ModuleList(Block(shape, cross=True) for _ in range(shape.decoder))
        self.decoder_norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.04)
        nn.init.normal_(self.moments.weight, std=0.01)
        self.register_buffer("positions", sinusoids(POSITIONS, width), persistent=False)
        self.register_buffer("clock", sinusoids(timestamps, 64), persistent=False)

    @property
    def tokens(self) -> Tensor:
        return torch.cat([self.embedding.weight, self.moments(self.clock)])

    def hear(self, features: Tensor, at: Tensor | None, bias: Tensor | None) -> Tensor:
        """[batch, mels, frames] → [batch, positions, width]. `at` holds the position of each row that is kept, after
        picks from before and behind; see `train.place`."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(features)))).transpose(1, 2)
        if at is None:
            x = x + self.positions[: x.shape[1]]
        else:
            silence, zeros = x[:, :1], x[:, -1:]
            before, behind = at.shape[0] - x.shape[1] - TAIL, TAIL
            x = torch.cat([silence.expand(-1, before, -1), x, zeros.expand(-1, behind, -1)], dim=1) + self.positions[at]
        for block in self.encoder:
            x, _ = block(x, bias)
        return self.encoder_norm(x)

    def write(self, tokens: Tensor, memory: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Logits, and where the first head of each block looks."""
        table = self.tokens
        x = F.embedding(tokens, table) + self.text_positions[: tokens.shape[1]]
        looks = []
        for block in self.decoder:
            x, where = block(x, bias, memory)
            looks.append(where)
        return self.decoder_norm(x) @ table.T, looks


TAIL = 12
LEAD = 6
