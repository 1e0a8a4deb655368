"""Profiles are read strictly, and what is wrong is said in one line with its key and a remedy."""

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app import config, profile
from serve_app.cli import main
from serve_app.errors import ConfigError
from serve_app.profile import PROFILES, load_profile

SHIPPED = sorted(path.stem for path in PROFILES.glob("*.yaml"))
Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_are_good(name: str) -> None:
    assert load_profile(name).settings.engines


def test_all_three_are_shipped() -> None:
    assert SHIPPED == ["cluster", "embedded", "workstation"]


def _args(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["applications"][0]["args"]
    return found


def _tutor(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _args(document)["engines"]["tutor"]
    return found


def set_(where: Callable[[dict[str, Any]], dict[str, Any]], key: str, value: Any) -> Change:
    return lambda document: where(document).__setitem__(key, value)


def _top(document: dict[str, Any]) -> dict[str, Any]:
    return document


def _application(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["applications"][0]
    return found


MISTAKES: list[tuple[str, Change, list[str]]] = [
    ("typo in an engine", set_(_tutor, "slotz", 4), ["engines.tutor.slotz", "did you mean 'slots'?"]),
    ("typo in options", set_(lambda d: _tutor(d)["options"], "pathh", "x"), ["tutor.options.pathh", "'path'"]),
    ("a need too many", set_(_tutor, "needs", {"ears": "tutor"}), ["tutor.needs.ears", "it calls: none"]),
    ("typo in our part", set_(_args, "enginez", {}), ["args.enginez", "did you mean 'engines'?"]),
    ("typo in routing", set_(lambda d: _args(d)["routing"], "tsaks", {}), ["routing.tsaks", "did you mean 'tasks'?"]),
    ("typo in a zone", set_(lambda d: _args(d)["routing"]["zones"]["UnivPrepAI"], "modle", "x"), ["modle", "'model'"]),
    (
        "typo in Serve's part",
        set_(_top, "proxy_locaton", "Disabled"),
        ["proxy_locaton", "did you mean 'proxy_location'?"],
    ),
    ("typo in the application", set_(_application, "runtime_envv", {}), ["runtime_envv", "'runtime_env'"]),
    ("Serve's own address", set_(_top, "http_options", {"port": 1}), ["http_options", "args.ingress"]),
    ("a proxy of Serve's", set_(_top, "proxy_location", "EveryNode"), ["proxy_location", "'Disabled'"]),
    ("wrong type", set_(_tutor, "slots", "many"), ["engines.tutor.slots", "integer"]),
    ("zero slots", set_(_tutor, "slots", 0), ["engines.tutor.slots", "greater than 0"]),
    ("port out of range", set_(_args, "ingress", {"http": {"port": 70000}}), ["ingress.http.port", "65535"]),
    ("open to the world", set_(_args, "ingress", {"http": {"host": "0.0.0.0"}}), ["access.anonymous", "0.0.0.0"]),
    ("no such module", set_(_tutor, "engine", "deployments.lllm:X"), ["engines.tutor.engine", "deployments.lllm"]),
    ("no such class", set_(_tutor, "engine", "deployments.llm:Nope"), ["tutor.engine", "it has: CTranslate2"]),
    ("no class at all", set_(_tutor, "engine", "deployments.llm"), ["tutor.engine", "module:Class"]),
    (
        "wrong import path",
        set_(_application, "import_path", "serve_app.ap:build"),
        ["import_path", "serve_app.app:build"],
    ),
    ("unknown default model", set_(lambda d: _args(d)["routing"], "default", "nono"), ["routing", "nono"]),
    ("unknown rule", set_(lambda d: _args(d)["routing"], "order", ["modell"]), ["routing.order", "'model'"]),
    (
        "long template",
        set_(lambda d: _args(d), "templates", {"tasks": {"t": {"en": "word " * 300}}}),
        ["t.en", "budget"],
    ),
    ("no engines", set_(_application, "args", {}), ["engines", "required"]),
    ("a list", set_(_application, "args", []), ["args"]),
]


@pytest.mark.parametrize(("change", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_line_with_key_and_remedy(tmp_path: Path, change: Change, words: list[str]) -> None:
    document = copy.deepcopy(load_profile("embedded").document)
    change(document)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True))
    with pytest.raises(ConfigError) as error:
        load_profile(str(path))
    message = str(error.value)
    assert message.startswith("mine.yaml")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_two_engines_with_one_model_name(tmp_path: Path) -> None:
    document = copy.deepcopy(load_profile("embedded").document)
    _args(document)["engines"]["second"] = copy.deepcopy(_tutor(document))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True))
    with pytest.raises(ConfigError, match=r"nano-tutor: engine '(tutor|second)' serves version 1 already"):
        load_profile(str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "mend the YAML"),
        ("a: 1\na: 2", "written twice"),
        ("- 1", "not a mapping"),
        ("", "not a mapping"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_profile(str(path))


def test_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"cluster, embedded, workstation; did you mean 'embedded'\?"):
        load_profile("embeded")
    with pytest.raises(ConfigError, match="no such file"):
        load_profile("nowhere.yaml")


def test_our_list_of_serves_keys_is_serves() -> None:
    """So that an upgrade of Ray that adds or removes a key does not go unnoticed."""
    from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

    ours = set(profile.ServeFile.model_fields) | {"http_options", "grpc_options"}
    assert ours == set(ServeDeploySchema.model_fields)
    assert set(profile.Application.model_fields) | {"host", "port"} == set(ServeApplicationSchema.model_fields)


def test_command_line_changes_are_laid_over() -> None:
    ingress = load_profile("embedded", {"ingress": {"http": {"port": 8123}}}).settings.ingress
    assert (ingress.http.port, ingress.grpc.port) == (8123, 9000)


def test_cli_says_one_line_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "embeded"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", SHIPPED)
def test_check_prints_engines(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name]) == 0
    assert "nano-tutor" in capsys.readouterr().out or name == "cluster"


def test_help_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, contextlib\n"
        "from serve_app.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'ray', 'pydantic', 'fastapi', 'ctranslate2', 'numpy', 'httpx', 'grpc'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_config_imports_no_ray() -> None:
    assert not any("import ray" in inspect.getsource(module) for module in (config, profile))
