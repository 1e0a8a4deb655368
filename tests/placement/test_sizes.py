"""Parameters, bytes and fractions against what the authors publish and what engines have logged."""

import pytest

from serve_app.policies.architectures import LANGUAGE, OTHERS, Architecture, Fixed, known
from serve_app.policies.cards import CARDS, CONTEXT, GIB, cap, card
from serve_app.policies.placement import AWQ4, FP8, GPTQ4, GPTQ8, HALF, INT8, Language, Other, Scheme

PUBLISHED = {
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen2-vl-7b": 8_291_375_616,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-2-13b": 13_015_864_320,
    "mistral-7b": 7_248_023_552,
    "phi-3-mini": 3_821_079_552,
    "deepseek-math-7b": 6_910_365_696,
    "deepseek-coder-6.7b": 6_740_512_768,
    "deepseek-r1-distill-qwen-1.5b": 1_777_088_000,
    "deepseek-r1": 671_026_419_200,
}


def language(name: str) -> Architecture:
    return LANGUAGE[name]


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_parameters_are_those_that_the_authors_publish(name: str, parameters: int) -> None:
    assert language(name).parameters == parameters


@pytest.mark.parametrize(
    ("name", "kib"),
    [("qwen2.5-7b", 56), ("qwen2.5-14b", 192), ("qwen2.5-32b", 256), ("qwen2.5-72b", 320), ("llama-3.1-8b", 128)],
)
def test_kv_cache_of_a_token(name: str, kib: int) -> None:
    """2 x layers x kv_heads x head_dim x 2 bytes."""
    assert language(name).kv_elements() * 2 == kib * 1024


def test_cards_share_kv_heads_and_copy_those_that_are_too_few() -> None:
    model = language("qwen2.5-7b")  # 4 key/value heads
    assert [model.kv_elements(n) * n // model.kv_elements() for n in (1, 2, 4, 8)] == [1, 1, 1, 2]


def test_latent_attention_keeps_one_vector_per_layer_on_every_card() -> None:
    model = language("deepseek-r1")
    assert model.kv_elements() == model.kv_elements(8) == 61 * (512 + 64)


@pytest.mark.parametrize(
    ("name", "scheme", "logged_gib"),
    [
        ("llama-3.1-8b", HALF, 14.96),  # vLLM: "model weights take 14.96GiB"
        ("qwen2.5-7b", GPTQ4, 5.20),  # vLLM: "Loading model weights took 5.2035 GB", which are GiB
        ("qwen2.5-14b", AWQ4, 9.34),  # the files of the published AWQ checkpoint: 9.3 GiB
    ],
)
def test_weights_are_what_engines_have_logged(name: str, scheme: Scheme, logged_gib: float) -> None:
    assert Language(language(name), scheme).need().weights / GIB == pytest.approx(logged_gib, rel=0.01)


def test_activations_are_what_vllm_has_logged() -> None:
    """Llama-3-8B, passes of 8,192 tokens, 256 sequences: 1.26 GiB beside 0.5 that are reckoned for its workspace."""
    from serve_app.policies import placement

    default = placement.BATCHED_TOKENS
    need = Language(language("llama-3.1-8b"), tokens=default, sequences=256).need()
    per_token = (2 * 14336 + 6 * 4096) * 2
    at_8192 = need.work - placement.WORKSPACE["vllm"] + (8192 - default) * per_token
    assert at_8192 / GIB == pytest.approx(1.26, rel=0.05)


def test_fewer_bits_take_less() -> None:
    weights = [Language(language("qwen2.5-7b"), s).need().weights for s in (HALF, GPTQ8, FP8, INT8, GPTQ4)]
    assert weights == sorted(weights, reverse=True)
    assert weights[1] / weights[0] < 0.6
    assert weights[4] / weights[0] < 0.4


def test_whisper_is_what_its_benchmark_shows() -> None:
    """faster-whisper, large-v2, 5 beams on a GPU: 4,525 MB in 16 bits and 2,926 MB in 8."""
    model = OTHERS["whisper-large-v3"]
    mib = [Other(model, bits=bits).need().total / 2**20 for bits in (16, 8)]
    assert mib == pytest.approx([4525, 2926], rel=0.06)


def test_blocks_of_vllm_are_whole() -> None:
    model = language("qwen2.5-7b")
    assert Language(model, tokens=1000).need().kv == Language(model, tokens=1008).need().kv
    by_ct2 = [Language(model, tokens=n, runtime="ctranslate2").need().kv for n in (1000, 1008)]
    assert by_ct2[0] < by_ct2[1]


def test_ctranslate2_holds_the_scores_of_a_whole_prompt() -> None:
    """heads x tokens^2: four times as much for twice the prompt, which vLLM does not need."""
    model = language("llama-3.1-8b")
    work = [Language(model, tokens=n, runtime="ctranslate2").need().work for n in (8192, 16384)]
    assert work[1] - work[0] > 3 * 32 * 8192**2 * 2
    assert Language(model, tokens=8192).need().work == Language(model, tokens=16384).need().work


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "qwen2.5-7b"),
        ("ai-models/qwen2.5-coder-7b-instruct-ct2-int8", "qwen2.5-coder-7b"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "deepseek-r1-distill-qwen-32b"),
        ("Systran/faster-whisper-large-v3", "whisper-large-v3"),
        ("large-v3", "whisper-large-v3"),
        ("sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"),
    ],
)
def test_models_are_known_by_their_names(written: str, key: str) -> None:
    model = known(written)
    assert model is (LANGUAGE.get(key) or OTHERS.get(key))
    assert isinstance(model, Architecture | Fixed)


def test_an_unknown_model_is_not_guessed() -> None:
    assert known("qwen2.5-7") is None
    assert known("my-own-model") is None


@pytest.mark.parametrize("name", ["RTX 5090", "NVIDIA GeForce RTX 5090", "rtx_5090", "rtx-5090"])
def test_cards_are_known_however_they_are_written(name: str) -> None:
    assert card(name) is CARDS["rtx-5090"]


def test_names_of_drivers() -> None:
    assert card("NVIDIA A100-SXM4-80GB") is CARDS["a100-80"]
    assert card("NVIDIA A100-PCIE-40GB") is CARDS["a100-40"]
    assert card("Tesla T4") is CARDS["t4"]
    assert card("NVIDIA H100 80GB HBM3") is CARDS["h100"]


def test_an_unknown_card_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"no card 'rtx-9999'.*rtx-5090"):
        card("rtx-9999")


def test_a_5090_has_less_than_the_box_says() -> None:
    assert 31 * GIB < CARDS["rtx-5090"].memory < 32 * GIB


@pytest.mark.parametrize("fraction", [0.2, 0.3, 0.4, 0.8, 1.0])
def test_a_cap_and_a_context_stay_within_the_fraction(fraction: float) -> None:
    of = CARDS["rtx-5090"]
    assert cap(fraction, of) * of.memory + CONTEXT <= fraction * of.memory
    assert cap(fraction, of) > fraction - 0.04


def test_fractions_of_a_full_card_leave_room_for_every_context() -> None:
    of = CARDS["rtx-5090"]
    used = [cap(f, of) * of.memory + CONTEXT for f in (0.5, 0.3, 0.2)]
    assert sum(used) <= of.memory


def test_a_fraction_below_a_context_is_refused() -> None:
    with pytest.raises(ValueError, match="CUDA context"):
        cap(0.01, CARDS["rtx-5090"])
