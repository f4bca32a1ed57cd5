"""What the program refuses to start with, and what it takes."""

import secrets

import pytest

from domain.settings import Settings, SettingsInvalid, from_environment

_SOUND = {
    "database_url": "postgresql://escarcelle_app:word@127.0.0.1/escarcelle",
    "redis_url": "redis://127.0.0.1:6379/0",
    "secret_keys": secrets.token_urlsafe(32),
    "smtp_url": "smtp://127.0.0.1:25",
    "public_url": "https://pay.agence.fr",
}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_every_missing_variable_is_named() -> None:
    with pytest.raises(SettingsInvalid) as refused:
        from_environment()
    said = str(refused.value).splitlines()
    assert sorted(line.split(":")[0] for line in said) == ["DATABASE_URL", "REDIS_URL", "SECRET_KEYS", "SMTP_URL"]


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _SOUND.items():
        monkeypatch.setenv(name.upper(), value)
    settings = from_environment()
    assert settings.public_url == "https://pay.agence.fr"
    assert [key.get_secret_value() for key in settings.secret_keys] == [_SOUND["secret_keys"]]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("database_url", "mysql://127.0.0.1/escarcelle", "must start with postgresql://"),
        ("redis_url", "memcached://127.0.0.1", "must start with redis://"),
        ("redis_url", "redis://redis.agence.fr:6379/0", "must have a password"),
        ("redis_url", "redis://default@10.0.0.5:6379/0", "must have a password"),
        ("redis_url", "rediss://10.0.0.5:6379/0?password=", "must have a password"),
        ("secret_keys", "", "at least one key"),
        ("secret_keys", "Zq3v8Lk2Xw9", "at least one key, each of at least 32"),
        ("secret_keys", "x" * 64, "can be guessed"),
        ("secret_keys", "abcdefghijkl" * 4, "can be guessed"),
        ("secret_keys", "change-me-change-me-before-production-please", "can be guessed"),
        ("secret_keys", "0123456789abcdef0123456789abcdefX", "can be guessed"),
        ("secret_keys", "correct-horse-battery-Secret-staple-and-more", "can be guessed"),
        ("smtp_url", "http://mail.agence.fr", "must be smtp://"),
        ("smtp_url", "smtp://escarcelle:word@mail.agence.fr:587", "in the clear"),
        ("public_url", "ftp://pay.agence.fr", "must be http:// or https://"),
        ("public_url", "https://pay.agence.fr/?next=1", "nothing behind the path"),
        ("public_url", "http://pay.agence.fr", "must be https://"),
        ("public_url", "http://192.168.1.20:8000", "must be https://"),
        ("public_url", "http://localhost.agence.fr", "must be https://"),
        ("trusted_proxies", "*", "must name the proxies"),
        ("trusted_proxies", "10.0.0.1, *", "must name the proxies"),
        ("session_hours", "0", "greater than or equal to 1"),
    ],
)
def test_what_is_unsafe_or_wrong_is_refused(variable: str, value: str, says: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        from_environment(**_SOUND | {variable: value})
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{variable.upper()}: ")
    assert says in line
    assert not value or variable != "secret_keys" or value not in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("redis_url", "redis://"),
        ("redis_url", "redis://localhost:6379/0"),
        ("redis_url", "redis://[::1]:6379/0"),
        ("redis_url", "redis://:word@redis.agence.fr:6379/0"),
        ("redis_url", "rediss://10.0.0.5:6379/0?password=word"),
        ("redis_url", "unix:///run/redis/redis.sock"),
        ("secret_keys", secrets.token_hex(16)),
        ("secret_keys", f"{secrets.token_urlsafe(48)}, {secrets.token_hex(32)}"),
        ("smtp_url", "smtp://mail.agence.fr"),
        ("smtp_url", "smtp://escarcelle:word@localhost:587"),
        ("smtp_url", "smtps://escarcelle:word@mail.agence.fr"),
        ("smtp_url", "smtp+starttls://escarcelle:word@mail.agence.fr:587"),
        ("public_url", "http://127.0.0.1:8000"),
        ("public_url", "http://[::1]:8000/"),
        ("public_url", "http://till.localhost:8000"),
        ("public_url", "https://pay.agence.fr/escarcelle"),
        ("trusted_proxies", "127.0.0.1, 10.0.0.0/8"),
    ],
)
def test_what_is_safe_is_taken(variable: str, value: str) -> None:
    assert from_environment(**_SOUND | {variable: value})


def test_a_key_made_by_chance_is_never_taken_for_an_example() -> None:
    for _ in range(2_000):
        from_environment(**_SOUND | {"secret_keys": f"{secrets.token_urlsafe(32)},{secrets.token_hex(16)}"})


def test_where_a_mail_catcher_takes_the_mails_a_telephone_may_try_the_demo() -> None:
    """`escarcelle dev --host` with an address of the local network."""
    lan = "http://192.168.1.20:8000"
    assert from_environment(**_SOUND | {"public_url": lan, "mail_page_url": "http://127.0.0.1:8025"}).public_url == lan
