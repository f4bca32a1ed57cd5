"""Everything that people read exists in French and in English, and says the same facts."""

import ast
import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

from jinja2 import Environment, meta

from tests.house.source import PACKAGES, ROOT, Module, calls, literal, modules

TEMPLATES = ROOT / "tasks/templates"
SHARED_PARTS = {"layout.html", "layout.txt", "parts.html"}


# ── sentences ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sentences_are_found() -> None:
    """Else the rules below would hold for nothing."""
    assert {"Text", "invalid"} <= {name for name, _, _, _ in _sentences()}


def test_sentences_exist_in_both_languages() -> None:
    """The same words twice are a sentence that nobody translated; one word alone may be the same in both."""
    wrong = [
        at for _, at, fr, en in _sentences() if not fr.strip() or not en.strip() or (fr == en and " " in fr.strip())
    ]
    assert wrong == []


def test_both_languages_say_the_same_facts() -> None:
    assert [at for _, at, fr, en in _sentences() if _facts(fr) != _facts(en)] == []


def test_refusals_are_given_the_facts_they_say() -> None:
    wrong = []
    for module in modules(*PACKAGES):
        for name, call in calls(module.tree):
            said = call.args[1:] if name == "invalid" else [a for t in call.args for a in _texts_in(t)]
            if name in ("Refused", "invalid") and said and (fr := literal(said[0])):
                given = {keyword.arg for keyword in call.keywords}
                if not given >= _facts(fr) and None not in given:
                    wrong.append(f"{module.at(call)}: {_facts(fr) - given}")
    assert wrong == []


def _texts_in(node: ast.expr) -> list[ast.expr]:
    return node.args if isinstance(node, ast.Call) and ast.unparse(node.func) == "Text" else []


def _sentences() -> Iterator[tuple[str, str, str, str]]:
    """What is called, where, and its two sentences: in `Text` itself and in every function that takes `fr` and `en`."""
    every = modules(*PACKAGES)
    takers = {"Text": 0} | dict(taker for module in every for taker in _takers(module))
    for module in every:
        for name, call in calls(module.tree):
            first = takers.get(name)
            if first is None or len(call.args) < first + 2:
                continue
            fr, en = _alternatives(call.args[first]), _alternatives(call.args[first + 1])
            # Neither stands there where they come from the database, or from who calls this.
            assert len(fr) == len(en), f"{module.at(call)}: each sentence in both languages"
            yield from ((name, module.at(call), *pair) for pair in zip(fr, en, strict=True))


def _alternatives(node: ast.expr) -> list[str]:
    if isinstance(node, ast.IfExp):
        return [*_alternatives(node.body), *_alternatives(node.orelse)]
    text = literal(node)
    return [] if text is None else [text]


def _takers(module: Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args if argument.arg not in ("self", "cls")]
            if "fr" in names:
                assert names[names.index("fr") :][1:2] == ["en"], f"{module.at(node)}: French, then English"
                yield node.name, names.index("fr")


def _facts(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


# ── mails ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_mail_is_written_in_both_languages_as_text_and_as_page() -> None:
    found = _templates()
    assert found
    every = {("fr", "html"), ("fr", "txt"), ("en", "html"), ("en", "txt")}
    assert {name: every - set(versions) for name, versions in found.items() if set(versions) != every} == {}


def test_mails_say_the_same_facts_in_both_languages() -> None:
    wrong = {
        (name, form): _unlike(versions["fr", form], versions["en", form])
        for name, versions in _templates().items()
        for form in ("html", "txt")
    }
    assert {key: facts for key, facts in wrong.items() if facts} == {}


def test_every_mail_that_is_sent_has_its_templates_and_no_template_is_for_nothing() -> None:
    sent = _letters()
    assert {name for name in sent if not fnmatch.filter(_templates(), name)} == set()
    assert {name for name in _templates() if not any(fnmatch.fnmatch(name, pattern) for pattern in sent)} == set()


def _templates() -> dict[str, dict[tuple[str, str], Path]]:
    found: dict[str, dict[tuple[str, str], Path]] = defaultdict(dict)
    for path in sorted(TEMPLATES.iterdir()):
        if path.name not in SHARED_PARTS:
            name, language, form = path.name.split(".")
            found[name][language, form] = path
    return found


def _unlike(fr: Path, en: Path) -> set[str]:
    environment = Environment(autoescape=True)
    said = [meta.find_undeclared_variables(environment.parse(path.read_text(encoding="utf-8"))) for path in (fr, en)]
    return said[0] ^ said[1]


def _letters() -> set[str]:
    """The templates that the writers of letters name; a part that is filled in is a star."""
    names = set()
    for module in modules("domain"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef) and any("writes(" in ast.unparse(d) for d in node.decorator_list):
                for _, call in calls(ast.Module(node.body, [])):
                    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "template")]
                    names |= {word for argument in given if (word := _word(argument))}
    return names


def _word(node: ast.expr) -> str | None:
    if isinstance(node, ast.JoinedStr):
        text = "".join(literal(part) or "*" for part in node.values)
    else:
        text = literal(node) or ""
    return text if re.fullmatch(r"[a-z*]+(_[a-z*]+)+", text) else None
