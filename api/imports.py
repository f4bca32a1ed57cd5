"""Members and their dues from a workbook."""

import strawberry

from api.context import Context
from api.jobs import JobResult
from api.publications import Document
from api.shapes import Info, mutation, question
from api.transport import UploadedFile
from domain import imports, jobs
from domain.documents import File
from reporting import members_template


@strawberry.type
class ImportQueries:
    """Questions about imports."""

    @question("An empty workbook for `importHolders`, in the caller's language; its second sheet explains the columns.")
    async def holders_import_template(self, info: Info) -> Document:
        context: Context = info.context
        name = members_template.FILE.in_locale(context.locale)
        url = f"{context.services.settings.public_url}/templates/{name}"
        return Document(titles=members_template.TITLE, url=url)


@strawberry.input(description="Members and their dues, as a workbook.")
class ImportHoldersInput:
    """For `importHolders`."""

    file: UploadedFile = strawberry.field(
        description="An Excel workbook, .xlsx or .xls, 10 MB at most, with the columns of `holdersImportTemplate`."
    )


@strawberry.type
class ImportMutations:
    """Deeds about imports."""

    @mutation(
        JobResult,
        "Members are made or changed as a workbook says, each by its number: all of them, or none, and the job then"
        " says row by row what is wrong. An empty cell changes nothing.",
    )
    async def import_holders(self, info: Info, input: ImportHoldersInput, idempotency_key: strawberry.ID) -> jobs.Job:
        given, context = input.file, info.context
        return await context.perform(
            imports.import_holders,
            key=idempotency_key,
            again=jobs.job,
            file=File(given.name, given.content, given.sha256),
            locale=context.locale,
        )
