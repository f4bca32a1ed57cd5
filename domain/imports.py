"""Members and their dues from a workbook, as an agency keeps them. A row states what holds of the member of a number;
an empty cell says nothing. The file is taken whole or not at all: what is wrong is put right there, and it is handed in
again."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from domain import calendar, documents, jobs, parties
from domain.access import Actor, User
from domain.documents import File
from domain.errors import RefusalCode, Refused
from domain.jobs import MOST_PROBLEMS, FileFormat, Job, JobKind, RowProblem, RowsRefused
from domain.parties import Address, Channel, Holder, HolderDetails
from domain.texts import Fact, Locale, Text, sort_key
from domain.work import Work


@dataclass(frozen=True, slots=True)
class Broken:
    """An error instead of a value: #N/A, or a formula that was never worked out."""


Cell = str | float | bool | date | Broken | None
"""What a cell of a workbook holds: text is never empty, an empty cell is None."""

SheetRow = tuple[int, Sequence[Cell]]
"""A row of a sheet that is not empty, with the number that stands beside it."""

MOST_MEMBERS: Final = 5_000
"""How many members a file may hold: they change in one transaction."""

_WRITTEN_AT_ONCE: Final = 500
_SHOWN: Final = 60
"""Characters of a heading that are said again."""

_EXACT: Final = 2**53
"""Above it a workbook's numbers are not kept to the unit."""

_BEGINNINGS: Final = {FileFormat.XLSX: b"PK\x03\x04", FileFormat.XLS: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"}

# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Column:
    """A column: what it says of a holder, what it is called, here and elsewhere, and how its cells are read. A number
    that is one short of so many `digits` has lost its leading zero."""

    says: str
    heading: Text
    explanation: Text
    example: str
    read: "Callable[[Column, Cell], Any]"
    also: tuple[str, ...] = ()
    digits: int = 0

    @property
    def is_day(self) -> bool:
        """Whether its cells are dates."""
        return self.read is _day


def _text(column: Column, cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, float) or not cell.is_integer() or abs(cell) > _EXACT:
        raise Refused.invalid(
            column.says,
            "Du texte est attendu : donnez à la cellule le format Texte.",
            "Text is expected: give the cell the format Text.",
        )
    return _with_zero(str(int(cell)), column.digits)


def _with_zero(written: str, digits: int) -> str:
    return f"0{written}" if len(written) == digits - 1 else written


def _postcode(column: Column, cell: Cell) -> str:
    """A number waits for its country: only a French one has lost a zero."""
    if isinstance(cell, float):
        return _OfNumber(_text(column, cell))
    return _text(column, cell)


class _OfNumber(str):
    """Text that was a number in the workbook."""


def _number(column: Column, cell: Cell) -> str:
    """A member's number (H13)."""
    number = re.sub(r"\s", "", _text(column, cell)).upper()
    if not re.fullmatch(r"[0-9]{8}[A-Z]", number):
        raise Refused.invalid(
            column.says,
            "Un numéro d’adhérent a huit chiffres et une lettre, par exemple 44001234B.",
            "A member number has eight digits and a letter: 44001234B.",
        )
    return number


def _day(column: Column, cell: Cell) -> date:
    try:
        if isinstance(cell, str):
            parts = re.fullmatch(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})", cell)
            cell = date(int(parts[3]), int(parts[2]), int(parts[1])) if parts else date.fromisoformat(cell)
        if isinstance(cell, date) and 1900 <= cell.year <= 2199:
            return cell
    except ValueError:
        pass
    raise Refused.invalid(
        column.says,
        "Une date est attendue, par exemple 31/12/2026.",
        "A date is expected, the day before the month: 31/12/2026.",
    )


def _channel(column: Column, cell: Cell) -> Channel:
    for channel, words in _CHANNELS.items():
        if isinstance(cell, str) and _plain(cell) in words:
            return channel
    raise Refused.invalid(column.says, "« courriel » ou « courrier » est attendu.", "“email” or “post” is expected.")


_CHANNELS: Final = {Channel.EMAIL: ("courriel", "email", "mail"), Channel.POST: ("courrier", "post", "poste")}
_OF_ADDRESS: Final = Text(
    "Une adresse a une rue, un code postal et une ville.", "Street, postcode and town go together."
)

COLUMNS: Final = (
    Column(
        "reference",
        Text("Numéro d’adhérent", "Member number"),
        Text(
            "Obligatoire : huit chiffres et une lettre. L’adhérent de ce numéro est mis à jour, ou créé.",
            "Required: eight digits and a letter. The member of that number is changed, or made.",
        ),
        "44001234B",
        _number,
        also=("N° d’adhérent", "N° adhérent", "Member no."),
    ),
    Column(
        "name",
        Text("Nom", "Name"),
        Text("Obligatoire pour un nouvel adhérent.", "Required for a new member."),
        "Martin",
        _text,
        also=("Nom de famille", "Family name"),
    ),
    Column("first_name", Text("Prénom", "First name"), Text("Facultatif.", "Optional."), "Paul", _text),
    Column(
        "email",
        Text("E-mail", "E-mail"),
        Text("Pour le relevé par courriel.", "For a statement by e-mail."),
        "paul.martin@example.com",
        _text,
        also=("Courriel", "Adresse e-mail", "E-mail address"),
    ),
    Column(
        "mobile",
        Text("Mobile", "Mobile"),
        Text("Le zéro du début est conservé.", "A leading zero stays."),
        "0612345678",
        _text,
        also=("Téléphone mobile", "Mobile telephone"),
        digits=10,
    ),
    Column("street", Text("Rue", "Street"), _OF_ADDRESS, "12 rue des Acacias", _text, also=("Adresse", "Address")),
    Column("postcode", Text("Code postal", "Postcode"), _OF_ADDRESS, "01000", _postcode),
    Column("town", Text("Ville", "Town"), _OF_ADDRESS, "Bourg-en-Bresse", _text),
    Column(
        "country",
        Text("Pays", "Country"),
        Text("Code à deux lettres ; FR s’il est vide.", "A code of two letters; FR when empty."),
        "FR",
        _text,
    ),
    Column(
        "member_since",
        Text("Adhérent depuis", "Member since"),
        Text(
            "Une date ; pour un nouvel adhérent, le jour de l’import si elle est vide.",
            "A date; for a new member, the day of the import when empty.",
        ),
        "01/09/2024",
        _day,
    ),
    Column(
        "dues_paid_until",
        Text("À jour de cotisation jusqu’au", "Dues paid until"),
        Text("Une date : le dernier jour que couvre la cotisation.", "A date: the last day that the dues cover."),
        "31/12/2026",
        _day,
    ),
    Column(
        "statement_by",
        Text("Relevé par", "Statement by"),
        Text("courriel ou courrier", "email or post"),
        "courriel",
        _channel,
    ),
)
_REQUIRED: Final = COLUMNS[0]
_POSTCODE_DIGITS: Final = 5
"""Of a French one."""

_ADDRESS: Final = ("street", "postcode", "town", "country")

# ── what a sheet says ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class MemberRow:
    """What a row says of a member; `letters` are those of the columns."""

    row: int
    reference: str
    said: dict[str, Any]
    letters: dict[str, str]

    def problem(self, refused: Refused) -> RowProblem:
        """Why it was refused, at the column that it was refused for."""
        return _problem(refused, self.row, self.letters)


def members_in(sheet: Sequence[SheetRow]) -> list[MemberRow]:
    """The members whom a sheet names, by number; its first row holds the headings. Raises RowsRefused."""
    if len(sheet) - 1 > MOST_MEMBERS:
        raise RowsRefused(RowProblem.of(_TOO_MANY, most=MOST_MEMBERS))
    number, headings = sheet[0] if sheet else (1, ())
    columns = _columns(headings if number == 1 else ())
    letters = {column.says: _letter(at) for at, column in columns.items()}
    problems = _Problems()
    unheaded: set[int] = set()
    members: dict[str, MemberRow] = {}
    for row, cells in sheet[1:]:
        said: dict[str, Any] = {}
        before = problems.count
        for at, cell in enumerate(cells):
            if cell is None or at in unheaded:
                continue
            if at not in columns:
                # The column is told once, and not each of its cells.
                unheaded.add(at)
                problems.add(_NO_HEADING, row, _letter(at))
                continue
            try:
                said[columns[at].says] = _read(columns[at], cell)
            except Refused as refused:
                problems.add(refused.text, row, _letter(at), **refused.facts)
        if problems.count > before:
            continue
        reference = said.pop(_REQUIRED.says, None)
        if reference is None:
            problems.add(_NO_NUMBER, row, letters[_REQUIRED.says])
        elif reference in members:
            problems.add(_TWICE, row, letters[_REQUIRED.says], first=members[reference].row)
        else:
            members[reference] = MemberRow(row, reference, said, letters)
    if problems.count:
        raise RowsRefused(*problems.told, more=problems.count - len(problems.told))
    if not members:
        raise RowsRefused(RowProblem.of(_NOBODY))
    return [members[reference] for reference in sorted(members)]


# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def import_holders(work: Work, actor: Actor, *, file: File, locale: Locale) -> Job:
    """A workbook of members and their dues is handed in, .xlsx or .xls (H14); a worker reads it. Raises Refused:
    FILE_INVALID, RATE_LIMITED with too many unfinished jobs."""
    actor.require("importHolders")
    documents.check_size(file, "input.file")
    kinds = [kind for kind, beginning in _BEGINNINGS.items() if file.content.startswith(beginning)]
    if not kinds:
        raise Refused(
            RefusalCode.FILE_INVALID,
            Text("Un classeur Excel (.xlsx ou .xls) est attendu.", "An Excel workbook (.xlsx or .xls) is expected."),
            field="input.file",
        )
    await work.take(User.by(id=actor.user_id))
    job = await jobs.queue(work, actor, JobKind.IMPORT_HOLDERS, kinds[0], locale, {"bytes": len(file.content)})
    await jobs.keep_given(work, job, file.content)
    return job


@dataclass(slots=True)
class Progress:
    """How many members a deed under way has come to."""

    done: int = 0


async def take_over(
    work: Work,
    actor: Actor,
    job_id: UUID,
    run: int,
    message_id: UUID,
    members: Sequence[MemberRow],
    progress: Progress,
) -> Job:
    """Every member becomes as its row says, by the rules of `createHolder` and `updateHolder`, and the job is done; or
    nothing happens. Who else waits for a member waits shortly: members are read and made first, without a lock on any
    that is there; then those whom their rows change are locked all at once, in one order, so that two imports do not
    lock each other up, and written many at a time. Whoever was as its row says when it was read is left alone. The job
    comes last, so that it can be seen how far this is. Raises RowsRefused, Overtaken."""
    actor.require("importHolders")
    await work.take()
    # What is written midway shares its transaction with nobody: better to leave before there is something to repeat.
    await work.flush()
    today = calendar.today(work.now)
    progress.done = 0
    problems: list[RowProblem] = []
    changing: list[MemberRow] = []
    for some in _many_at_a_time(members):
        there = await work.read(_HOLDERS, references=[member.reference for member in some])
        holders = {holder.reference: holder for holder in map(Holder.from_row, there)}
        for member in some:
            holder = holders.get(member.reference)
            try:
                details = _details(member.said, holder, today)
                if holder is None:
                    parties.make_holder(work, member.reference, **details)
                elif parties.holder_changes(holder, **details):
                    changing.append(member)
                    continue
            except Refused as refused:
                problems.append(member.problem(refused))
            progress.done += 1
        if not problems:
            await work.flush()
    if problems:
        raise RowsRefused(*problems)

    taken = await work.take_all(Holder, reference=[member.reference for member in changing])
    holders = {holder.reference: holder for holder in taken}
    for some in _many_at_a_time(changing):
        for member in some:
            holder = holders[member.reference]
            try:
                parties.change_holder(work, holder, **_details(member.said, holder, today))
            except Refused as refused:
                problems.append(member.problem(refused))
            progress.done += 1
        if not problems:
            await work.flush()
    if problems:
        raise RowsRefused(*problems)
    return await jobs.finish_without_file(work, actor, job_id, run, message_id, len(members))


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_HOLDERS: Final = sa.select(*Holder.selected()).where(
    Holder.table.c.reference == sa.any_(sa.bindparam("references", type_=ARRAY(sa.Text())))
)
_HEADINGS_FIRST: Final = Text(
    "La ligne 1 doit porter les titres des colonnes, dont « {heading} ».",
    "Row 1 must hold the headings of the columns, “{heading}” among them.",
)
_UNKNOWN: Final = Text("La colonne « {heading} » n’est pas connue.", "The column “{heading}” is not known.")
_AGAIN: Final = Text("La colonne « {heading} » est là deux fois.", "The column “{heading}” is there twice.")
_NO_HEADING: Final = Text("Cette colonne n’a pas de titre.", "This column has no heading.")
_BROKEN: Final = Text("Cette cellule contient une erreur.", "This cell contains an error.")
_NO_NUMBER: Final = Text("Le numéro d’adhérent manque.", "The member number is missing.")
_TWICE: Final = Text("Cet adhérent est déjà à la ligne {first}.", "This member stands in row {first} already.")
_TOO_MANY: Final = Text("Un fichier compte {most} adhérents au plus.", "A file has at most {most} members.")
_NOBODY: Final = Text("Le premier onglet ne contient aucun adhérent.", "The first sheet holds no member.")


def _read(column: Column, cell: Cell) -> Any:
    """Raises Refused."""
    if isinstance(cell, Broken):
        raise Refused.invalid(column.says, _BROKEN.fr, _BROKEN.en)
    return column.read(column, cell)


def _many_at_a_time(members: Sequence[MemberRow]) -> Iterator[Sequence[MemberRow]]:
    for start in range(0, len(members), _WRITTEN_AT_ONCE):
        yield members[start : start + _WRITTEN_AT_ONCE]


@dataclass(slots=True)
class _Problems:
    """What is wrong with the cells of a file, row after row: those that are told, and how many there are."""

    told: list[RowProblem] = field(default_factory=list)
    count: int = 0

    def add(self, text: Text, row: int, column: str, **facts: Fact) -> None:
        """One more."""
        self.count += 1
        if len(self.told) < MOST_PROBLEMS:
            self.told.append(RowProblem.of(text, row, column, **facts))


def _columns(headings: Sequence[Cell]) -> dict[int, Column]:
    """Where each column stands, counted from 0. Raises RowsRefused."""
    found: dict[int, Column] = {}
    problems = []
    for at, heading in enumerate(headings):
        if heading is None:
            continue
        if isinstance(heading, Broken):
            problems.append(RowProblem.of(_BROKEN, 1, _letter(at)))
            continue
        column = _NAMED.get(_plain(str(heading)))
        if column is None:
            problems.append(RowProblem.of(_UNKNOWN, 1, _letter(at), heading=str(heading)[:_SHOWN]))
        elif column in found.values():
            problems.append(RowProblem.of(_AGAIN, 1, _letter(at), heading=str(heading)[:_SHOWN]))
        else:
            found[at] = column
    if _REQUIRED not in found.values():
        # Then the first row may be no headings at all: nobody's data is to be told.
        raise RowsRefused(RowProblem.of(_HEADINGS_FIRST, 1, heading=_REQUIRED.heading.in_locale))
    if problems:
        raise RowsRefused(*problems)
    return found


def _plain(words: str) -> str:
    """Letters and digits alone, without case and accents."""
    return "".join(filter(str.isalnum, sort_key(words)))


_NAMED: Final = {
    _plain(name): column for column in COLUMNS for name in (column.heading.fr, column.heading.en, *column.also)
}


def _details(said: dict[str, Any], holder: Holder | None, today: date) -> HolderDetails:
    """As the deeds take it. Who is no member yet becomes one; what is said of an address goes into the one there is."""
    details = {name: value for name, value in said.items() if name not in _ADDRESS}
    if len(details) < len(said):
        street, postcode, town, country = (said.get(name) or getattr(holder, name, None) or "" for name in _ADDRESS)
        if isinstance(postcode, _OfNumber) and country.strip().upper() in ("", "FR"):
            postcode = _with_zero(postcode, _POSTCODE_DIGITS)
        details["postal_address"] = Address(street, postcode, town, country or "FR")
    if holder is None or holder.member_since is None:
        details.setdefault("member_since", today)
    return cast(HolderDetails, details)


def _problem(refused: Refused, row: int, letters: dict[str, str]) -> RowProblem:
    """At the column whose name ends the refused field's path."""
    field = refused.problems[0].path[-1] if refused.problems else ""
    says = re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", field)
    return RowProblem.of(refused.text, row, letters.get(says), **refused.facts)


def _letter(at: int) -> str:
    """The letters over a column, which is counted from 0."""
    before, last = divmod(at, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + last)
