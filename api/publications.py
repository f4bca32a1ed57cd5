"""What issuers publish: news and documents; and how staff does it."""

from datetime import date
from typing import Self, cast

import strawberry

from api.context import Context
from api.shapes import Done, DoneResult, Info, described, field, id_of, mutation, result, view
from domain import publications
from domain.texts import Locale, Text

DocumentKind = described(publications.DocumentKind)

# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@view(publications.NewsItem, "A piece of news.")
class NewsItem:
    """A view of domain.publications.NewsItem."""

    published_on: date = field("From which day on it is read.")

    @strawberry.field(description="Names it to `removeNews`.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(_news(self).global_id)

    @strawberry.field(description="What it is about.")
    def title(self, info: Info, locale: Locale | None = None) -> str:
        return _written(_news(self).title_fr, _news(self).title_en, info, locale)

    @strawberry.field(description="What there is to say; an empty line ends a paragraph.")
    def body(self, info: Info, locale: Locale | None = None) -> str:
        return _written(_news(self).body_fr, _news(self).body_en, info, locale)


@strawberry.type(description="A file to be downloaded.")
class Document:
    """A title and an address; published ones are a view of domain.publications.PublishedDocument."""

    titles: strawberry.Private[Text]
    url: str = strawberry.field(description="Where it is.")
    kind: DocumentKind | None = strawberry.field(  # type: ignore[valid-type]
        default=None, description="What it is, where the issuer has published it; else null."
    )
    id: strawberry.ID | None = strawberry.field(
        default=None, description="Names it to `removeDocument`, where the issuer has published it; else null."
    )

    @strawberry.field(description="What it is, in the caller's language.")
    def title(self, info: Info, locale: Locale | None = None) -> str:
        return _written(self.titles.fr, self.titles.en, info, locale)

    @classmethod
    def of(cls, published: publications.PublishedDocument) -> Self:
        """What the issuer has published."""
        titles = Text(published.title_fr, published.title_en)
        return cls(titles=titles, url=published.url, kind=published.kind, id=strawberry.ID(published.global_id))


NewsItemResult = result("NewsItemResult", NewsItem)
DocumentResult = result("DocumentResult", Document)

# ── root fields ───────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.input(description="A new piece of news, in both languages.")
class PublishNewsInput:
    """For `publishNews`."""

    title_fr: str = strawberry.field(description="What it is about, in French.")
    title_en: str = strawberry.field(description="What it is about, in English.")
    body_fr: str = strawberry.field(description="What there is to say, in French.")
    body_en: str = strawberry.field(description="What there is to say, in English.")
    published_on: date | None = strawberry.field(
        default=None, description="From which day on it is read; today when absent."
    )


@strawberry.input(description="A new document at an address.")
class PublishDocumentInput:
    """For `publishDocument`."""

    kind: DocumentKind = strawberry.field(description="What it is.")  # type: ignore[valid-type]
    title_fr: str = strawberry.field(description="Its title in French.")
    title_en: str = strawberry.field(description="Its title in English.")
    url: str = strawberry.field(description="Where it is: an address that begins with https://.")


@strawberry.input(description="A piece of news, or a document.")
class PublicationIdInput:
    """For `removeNews` and `removeDocument`."""

    id: strawberry.ID = strawberry.field(description="Which one.")


@strawberry.type
class PublicationMutations:
    """Deeds about what is published."""

    @mutation(NewsItemResult, "Publish a piece of news (P5).")
    async def publish_news(self, info: Info, input: PublishNewsInput) -> publications.NewsItem:
        return await info.context.perform(publications.publish_news, **vars(input))

    @mutation(DocumentResult, "Publish a document, by its address (P5).")
    async def publish_document(self, info: Info, input: PublishDocumentInput) -> Document:
        return Document.of(await info.context.perform(publications.publish_document, **vars(input)))

    @mutation(DoneResult, "Take a piece of news back: nobody reads it any more.")
    async def remove_news(self, info: Info, input: PublicationIdInput) -> Done:
        news_id = id_of(info.context, input.id, publications.NewsItem.prefix)
        await info.context.perform(publications.remove_news, news_id)
        return _removed(info.context)

    @mutation(DoneResult, "Take a document back: it is listed no more. What stands at its address stays there.")
    async def remove_document(self, info: Info, input: PublicationIdInput) -> Done:
        document_id = id_of(info.context, input.id, publications.PublishedDocument.prefix)
        await info.context.perform(publications.remove_document, document_id)
        return _removed(info.context)


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_REMOVED = Text("C’est retiré.", "It is taken back.")


def _removed(context: Context) -> Done:
    return Done(message=_REMOVED.in_locale(context.locale))


def _news(shown: object) -> publications.NewsItem:
    return cast(publications.NewsItem, shown)


def _written(fr: str, en: str, info: Info, locale: Locale | None) -> str:
    """As it was typed: braces in it stand for nothing."""
    return fr if (locale or info.context.locale) is Locale.FR else en
