"""Pages as PDF. A template lays out, and reads what it says as data: no text of anybody is ever read as markup."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import typst

_TEMPLATES: Final = Path(__file__).parent / "templates"


def rendered(template: str, documents: Sequence[Mapping[str, Any]]) -> bytes:
    """The documents one after the other, each on pages of its own, as one PDF. It takes a core for a while: call it in
    a thread."""
    # Its own fonts, so that the pages are the same on every machine.
    pdf = typst.compile(
        _TEMPLATES / f"{template}.typ",
        root=_TEMPLATES,
        format="pdf",
        ignore_system_fonts=True,
        sys_inputs={"documents": orjson.dumps(documents).decode()},
    )
    assert isinstance(pdf, bytes), "one file holds all pages"
    return pdf
