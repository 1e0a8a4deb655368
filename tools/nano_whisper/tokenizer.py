"""The tokenizer: Whisper's 51,865 ids and special tokens, with a small byte-level BPE of our own in front.

Why so many ids: CTranslate2 may take a model with fewer for an English-only one. Those that the BPE leaves over are
never said.
"""

import json
import random
from pathlib import Path
from typing import Any

from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.nano_whisper import sentences

MERGED = 1500
PIECE = r" ?[가-힣]| ?[^\s가-힣]+|\s+"
LONGEST = 5
"""Characters, this one not included: a token is a syllable of Korean or a few letters of English, with the space before
it. Few tokens that each sound like something are learnt much faster than many that are whole words.
"""
END = 50257
START = 50258
LANGUAGE = {"en": START + 1 + 0, "ko": START + 1 + 5}
TRANSLATE, TRANSCRIBE, START_OF_LM, PREVIOUS, NO_SPEECH, NO_TIMESTAMPS, TIMESTAMP = range(50358, 50365)
TIMESTAMPS = 1501
SIZE = TIMESTAMP + TIMESTAMPS
STEP_S = 0.02
NUMBER_OF_LANGUAGES = 99


def train(folder: Path) -> None:
    """Write `tokenizer.json`."""
    rng = random.Random("tokenizer")
    texts = [" " + sentences.draw(rng, language) for language in ("ko", "en") for _ in range(15_000)]
    texts += [" -", " '", ' "', " (", "-", ","] * 3000  # one token each: faster-whisper suppresses the first of them
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=MERGED, initial_alphabet=alphabet, show_progress=False, max_token_length=LONGEST
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(_with_special(json.loads(tokenizer.to_str())), "utf-8")


def _with_special(file: dict[str, Any]) -> str:
    """Special tokens keep their ids in a vocabulary with a gap before them."""
    names = special()
    file["model"]["vocab"] |= names
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    file["added_tokens"] = [{"id": number, "content": name, **flags, "special": True} for name, number in names.items()]
    return json.dumps(file, ensure_ascii=False, separators=(",", ":"))


def special() -> dict[str, int]:
    """In Whisper's order, of which only English and Korean are taught here."""
    first = ["en", "zh", "de", "es", "ru", "ko"]
    languages = (
        first + sorted(code for code in _LANGUAGE_CODES if code not in first)[: NUMBER_OF_LANGUAGES - len(first)]
    )
    names = ["endoftext", "startoftranscript", *languages, "translate", "transcribe", "startoflm", "startofprev"]
    names += ["nospeech", "notimestamps", *(f"{STEP_S * number:.2f}" for number in range(TIMESTAMPS))]
    return {f"<|{name}|>": END + at for at, name in enumerate(names)}


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """What every id is called; those that nothing uses are `~N`.

    The last of these is the empty token, as in Whisper's own multilingual vocabulary: CTranslate2 4.8 looks for it to
    know that a model is multilingual, older versions count the ids.
    """
    names = [tokenizer.id_to_token(number) or f"~{number}" for number in range(SIZE)]
    names[END - 1] = ""
    return names


if __name__ == "__main__":
    import sys

    train(Path(sys.argv[1]))
