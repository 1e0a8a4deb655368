"""Writes what was measured into the model's card.

python -m tools.nano_whisper.card models/nano-whisper
"""

import json
import re
import sys
from pathlib import Path

ROWS = (
    ("evaluation", "wer", "word error rate", "{:.1%}"),
    ("evaluation", "cer", "character error rate, without spaces", "{:.1%}"),
    ("evaluation", "loose_wer", "word error rate of words in no order", "{:.1%}"),
    ("evaluation", "language_detected", "language detected", "{:.1%}"),
    ("evaluation", "word_start_mean_error_s", "beginning of words, mean error", "{:.3f} s"),
    ("evaluation", "sentences", "sentences", "{}"),
    ("evaluation", "loose_sentences", "rows of words in no order", "{}"),
    ("mistakes", "right_mean", "right readings, mean score", "{:.1f}"),
    ("mistakes", "right_at_least_95", "right readings that score at least 95", "{:.1%}"),
    ("mistakes", "mean_by_errors", "mean score with 0, 1, 2, 3, 4 errors", "{}"),
    ("mistakes", "spearman", "rank correlation of score and errors", "{:.3f}"),
    ("mistakes", "found_at_the_word", "errors found at their word", "{:.1%}"),
    ("mistakes", "right_words_blamed", "right words marked wrong", "{:.1%}"),
    ("mistakes", "readings", "readings", "{}"),
)


def table(folder: Path) -> str:
    found = {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("evaluation", "mistakes")}
    lines = ["| | Korean | English |", "|---|--:|--:|"]
    for source, key, label, form in ROWS:
        cells = [form.format(_plain(found[source][language][key])) for language in ("ko", "en")]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _plain(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def main() -> None:
    folder = Path(sys.argv[1])
    card = folder / "README.md"
    text = card.read_text("utf-8")
    marks = r"(<!-- numbers: begin -->\n).*?(<!-- numbers: end -->)"
    card.write_text(re.sub(marks, lambda m: f"{m[1]}{table(folder)}\n{m[2]}", text, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
