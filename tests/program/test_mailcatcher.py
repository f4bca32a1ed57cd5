"""The mail catcher: keeps what it is sent, shows it, and lets nothing in a mail act."""

import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from escarcelle.embedded import free_port

_ROOT = Path(__file__).parents[2]


@dataclass
class _Catcher:
    smtp_port: int
    page: httpx.Client
    folder: Path

    def send(self, message: EmailMessage, *recipients: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.smtp_port) as connection:
            connection.send_message(message, to_addrs=list(recipients) or None)

    def first_link(self) -> str:
        """The path of the newest mail's page."""
        return "/mails/" + self.page.get("/").text.partition('href="/mails/')[2].partition('"')[0]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, Path]]:
    folder = tmp_path_factory.mktemp("post") / "mails"
    smtp_port, page_port = free_port(), free_port()
    command = [sys.executable, "-m", "escarcelle", "catch-mail", "--folder", str(folder)]
    command += ["--smtp-port", str(smtp_port), "--page-port", str(page_port)]
    with subprocess.Popen(command, cwd=_ROOT) as process:
        try:
            _wait_until_it_answers(page_port)
            yield smtp_port, page_port, folder
        finally:
            process.terminate()
            process.wait(timeout=10)


@pytest.fixture
def catcher(running: tuple[int, int, Path]) -> Iterator[_Catcher]:
    """The running mail catcher, empty."""
    smtp_port, page_port, folder = running
    for file in folder.glob("*"):
        file.unlink()
    with httpx.Client(base_url=f"http://127.0.0.1:{page_port}") as page:
        yield _Catcher(smtp_port, page, folder)


def _wait_until_it_answers(port: int) -> None:
    give_up_at = time.monotonic() + 20
    while True:
        try:
            assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
            return
        except httpx.TransportError:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)


def _mail(subject: str = "Votre bon", text: str = "Bonjour Zoé,\nvotre bon de 25,00 € est prêt.\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Escarcelle <ne-pas-repondre@escarcelle.invalid>"
    message["To"] = "Zoé Été <zoe@example.test>"
    message["Subject"] = subject
    message["Message-ID"] = "<bon-1@escarcelle.invalid>"
    message.set_content(text)
    message.add_alternative("<p>Bonjour <b>Zoé</b></p>", subtype="html")
    return message


def test_a_mail_is_shown_as_json(catcher: _Catcher) -> None:
    catcher.send(_mail(), "zoe@example.test", "copie@example.test")
    (mail,) = catcher.page.get("/mails.json").json()
    assert mail["to"] == ["zoe@example.test", "copie@example.test"]
    assert mail["subject"] == "Votre bon"
    assert mail["message_id"] == "<bon-1@escarcelle.invalid>"
    assert "25,00 €" in mail["text"]
    assert mail["html"].strip() == "<p>Bonjour <b>Zoé</b></p>"
    assert mail["received_at"].endswith("+00:00")


def test_the_same_mail_twice_is_shown_twice_the_newest_first(catcher: _Catcher) -> None:
    for subject in ("un", "deux", "deux"):
        catcher.send(_mail(subject))
    assert [mail["subject"] for mail in catcher.page.get("/mails.json").json()] == ["deux", "deux", "un"]
    assert len(list(catcher.folder.glob("*.eml"))) == 3
    assert not list(catcher.folder.glob("*.part"))


def test_pages_are_in_french_or_english(catcher: _Catcher) -> None:
    assert "Aucun courrier" in catcher.page.get("/").text
    assert "No mail yet" in catcher.page.get("/?lang=en").text
    catcher.send(_mail())
    link = catcher.first_link()
    assert "Version texte" in catcher.page.get(link).text
    assert "Text version" in catcher.page.get(link.replace("lang=fr", "lang=en")).text
    assert catcher.page.get("/mails/absent?lang=en").status_code == 404


def test_what_a_mail_says_stays_text_on_the_pages(catcher: _Catcher) -> None:
    message = _mail("<script>alert('sujet')</script>", "<script>alert('texte')</script>")
    message.replace_header("From", '"<img src=x onerror=alert(1)>" <a@example.test>')
    catcher.send(message)
    for path in ("/", catcher.first_link()):
        page = catcher.page.get(path)
        assert "&lt;script&gt;alert(&#39;sujet&#39;)" in page.text
        assert "<script" not in page.text
        assert "<img" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "script-src" not in page.headers["content-security-policy"]


def test_the_formatted_version_can_neither_run_nor_fetch(catcher: _Catcher) -> None:
    message = _mail()
    message.get_payload()[1].set_content(  # type: ignore[union-attr, index]
        "<script>alert(1)</script><img src='https://tracker.example/x.png'><img src='cid:code'>", subtype="html"
    )
    message.get_payload()[1].add_related(b"PNG", "image", "png", cid="<code>")  # type: ignore[union-attr, index]
    catcher.send(message)
    page = catcher.page.get(catcher.first_link()).text
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in page
    frame = catcher.page.get(urljoin("/", page.partition('<iframe src="')[2].partition('"')[0]))
    policy = frame.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-popups")
    assert "default-src 'none'" in policy
    assert "img-src data:;" in policy
    assert "allow-scripts" not in policy
    assert "data:image/png;base64,UE5H" in frame.text
    assert "cid:code" not in frame.text


def test_the_file_can_be_downloaded_as_it_came(catcher: _Catcher) -> None:
    catcher.send(_mail())
    answer = catcher.page.get(catcher.first_link().partition("?")[0] + ".eml")
    assert answer.headers["content-type"] == "message/rfc822"
    assert b"Message-ID: <bon-1@escarcelle.invalid>" in answer.content


def test_a_mail_that_breaks_the_rules_is_shown_all_the_same(catcher: _Catcher) -> None:
    raw = (
        b'To: "[a@b\r\nSubject: =?nonsense?q?=FF?=\r\nContent-Type: text/plain; charset=nonsense\r\n\r\n\xff bytes\r\n'
    )
    with smtplib.SMTP("127.0.0.1", catcher.smtp_port) as connection:
        connection.sendmail("a@example.test", ["b@example.test"], raw)
    (mail,) = catcher.page.get("/mails.json").json()
    assert "bytes" in mail["text"]
    assert catcher.page.get("/").status_code == 200
    assert catcher.page.get(catcher.first_link()).status_code == 200


def test_a_mail_over_twenty_five_megabytes_is_refused(catcher: _Catcher) -> None:
    with pytest.raises(smtplib.SMTPSenderRefused, match="exceeds"):
        catcher.send(_mail(text="0123456789abcdef\n" * 1_600_000))
    assert catcher.page.get("/mails.json").json() == []


def test_only_its_own_names_reach_the_pages(catcher: _Catcher) -> None:
    assert catcher.page.get("/mails.json", headers={"Host": "attacker.example"}).status_code == 400
