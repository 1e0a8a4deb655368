from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

MARKERS = ["<|end|>", "<|user|>", "<|bot|>", "<|system|>"]
LINES = ["The answer is 12 because 3 × 4 = 12.", "안녕하세요, 오늘은 날씨가 참 좋습니다.", "정답은 12입니다. 🙂"]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Byte-level like the language models' own, and so small that most Korean characters take several tokens.

    Two of its turn markers are not flagged as special, and it folds full-width letters: both are found in the wild.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(marker, normalized=False) for marker in MARKERS[:1]])
    tokenizer.add_special_tokens([AddedToken(marker, normalized=True) for marker in MARKERS[1:2]])
    tokenizer.add_tokens(MARKERS[2:])
    return tokenizer


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
