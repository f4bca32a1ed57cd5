"""Settings, from the environment, checked at start. README lists them for operators."""

from enum import StrEnum
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class SettingsInvalid(Exception):
    """The environment holds what the program cannot start with; the message names each variable."""


class LogFormat(StrEnum):
    """AUTO: for people at a terminal, JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class Settings(BaseSettings):
    """What an operator decides. A variable of the environment bears the field's name in capitals."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True)

    database_url: str = Field(
        description="PostgreSQL 15 or newer: postgresql://user:password@host:port/database. "
        "Its user migrates, so it must be allowed to act as the four roles."
    )
    app_database_url: str | None = Field(
        None,
        description="The same database as role escarcelle_app (API and workers); "
        "by default DATABASE_URL's user takes that role.",
    )
    relay_database_url: str | None = Field(None, description="The same as role escarcelle_relay.")
    reader_database_url: str | None = Field(None, description="The same as role escarcelle_reader.")
    redis_url: str = Field(description="Redis or Valkey 6.2 or newer: redis://[:password@]host:port/number")
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        description="Comma-separated keys of at least 32 characters, the newest first; the others are still read. "
        "The oldest also makes the key for web push: without it, devices have to register again."
    )
    smtp_url: str = Field(
        description="smtp://[user:password@]host:port, smtps:// for TLS from the start, smtp+starttls:// for STARTTLS"
    )
    mail_from: str = Field("Escarcelle <ne-pas-repondre@escarcelle.invalid>", description="The sender of every mail.")
    mail_page_url: str | None = Field(None, description="Where a local mail catcher shows the mails; `dev` sets it.")
    public_url: str = Field(
        "http://127.0.0.1:8000", description="Where people reach this server; QR codes and mails lead there."
    )
    deed_connections: int = Field(
        16, ge=1, le=200, description="Database connections for mutations, in each API process."
    )
    question_connections: int = Field(
        16, ge=1, le=200, description="Database connections for queries, in each API process."
    )
    share_commits: bool = Field(
        True, description="Whether deeds of an issuer that come at the same time share a transaction."
    )
    worker_threads: int = Field(8, ge=1, le=64, description="Messages that one task process handles at once.")
    sign_in_tries_per_minute: int = Field(60, ge=1, description="Sign-ins tried from one address.")
    session_hours: int = Field(12, ge=1, le=24 * 90, description="How long a sign-in lasts.")
    trusted_proxies: str = Field(
        "127.0.0.1", description="Addresses whose X-Forwarded-For is believed, comma-separated."
    )
    log_format: LogFormat = Field(
        LogFormat.AUTO, description="json: a JSON object a line; text: for people; auto: text at a terminal."
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Where Prometheus reads this process's metrics; with several API processes, the first one's, "
        "and each next one has the port after it. By default nowhere.",
    )
    metrics_host: str = Field("127.0.0.1", description="The address that METRICS_PORT is opened on.")

    reporting_folder: Path | None = Field(
        None, description="Where the nightly copy keeps its stores for analysts; by default there are none."
    )
    reporting_hour: int = Field(
        2,
        ge=0,
        le=23,
        description="From which hour on, in Paris, workers copy, where there is a folder.",
    )

    @field_validator("secret_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return tuple(key.strip() for key in value.split(",") if key.strip()) if isinstance(value, str) else value

    @field_validator("secret_keys")
    @classmethod
    def _long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not keys or any(len(key.get_secret_value()) < 32 for key in keys):
            raise ValueError("at least one key, each of at least 32 characters")
        if any(_can_be_guessed(key.get_secret_value()) for key in keys):
            raise ValueError("a key can be guessed: make each by chance, for example with `openssl rand -base64 48`")
        return keys

    @field_validator("database_url", "app_database_url", "relay_database_url", "reader_database_url")
    @classmethod
    def _is_postgresql(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        parts = urlsplit(value)
        protected = bool(parts.password) or any(parse_qs(parts.query).get("password", ()))
        if parts.scheme != "unix" and not protected and not _is_this_machine(parts.hostname or "localhost"):
            raise ValueError("must have a password, since it is on another machine: redis://:password@host:port/number")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _is_smtp(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("smtp", "smtps", "smtp+starttls") or not parts.hostname:
            raise ValueError("must be smtp://, smtps:// or smtp+starttls:// with a host")
        if parts.scheme == "smtp" and parts.username and not _is_this_machine(parts.hostname):
            raise ValueError("would send its password over the network in the clear: use smtps:// or smtp+starttls://")
        return value

    @field_validator("public_url")
    @classmethod
    def _is_web_address(cls, value: str, info: ValidationInfo) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be http:// or https:// with a host, and nothing behind the path")
        # With a mail catcher nobody real is reached: people try the demo from a telephone on their own network.
        rehearsal = info.data.get("mail_page_url") is not None
        if parts.scheme == "http" and not rehearsal and not _is_this_machine(parts.hostname):
            raise ValueError("must be https://: passwords and sessions would travel in the clear")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _names_them(cls, value: str) -> str:
        if "*" in value:
            raise ValueError("must name the proxies: whoever is believed can sign in from any address it likes")
        return value

    @property
    def keys(self) -> tuple[str, ...]:
        """The secret keys, open: the first signs, all are read."""
        return tuple(key.get_secret_value() for key in self.secret_keys)

    @cached_property
    def public_host(self) -> str:
        """The host name that message identifiers carry."""
        return urlsplit(self.public_url).hostname or "localhost"


def from_environment(**overrides: object) -> Settings:
    """Read the environment. Raises SettingsInvalid with one line for each variable that is missing or wrong."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in e['loc'][:1]).upper()}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise SettingsInvalid("\n".join(lines)) from None


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _can_be_guessed(key: str) -> bool:
    """Few different characters, one piece over and over, or a word that examples are made of: no key that was made by
    chance is like that."""
    repeats = key in (key + key)[1:-1]
    return len(set(key)) < _FEWEST_CHARACTERS or repeats or any(word in key.lower() for word in _EXAMPLE_WORDS)


_FEWEST_CHARACTERS: Final = 8
_EXAMPLE_WORDS: Final = ("changeme", "change-me", "change_me", "example", "password", "secret", "0123456789")
