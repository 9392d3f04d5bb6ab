"""Settings of a daemon: a TOML file, overridden by the environment, checked strictly and reported all at once.

A daemon declares a subclass of `DaemonSettings` made of `Section`s. `load_settings` reads the file, lays the
`TRUNKLINE_<DAEMON>__SECTION__KEY` variables over it, and validates the whole. Unknown keys are errors, in the file and
in the environment. What is wrong comes out as one `SettingsError` that lists every problem with the place to mend it.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from trunkline.runtime.logs import LogFormat, LogLevel
from trunkline.runtime.loop import EventLoopName
from trunkline.runtime.settings_problems import explain

DELIMITER = "__"
_NOT_IN_BASE_URLS = re.compile(r"[?#@\s\x00-\x1f\x7f]")

T = TypeVar("T", bound="Settings")


class SettingsError(Exception):
    """The settings cannot be used; `problems` says what to mend, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    gone: ClassVar[Mapping[str, str]] = {}
    """Settings of earlier releases, which files may still have: what to do about each."""

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> None:
        """Check what keys mean to each other, by what was given, whether or not each value is right by itself.

        Raises:
            ValueError: they contradict each other, or one needs another.
        """

    @model_validator(mode="wrap")
    @classmethod
    def _with_cross_check(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Report what is wrong between keys together with what is wrong with one of them."""
        problems: list[InitErrorDetails] = []
        section = None
        try:
            section = validate(given)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            problems = [_problem(each["type"], each["msg"], each["loc"]) for each in found]
        try:
            if isinstance(given, Mapping):
                cls.cross_check({key: value for key, value in given.items() if value is not None})
        except ValueError as error:
            problems.append(_problem("value_error", str(error), ()))
        if section is None or problems:
            raise ValidationError.from_exception_data(cls.__name__, problems, hide_input=True)
        return section


def _problem(kind: str, message: str, location: tuple[int | str, ...]) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, "{text}", {"text": message}), loc=location, input=None)


class Settings(BaseSettings):
    """The whole of a settings file."""

    model_config = SettingsConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what `load_settings` hands over: nothing is read behind its back."""
        return (init_settings,)


def _readable_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"not readable by this user: {path}")
    return path


def _base_url(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            well_formed = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:  # brackets, or a port that is none
            well_formed = False
        # An empty query, fragment or user is not seen in the parts, and whitespace is taken out of them.
        if not well_formed or _NOT_IN_BASE_URLS.search(value):
            raise ValueError(f"must be {' or '.join(schemes)}://host[:port]")
        return value.rstrip("/")

    return AfterValidator(check)


def _loopback(address: str) -> str:
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError("must be a loopback address, 127.0.0.1 or ::1, since this endpoint asks nobody who they are")
    return address


# Paths are given as text, so strictness ends at them.
AnyPath = Annotated[Path, Field(strict=False)]
ReadableFile = Annotated[Path, Field(strict=False), AfterValidator(_readable_file)]
Port = Annotated[int, Field(ge=0, le=65535)]
# The slash at the end is dropped, so that paths can be put behind.
HttpsUrl = Annotated[str, Field(max_length=2048), _base_url("https")]
HttpUrl = Annotated[str, Field(max_length=2048), _base_url("http", "https")]


class LogSettings(Section):
    """`[log]`: how much is logged, and in which form."""

    level: LogLevel = "info"
    format: LogFormat = "auto"


class AdminSettings(Section):
    """`[admin]`: where /healthz, /readyz and /metrics are served; port 0 lets the system pick one."""

    address: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    port: Port


class DaemonSettings(Settings):
    """What every daemon is told."""

    state_directory: AnyPath
    event_loop: EventLoopName = "auto"
    log: LogSettings = LogSettings()


def load_settings(settings_class: type[T], config_path: Path | None, environ: Mapping[str, str], *, prefix: str) -> T:
    """Read, merge and check the settings of a daemon.

    Args:
        settings_class: what to make.
        config_path: the TOML file; `None` when the environment says everything.
        environ: the environment, usually `os.environ`.
        prefix: how the daemon's variables begin, e.g. `TRUNKLINE_RELAY`.

    Raises:
        SettingsError: all that is wrong, at once.
    """
    prefix += DELIMITER
    overrides = {name: value for name, value in environ.items() if name.startswith(prefix)}
    problems = list(_unknown_variables(settings_class, overrides, prefix))
    table = _read_table(config_path, problems)
    if table is None:
        raise SettingsError(problems)
    layered = _Environment(settings_class, overrides, prefix)()
    try:
        settings = settings_class(**_overlay(table, layered))
    except ValidationError as error:
        file_name = config_path.name if config_path is not None else None
        problems += explain(error, settings_class, file_name=file_name, prefix=prefix, variables=frozenset(overrides))
    if problems:
        raise SettingsError(problems)
    return settings


class _Environment(EnvSettingsSource):
    """Reads nested settings from the variables handed in, and leaves what does not parse to the validation."""

    def __init__(self, settings_class: type[BaseSettings], variables: Mapping[str, str], prefix: str) -> None:
        self._variables = variables
        super().__init__(settings_class, env_prefix=prefix.lower(), env_nested_delimiter=DELIMITER)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._variables.items()}

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        """Parse a list or table that is given as JSON."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _read_table(path: Path | None, problems: list[str]) -> dict[str, Any] | None:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append(f"{path}: no such file")
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"{path}: not UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: not valid TOML: {error}")
    return None


def _unknown_variables(settings_class: type[Settings], overrides: Mapping[str, str], prefix: str) -> Iterator[str]:
    """Name the variables whose first part is no setting; what is wrong deeper shows in the validation."""
    known = sorted(settings_class.model_fields)
    for name in sorted(overrides):
        first = name.removeprefix(prefix).split(DELIMITER)[0].lower()
        if first not in known:
            yield f"{name}: matches no setting; the first part must be one of {', '.join(known).upper()}"


def _overlay(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
