from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.retrieval.chunks import passages, sentences

TEXT = """# Guide

Intro one. Intro two!

## Prices
| course | price |
|---|---|
| maths | 10 |
| dance | 20 |

## Rules
- be kind
- be on time

```
# no heading
```
### Empty
## Last
x"""


def test_passages_follow_the_headings() -> None:
    assert [(p.context.split("\n")[0], p.text[:9]) for p in passages(TEXT, 200, 40)] == [
        ("Guide", "Intro one"),
        ("Guide > Prices", "| course "),
        ("Guide > Rules", "- be kind"),
        ("", "### Empty"),
        ("Guide > Last", "x"),
    ]


def test_rows_take_their_header_along() -> None:
    rows = "| name | price |\n|---|---|\n" + "".join(f"| item {n} | {n} |\n" for n in range(50))
    cut = passages(rows, 100, 20)
    assert len(cut) > 5
    assert all("| name | price |" in passage.indexed for passage in cut)


def test_neighbours_share_whole_sentences() -> None:
    text = " ".join(f"Sentence number {n} is here." for n in range(60))
    cut = passages(text, 300, 60)
    for one, other in pairwise(cut):
        assert 0 < one.end - other.start <= 60
        assert other.text.startswith("Sentence")
    assert cut[0].start == 0
    assert cut[-1].end == len(text)


def test_korean_sentences() -> None:
    assert sentences("첫째입니다. 둘째인가요? 셋째!\n- 항목") == ["첫째입니다.", "둘째인가요?", "셋째!", "- 항목"]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab가. \n\r#|-`!\t\u2028*1"), max_size=400), st.sampled_from([100, 150]))
def test_every_word_is_in_some_passage(text: str, size: int) -> None:
    cut = passages(text, size, 30)
    covered = [False] * len(text)
    for passage in cut:
        assert text[passage.start : passage.end] == passage.text
        assert 0 < len(passage.text) <= size
        covered[passage.start : passage.end] = [True] * len(passage.text)
    context = "".join(passage.context for passage in cut)
    lost = "".join(char for char, there in zip(text, covered, strict=True) if not there)
    assert set("ab가1") & set(lost) <= set(context)  # what is above a passage is with it


@pytest.mark.parametrize("text", ["", " \n\n", "\ufeff"])
def test_nothing_gives_nothing(text: str) -> None:
    assert passages(text, 100, 10) == [] or text.strip()
