"""Writing to the people who help."""

import strawberry

from api.shapes import Done, DoneResult, Info, mutation
from domain import support
from domain.texts import Text


@strawberry.input(description="What somebody writes to the issuer.")
class ContactSupportInput:
    """For `contactSupport`."""

    subject: str = strawberry.field(description="What it is about, in one line.")
    message: str = strawberry.field(description="What there is to say, in as many lines as it takes.")


@strawberry.type
class SupportMutations:
    """Deeds about help."""

    @mutation(
        DoneResult,
        "Write to the issuer, by mail: it is told who writes, and answers to the viewer's address. The viewer is mailed"
        " a copy (P5).",
    )
    async def contact_support(
        self, info: Info, input: ContactSupportInput, idempotency_key: strawberry.ID | None = None
    ) -> Done:
        await info.context.perform(
            support.contact, input.subject, input.message, key=idempotency_key, again=support.own_message
        )
        return Done(message=_SENT.in_locale(info.context.locale))


_SENT = Text("Votre message est envoyé.", "Your message is sent.")
