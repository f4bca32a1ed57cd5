"""The workbook that members are handed in with: a sheet with the headings, and a sheet that explains them."""

import io
from functools import lru_cache
from typing import Final

import xlsxwriter

from domain.imports import COLUMNS, MOST_MEMBERS
from domain.texts import Locale, Text

TITLE: Final = Text("Modèle pour l’import des adhérents", "Template for the import of members")
FILE: Final = Text("adherents.xlsx", "members.xlsx")
"""What it is called, in a language each."""

_MEMBERS: Final = Text("Adhérents", "Members")
_COLUMNS: Final = Text("Colonnes", "Columns")
_HEADINGS: Final = (Text("Colonne", "Column"), Text("Contenu", "Content"), Text("Exemple", "Example"))
_REMARKS: Final = (
    Text(
        "Seul le premier onglet est lu : une ligne par adhérent, {most} au plus.",
        "The first sheet alone is read: a row for each member, {most} at most.",
    ),
    Text(
        "Une cellule vide ne change rien. Si une ligne est refusée, aucune n’est prise en compte.",
        "An empty cell changes nothing. If a row is refused, none is taken.",
    ),
)
_WIDTH: Final = 24


def language_of(name: str) -> Locale | None:
    """The language of the template that is called that."""
    return next((locale for locale in Locale if FILE.in_locale(locale) == name), None)


@lru_cache
def made(locale: Locale) -> bytes:
    """The workbook."""
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        bold = book.add_format({"bold": True, "bg_color": "#E8ECF1", "bottom": 1})
        text = book.add_format({"num_format": "@"})
        day = book.add_format({"num_format": "dd/mm/yyyy", "align": "left"})
        wrapped = book.add_format({"text_wrap": True, "valign": "top"})
        members = book.add_worksheet(_MEMBERS.in_locale(locale))
        members.freeze_panes(1, 0)
        for n, column in enumerate(COLUMNS):
            members.set_column(n, n, _WIDTH, day if column.is_day else text)
            members.write_string(0, n, column.heading.in_locale(locale), bold)
        columns = book.add_worksheet(_COLUMNS.in_locale(locale))
        columns.set_column(0, 2, _WIDTH, wrapped)
        columns.set_column(1, 1, 3 * _WIDTH, wrapped)
        told = [
            (column.heading.in_locale(locale), column.explanation.in_locale(locale), column.example)
            for column in COLUMNS
        ]
        for n, line in enumerate([tuple(heading.in_locale(locale) for heading in _HEADINGS), *told]):
            for at, words in enumerate(line):
                columns.write_string(n, at, words, wrapped if n else bold)
        for n, remark in enumerate(_REMARKS, start=len(told) + 2):
            columns.write_string(n, 0, remark.in_locale(locale, most=MOST_MEMBERS))
    return file.getvalue()
