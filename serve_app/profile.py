"""Profiles: Serve config files with our own settings under `applications[0].args`, read strictly.

Serve itself accepts keys that it does not know, so its part of the file is held to the same rule here: an unknown key,
a wrong type or a module that does not exist is refused in one line that names the key and the remedy.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from serve_app.config import EngineEntry, Replicas, Settings, Strict
from serve_app.errors import ConfigError
from serve_app.types import Kind

PROFILES = Path(__file__).parent / "profiles"
FLEET_POLICY = "serve_app.cluster.autoscaling:Fleet"


class Application(Strict):
    name: Literal["megacity"] = "megacity"
    route_prefix: None
    import_path: Literal["serve_app.app:build"] = "serve_app.app:build"
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    deployments: list[dict[str, Any]] = Field(default_factory=list)
    autoscaling_policy: dict[str, Any] | None = None
    external_scaler_enabled: bool = False
    logging_config: dict[str, Any] | None = None
    args: Settings


class ServeFile(Strict):
    """The keys of a Serve config file, as `serve deploy` takes it.

    Serve's own proxies stay off and so do their options: the ingress replicas listen themselves (`args.ingress`).
    """

    proxy_location: Literal["Disabled"]
    controller_options: dict[str, Any] | None = None
    logging_config: dict[str, Any] | None = None
    tracing_config: dict[str, Any] | None = None
    target_capacity: float | None = None
    applications: list[Application] = Field(min_length=1, max_length=1)


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile that was found good. `document` is what Serve is given."""

    path: Path
    document: dict[str, Any]
    serve: ServeFile

    @property
    def settings(self) -> Settings:
        return self.serve.applications[0].args


def load_profile(name_or_path: str, changes: dict[str, Any] | None = None) -> Profile:
    """Read and check a profile by name (`embedded`) or path; `changes` are laid over its `args`.

    Raises `ConfigError` with the first problem in one line.
    """
    path = _find(name_or_path)
    document = _read(path)
    _refuse_proxy_options(document, path.name)
    if changes and isinstance(document.get("applications"), list):
        for application in document["applications"]:
            application["args"] = _merged(application.get("args") or {}, changes)
    serve = _validated(ServeFile, document, path.name)
    _check(serve.applications[0].args, path.name)
    _check_fleet(serve.applications[0], path.name)
    return Profile(path, document, serve)


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise ConfigError(f"{name_or_path}: no such file; give a profile's name or the path of a Serve config file")
    named = PROFILES / f"{name_or_path}.yaml"
    if named.is_file():
        return named
    known = sorted(p.stem for p in PROFILES.glob("*.yaml"))
    raise ConfigError(f"no profile '{name_or_path}'; profiles: {', '.join(known)}{_did_you_mean(name_or_path, known)}")


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that is written twice is an error rather than a silent replacement."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key '{twice}' is written twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path.name}{where}: {error.problem}; mend the YAML") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path.name}: not a mapping; a profile is a Serve config file with `applications:`")
    return document


def _refuse_proxy_options(document: dict[str, Any], where: str) -> None:
    """Serve's own keys for addresses would be taken and have no effect."""
    for key in ("http_options", "grpc_options"):
        if key in document:
            raise ConfigError(
                f"{where}: {key}: the ingress listens itself; set args.ingress.http and args.ingress.grpc"
            )


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = isinstance(value, dict) and isinstance(merged.get(key), dict | None)
        merged[key] = _merged(merged.get(key) or {}, value) if inner else value
    return merged


def _validated(model: type[ServeFile], document: dict[str, Any], where: str) -> ServeFile:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_one_line(error, model, where)) from error


def _check(settings: Settings, where: str) -> None:
    """What only shows across entries: engine classes and their options, models named twice, tables and templates."""
    seen: dict[tuple[str, str], str] = {}
    for name, entry in settings.engines.items():
        key = f"{where}: engines.{name}"
        _check_engine(entry, key)
        for model, described in entry.models.items():
            other = seen.setdefault((model, described.version), name)
            if other != name:
                raise ConfigError(
                    f"{key}.models.{model}: engine '{other}' serves version {described.version} already; "
                    "give one of them another version or name"
                )
    for name, entry in settings.engines.items():
        _check_needs(entry, settings, f"{where}: engines.{name}")
    try:
        settings.router()
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    exposed = settings.ingress.exposed()
    if exposed and settings.access.anonymous:
        raise ConfigError(
            f"{where}: access.anonymous: callers without a key are for loopback only, and {exposed} is not; "
            "set access.anonymous to false and make keys with `megacity keys create`"
        )


def _check_fleet(application: Application, where: str) -> None:
    """Serve calls a policy for a whole application only if the file says so, and the policy needs `args.fleet`."""
    fleet = application.args.fleet
    named = (application.autoscaling_policy or {}).get("policy_function")
    if (fleet is None) != (named != FLEET_POLICY):
        missing = "args.fleet" if fleet is None else f"autoscaling_policy: {{policy_function: {FLEET_POLICY}}}"
        raise ConfigError(f"{where}: the fleet policy needs {missing}, too; give both or none")
    for name in fleet.engines if fleet else ():
        entry = application.args.engines.get(name)
        if entry is None or not isinstance(entry.replicas, Replicas):
            raise ConfigError(
                f"{where}: fleet.engines.{name}: there is no engine of that name with replicas: {{min, max}}"
            )


def _check_engine(entry: EngineEntry, key: str) -> None:
    try:
        cls = entry.engine_class()
    except ValueError as error:
        raise ConfigError(f"{key}.engine: {error}") from error
    try:
        entry.engine_options()
    except ValidationError as error:
        raise ConfigError(_one_line(error, cls.Options, f"{key}.options")) from error


def _check_needs(entry: EngineEntry, settings: Settings, key: str) -> None:
    cls = entry.engine_class()
    unknown = entry.needs.keys() - cls.needs.keys() - cls.may_need.keys()
    if unknown:
        roles = ", ".join([*cls.needs, *cls.may_need]) or "none"
        raise ConfigError(f"{key}.needs.{min(unknown)}: this engine calls no such engine; it calls: {roles}")
    for role, kind in {**cls.needs, **cls.may_need}.items():
        if role in cls.needs or role in entry.needs:
            _check_need(entry.needs.get(role), kind, settings, f"{key}.needs.{role}")


def _check_need(name: str | None, kind: Kind, settings: Settings, key: str) -> None:
    able = [other for other, entry in settings.engines.items() if kind in entry.engine_class().kinds]
    if name not in able:
        raise ConfigError(f"{key}: name an engine that answers '{kind}'; there are: {', '.join(able) or 'none'}")


def _one_line(error: ValidationError, root: type, where: str) -> str:
    """The first problem of a validation, as `file: key: what is wrong; remedy`."""
    first = error.errors(include_url=False, include_input=False)[0]
    *parents, last = first["loc"] or ("",)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    separator = ": " if where.endswith((".yaml", ".yml")) else "."
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = sorted(_fields(root, parents))
        remedy = _did_you_mean(str(last), known) or f"; known keys: {', '.join(known)}"
        return f"{where}{separator}{key}: unknown key{remedy}{more}"
    return f"{where}{separator}{key}: {first['msg'][:1].lower()}{first['msg'][1:]}{more}"


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _fields(root: Any, path: list[int | str]) -> list[str]:
    """The keys that may stand at `path` below the type `root`; empty where there is no such list."""
    for part in path:
        root = _child(root, part)
    return list(_hints(root))


def _child(kind: Any, part: int | str) -> Any:
    hints = _hints(kind)
    if part in hints:
        return _unwrapped(hints[str(part)])
    arguments = typing.get_args(kind)
    return _unwrapped(arguments[-1]) if arguments and part != kind.__name__ else kind


def _hints(kind: Any) -> Mapping[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return typing.get_type_hints(kind)
    return {}


def _unwrapped(kind: Any) -> Any:
    """The one of a union's types that has fields, or the type itself."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return next((a for a in typing.get_args(kind) if _hints(a)), kind)
    return kind
