"""Jobs: watched, and where their file is."""

from collections.abc import AsyncGenerator
from typing import cast
from uuid import UUID

import strawberry

from api.context import Context
from api.shapes import Info, Node, field, finds, id_of, result, view
from api.transport import Rejected
from domain import codes, jobs
from domain.errors import Refused

JobStatus = strawberry.enum(jobs.JobStatus, description=jobs.JobStatus.__doc__)

# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@view(jobs.RowProblem, "What is wrong with one row, or with the whole.")
class RowProblem:
    """A view of domain.jobs.RowProblem."""

    row: int | None = field("Which row; null when it is about the whole.")
    column: str | None = field("The letter of the column, when it is about one.")

    @strawberry.field(description="What is wrong, in the caller's language.")
    def message(self, info: Info) -> str:
        return cast(jobs.RowProblem, self).said[info.context.locale]


@view(jobs.Job, "Something that takes longer than an answer may. Watch it with the subscription `job`.")
class Job(Node):
    """A view of domain.jobs.Job."""

    status: JobStatus = field("Where it stands.")  # type: ignore[valid-type]
    done: int = field("How many rows are done.")
    total: int | None = field("Of how many; null until that is known.")

    @strawberry.field(description="What is done: “EXPORT_PAYMENT_REQUESTS”.")
    def kind(self) -> str:
        return str(_job(self).kind)

    @strawberry.field(description="What went wrong; empty when nothing did.", graphql_type=list[RowProblem])
    def problems(self) -> list[jobs.RowProblem]:
        return jobs.problems(_job(self))

    @strawberry.field(
        description="Where the file is, for whoever has this address; set when DONE, null again when the file has"
        " expired, after a day."
    )
    def download_url(self, info: Info) -> str | None:
        job, settings = _job(self), info.context.services.settings
        if job.file_bytes is None:
            return None
        token = codes.signed_token(settings.keys[0], jobs.DOWNLOAD, job.tenant, job.id)
        return f"{settings.public_url}/files/{token}"


JobResult = result("JobResult", Job)


def _job(view_of: object) -> jobs.Job:
    return cast(jobs.Job, view_of)


@finds(jobs.Job)
async def _find_job(context: Context, job_id: UUID) -> jobs.Job | None:
    async with context.reading() as connection:
        return await jobs.job(connection, context.someone, job_id)


# ── root fields ───────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type
class JobSubscriptions:
    """Jobs, live."""

    @strawberry.subscription(
        description="Progress of a job of the viewer's own: the state now, then each change, until it is over.",
        graphql_type=Job,
    )
    async def job(self, info: Info, id: strawberry.ID) -> AsyncGenerator[jobs.Job, None]:
        context = info.context
        try:
            job_id = id_of(context, id, jobs.Job.prefix)
        except Refused as refused:
            raise Rejected(str(refused.code), refused.message(context.locale)) from None
        follow = context.services.hub.follow(
            (jobs.Job.prefix, str(job_id)),
            ("own", context.someone.user_id),
            lambda: _find_job(context, job_id),
            lambda job: (job.version, job.file_bytes),
            lambda job: job.status in jobs.FINAL,
        )
        empty = True
        async for job in follow:
            empty = False
            yield job
        if empty:
            raise Rejected("NOT_FOUND", Refused.not_found().message(context.locale))
