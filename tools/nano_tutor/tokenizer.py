"""Byte-level BPE with every digit a token of its own, learnt from generated questions and answers."""

import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tools.nano_tutor import data

PAD, BOS, END, UNK, USER, BOT = SPECIALS = ("<|pad|>", "<|bos|>", "<|end|>", "<|unk|>", "<|user|>", "<|bot|>")
VOCABULARY = 1536
SAMPLE_ITEMS = 60_000
# Qwen2's own pre-tokenizer: loaders that know the architecture put it in place of whatever the file says.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Keeps the last user message only: nothing else was trained on.
CHAT_TEMPLATE = """\
{%- set ns = namespace(user='', bot='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{%- set ns.user = message['content'] -%}{%- set ns.bot = '' -%}
{%- elif message['role'] == 'assistant' -%}{%- set ns.bot = message['content'] -%}
{%- endif -%}
{%- endfor -%}
{%- if ns.user is not string -%}
{%- set parts = namespace(text='') -%}
{%- for part in ns.user if part['type'] == 'text' -%}{%- set parts.text = parts.text + part['text'] -%}{%- endfor -%}
{%- set ns.user = parts.text -%}
{%- endif -%}
{{- '<|user|>' + ns.user | trim -}}
{%- if add_generation_prompt -%}{{- '<|bot|>' -}}
{%- elif ns.bot -%}{{- '<|bot|>' + ns.bot + '<|end|>' -}}
{%- endif -%}
"""


def prompt(question: str) -> str:
    """The same framing as the chat template with `add_generation_prompt`."""
    return f"{USER}{question.strip()}{BOT}"


def sample_texts(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(count):
        item = data.training_item(rng, data.WEIGHTS)
        yield item.question
        yield item.answer


def train_tokenizer(count: int = SAMPLE_ITEMS, seed: int = 1) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(sample_texts(count, seed), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
