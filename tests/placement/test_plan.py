"""The plan's own allocation comes out, its mistakes are refused, and every remedy does what it says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.policies.architectures import LANGUAGE, OTHERS
from serve_app.policies.cards import CARDS
from serve_app.policies.placement import (
    AWQ4,
    GPTQ4,
    HALF,
    Claim,
    Language,
    Other,
    Pool,
    cards_by_size,
    check,
    grouped,
    indivisible,
    plan,
)

RTX = CARDS["rtx-5090"]
ONE, TWO, FOUR = Pool(RTX), Pool(RTX, 2), Pool(RTX, 4)


def llm(name: str = "qwen2.5-7b", fraction: float = 0.8, **changes: object) -> Claim:
    load = Language(LANGUAGE[name], tokens=8192, sequences=16)
    return Claim("llm", replace(load, **changes), fraction)  # type: ignore[arg-type]


def other(name: str, model: str, fraction: float, slots: int = 1) -> Claim:
    return Claim(name, Other(OTHERS[model], slots), fraction)


def test_the_allocation_of_the_plan() -> None:
    """LLM 0.8 of one GPU; speech 0.4 and motion 0.3 of the other; pictures in what is left of both."""
    claims = [
        other("pictures", "stable-diffusion-xl", 0.3),
        other("sketches", "stable-diffusion-v1-5", 0.2),
        other("motion", "mediapipe-pose", 0.3),
        other("speech", "whisper-large-v3", 0.4, slots=8),
        llm(),
    ]
    made = plan(claims, {"onprem": TWO})
    assert made.problems == ()
    assert {seat.engine: seat.cards for seat in made.seats} == {
        "llm": (0,),
        "sketches": (0,),
        "speech": (1,),
        "motion": (1,),
        "pictures": (1,),
    }


def test_70b_in_4_bits_does_not_fit_a_5090() -> None:
    found = check(llm("llama-3.1-70b", 1.0, weights=AWQ4, sequences=4), "onprem", ONE)
    assert found.need.weights > RTX.memory
    assert found.problem is not None
    assert "a node with 2 x RTX 5090 would hold it" in found.problem
    assert "one A100-80 would hold it" in found.remedies


def test_70b_in_4_bits_fits_two_of_them() -> None:
    two = llm("llama-3.1-70b", 2.0, weights=AWQ4, sequences=4, cards=2)
    assert check(two, "onprem", TWO).problem is None


def test_70b_in_16_bits_needs_more_than_four() -> None:
    four = check(llm("llama-3.1-70b", 4.0, sequences=4, cards=4), "onprem", FOUR)
    assert four.problem is not None
    assert "quantize" in four.remedies[0] or "8" in four.remedies[0]


def test_three_cards_for_40_heads_are_refused() -> None:
    found = check(llm("llama-2-13b", 3.0, cards=3, sequences=1, tokens=4096), "onprem", FOUR)
    assert found.problem == "llm on onprem: tensor_parallel 3: 40 heads do not divide by 3; use 1 or 2 or 4 or 8"


@pytest.mark.parametrize(
    ("name", "cards"),
    [("qwen2.5-7b", 1), ("qwen2.5-14b", 1), ("qwen2.5-32b", 2), ("qwen2.5-72b", 4), ("llama-3.1-70b", 4)],
)
def test_cards_follow_the_size(name: str, cards: int) -> None:
    assert cards_by_size(LANGUAGE[name].parameters) == cards
    assert indivisible(LANGUAGE[name], cards) is None


def test_groups_of_a_quantized_model_stay_whole() -> None:
    """29,568 inputs in groups of 128 are 231 groups, which no two cards can share."""
    model = LANGUAGE["qwen2.5-72b"]
    assert "groups of 128" in str(indivisible(model, 2, GPTQ4))
    assert indivisible(model, 2, grouped("gptq", 4, 64)) is None
    assert indivisible(model, 2, HALF) is None


@pytest.mark.parametrize(
    ("claim", "pool", "said"),
    [
        (llm(fraction=1.0, cards=2), TWO, "takes whole cards"),
        (llm(fraction=3.0, cards=2), FOUR, "make them the same whole number"),
        (llm(fraction=4.0, cards=4), TWO, "on nodes with 2 x RTX 5090"),
    ],
)
def test_cards_and_tensor_parallelism_must_agree(claim: Claim, pool: Pool, said: str) -> None:
    assert said in str(check(claim, "onprem", pool).problem)


def test_the_problem_says_by_how_much_and_what_to_do() -> None:
    found = check(llm(fraction=0.5), "onprem", ONE)
    assert found.problem == (
        "llm on onprem: 22.4 GiB do not fit 0.5 of one RTX 5090, 15.7 GiB (weights 14.2, KV cache 7.0, work 0.8, "
        "CUDA context 0.5 GiB): 6.8 too much; set resources.gpu to 0.75"
    )


def test_fp8_kv_cache_is_offered_where_the_card_can_read_it() -> None:
    claim = llm(fraction=1.0, sequences=36)
    assert check(claim, "onprem", ONE).remedies[0] == "set kv_cache_dtype to fp8"
    old = check(replace(claim, load=replace(claim.load, sequences=60)), "spot", Pool(CARDS["a100-40"]))
    assert old.problem is not None
    assert not any("fp8" in remedy for remedy in old.remedies)


def test_a_remedy_fits_and_one_step_less_does_not() -> None:
    claim = llm(fraction=1.0, sequences=40, kv_bits=8, tokens=16384)
    remedies = check(claim, "onprem", ONE).remedies
    count = next(int(r.removeprefix("set max_num_seqs to ")) for r in remedies if r.startswith("set max_num_seqs"))
    tokens = next(int(r.removeprefix("set max_model_len to ")) for r in remedies if r.startswith("set max_model_len"))

    def fits(**changes: int) -> bool:
        load = replace(claim.load, **changes)  # type: ignore[arg-type]
        return check(replace(claim, load=load), "onprem", ONE).problem is None

    assert fits(sequences=count)
    assert not fits(sequences=count + 1)
    assert fits(tokens=tokens)
    assert not fits(tokens=tokens + 256)


def test_ctranslate2_is_told_its_own_options() -> None:
    claim = llm(fraction=0.4, runtime="ctranslate2", weights=AWQ4, tokens=16384)
    found = check(claim, "onprem", ONE)
    assert any(r.startswith("set context_tokens to") for r in found.remedies)
    assert not any("tensor_parallel" in r or "max_" in r or "fp8" in r for r in found.remedies)


def test_what_is_always_on_and_finds_no_card_is_a_problem() -> None:
    made = plan([llm(), replace(llm(), engine="second"), replace(llm(), engine="third")], {"onprem": TWO})
    assert len(made.problems) == 1
    assert "third: no card of onprem (2 x RTX 5090) has 0.8 free" in made.problems[0]


def test_what_starts_on_demand_waits_or_is_rented() -> None:
    pools = {"onprem": ONE, "spot": Pool(CARDS["a100-80"], nodes=None)}
    on_demand = replace(llm(), engine="coder", always=0)
    assert plan([llm(), on_demand], pools).waiting == ("coder",)
    rented = plan([llm(), replace(on_demand, classes=("onprem", "spot"))], pools)
    assert (rented.waiting, rented.problems) == ((), ())
    assert [(seat.engine, seat.node_class, seat.always) for seat in rented.seats] == [
        ("llm", "onprem", True),
        ("coder", "spot", False),
    ]


def test_an_engine_must_fit_every_class_it_may_run_on() -> None:
    pools = {"onprem": ONE, "spot": Pool(CARDS["l4"], nodes=None)}
    made = plan([replace(llm(), classes=("onprem", "spot"))], pools)
    assert [c.problem is None for c in made.checks] == [True, False]


def test_tensor_parallelism_stays_within_a_node() -> None:
    claim = llm("qwen2.5-32b", 2.0, weights=AWQ4, cards=2)
    split = plan([llm(), claim], {"onprem": Pool(RTX, per_node=2, nodes=2)})
    assert [seat.cards for seat in split.seats if seat.engine == "llm"] == [(0, 1), (2,)]


def test_what_is_unknown_is_said_and_not_guessed() -> None:
    made = plan([Claim("mystery", None, 0.5), replace(llm(), classes=("moon",))], {"onprem": ONE})
    assert made.unknown == ("mystery", "llm")
    assert made.checks == ()


@given(st.lists(st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.8, 1.0]), max_size=12), st.integers(1, 4))
def test_no_card_is_ever_overbooked(fractions: list[float], cards: int) -> None:
    claims = [other(f"e{i}", "all-minilm-l6-v2", fraction) for i, fraction in enumerate(fractions)]
    made = plan(claims, {"onprem": Pool(RTX, cards)})
    used = dict.fromkeys(range(cards), 0.0)
    for seat in made.seats:
        used[seat.cards[0]] += seat.fraction
    assert max(used.values()) <= 1 + 1e-9
    assert len(made.seats) + len(made.homeless) == len(claims)
