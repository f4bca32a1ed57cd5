"""What an issuer publishes: news and documents, in both languages (P5)."""

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.access import Role
from domain.publications import MOST
from tests.flows.cast import Cast
from tests.world import World

pytestmark = pytest.mark.anyio

NEWS = "... on NewsItem { id publishedOn title body }"
DOCUMENT = "... on Document { id kind title url }"
DONE = "... on Done { message }"
LISTED = "{ viewer { issuer { news { id publishedOn title body } documents { kind title url } } } }"
ITEM = {
    "titleFr": "Bordereaux {dématérialisés}",
    "titleEn": "Electronic slips",
    "bodyFr": "Ils arrivent.\n\nDemandez-les.",
    "bodyEn": "They are coming.",
}
GUIDE = {"kind": "GUIDE", "titleFr": "Guide", "titleEn": "A guide", "url": "https://example.com/guide.pdf"}


async def _listed(client: Any) -> dict[str, Any]:
    issuer: dict[str, Any] = (await client.ask(LISTED))["viewer"]["issuer"]
    return issuer


async def test_P5_news_are_read_by_everyone_latest_first_and_from_their_day_on(cast: Cast) -> None:
    await cast.world.freeze(datetime(2026, 11, 22, 12, tzinfo=UTC))
    today = await cast.agent.do("publishNews", NEWS, **ITEM)
    assert (today["publishedOn"], today["title"]) == ("2026-11-22", "Bordereaux {dématérialisés}")
    assert today["body"] == "Ils arrivent.\n\nDemandez-les."
    past = await cast.agent.do("publishNews", NEWS, **ITEM, publishedOn="2026-11-01")
    coming = await cast.agent.do("publishNews", NEWS, **ITEM, publishedOn="2026-11-23")
    async with await cast.running.client(cast.world, "p001", language="en") as english:
        assert [each["title"] for each in (await _listed(english))["news"]] == ["Electronic slips"] * 2
        both = "{ viewer { issuer { news { fr: title(locale: FR) en: title(locale: EN) } } } }"
        assert (await english.ask(both))["viewer"]["issuer"]["news"][0] == {
            "fr": "Bordereaux {dématérialisés}",
            "en": "Electronic slips",
        }
    for client in (cast.signatory, cast.ines):
        assert [each["id"] for each in (await _listed(client))["news"]] == [today["id"], past["id"]]
    assert [each["id"] for each in (await _listed(cast.agent))["news"]] == [coming["id"], today["id"], past["id"]]
    await cast.world.freeze(datetime(2026, 11, 22, 23, tzinfo=UTC))
    assert (await _listed(cast.signatory))["news"][0]["id"] == coming["id"], "it is the 23rd in Paris"

    assert await cast.agent.do("removeNews", DONE, id=today["id"]) == {
        "__typename": "Done",
        "message": "C’est retiré.",
    }
    assert [each["id"] for each in (await _listed(cast.signatory))["news"]] == [coming["id"], past["id"]]
    async with cast.world.unchanged():
        assert (await cast.agent.do("removeNews", DONE, id=today["id"]))["code"] == "NOT_FOUND"
    kinds = await cast.world.as_owner(
        "SELECT kind FROM journal WHERE tenant = $1 AND subject_kind = 'news' ORDER BY sequence", cast.world.tenant
    )
    assert [row["kind"] for row in kinds] == ["news.create"] * 3 + ["news.remove"]


async def test_P5_documents_are_links_of_a_kind(cast: Cast) -> None:
    made = await cast.agent.do("publishDocument", DOCUMENT, **GUIDE)
    assert (made["kind"], made["title"], made["url"]) == ("GUIDE", "Guide", GUIDE["url"])
    faq = {"kind": "FAQ", "titleFr": "Aide", "titleEn": "Help", "url": "https://example.com:8443/faq?à=1#b"}
    await cast.agent.do("publishDocument", DOCUMENT, **faq)
    assert (await _listed(cast.signatory))["documents"] == [
        {"kind": "FAQ", "title": "Aide", "url": faq["url"]},
        {"kind": "GUIDE", "title": "Guide", "url": GUIDE["url"]},
    ]
    assert (await cast.agent.do("removeDocument", DONE, id=made["id"]))["__typename"] == "Done"
    assert [each["kind"] for each in (await _listed(cast.till))["documents"]] == ["FAQ"]


async def test_P5_the_template_of_members_is_a_document_of_no_kind(cast: Cast) -> None:
    asked = await cast.agent.ask("{ holdersImportTemplate { id kind title english: title(locale: EN) } }")
    assert asked["holdersImportTemplate"]["kind"] is None
    assert asked["holdersImportTemplate"]["id"] is None
    assert asked["holdersImportTemplate"]["title"] != asked["holdersImportTemplate"]["english"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://example.com/guide.pdf",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://",
        "https://example",
        "https://example.com@evil.example/",
        "https://exa mple.com/",
        "https://example.com/a b",
        "https://example.com\\@evil.example",
        "//example.com/",
        "https://example.com:65536/",
        "https://example.com/" + "x" * 500,
    ],
)
async def test_P5_a_document_stands_at_an_address_of_the_web(cast: Cast, url: str) -> None:
    async with cast.world.unchanged():
        refused = await cast.agent.do("publishDocument", DOCUMENT, **(GUIDE | {"url": url}))
    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "url"])


async def test_P5_what_is_published_is_said_in_both_languages_and_by_staff(cast: Cast) -> None:
    async with cast.world.unchanged():
        for mutation, fields, whole, names in (
            ("publishNews", NEWS, ITEM, ("titleFr", "titleEn", "bodyFr", "bodyEn")),
            ("publishDocument", DOCUMENT, GUIDE, ("titleFr", "titleEn")),
        ):
            for name in names:
                refused = await cast.agent.do(mutation, fields, **(whole | {name: " "}))
                assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", name])
            for client in (cast.signatory, cast.till, cast.ines):
                assert (await client.do(mutation, fields, **whole))["code"] == "FORBIDDEN"


async def test_P5_news_stay_with_their_issuer(cast: Cast) -> None:
    other = await World.make(cast.world.servers, cast.world.database)
    await other.user("agent", Role.ISSUER_AGENT)
    async with await cast.running.client(other, "agent") as stranger:
        theirs = await stranger.do("publishNews", NEWS, **ITEM)
        assert [each["id"] for each in (await _listed(stranger))["news"]] == [theirs["id"]]
    assert (await _listed(cast.agent))["news"] == []
    async with other.unchanged():
        assert (await cast.agent.do("removeNews", DONE, id=theirs["id"]))["code"] == "NOT_FOUND"


async def test_P5_there_are_never_more_than_can_be_read(cast: Cast) -> None:
    for _ in range(MOST):
        assert "id" in await cast.agent.do("publishDocument", DOCUMENT, **GUIDE)
    async with cast.world.unchanged():
        refused = await cast.agent.do("publishDocument", DOCUMENT, **GUIDE)
    assert (refused["code"], refused["message"]) == (
        "WRONG_STATE",
        "100 publications au plus : retirez-en une avant d’en ajouter.",
    )
