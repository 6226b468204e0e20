"""Update the two tables of docs/data.md: .venv/bin/python -m tests.bad_inputs.render"""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.bad_inputs.accepted import FORMS
from tests.bad_inputs.cases import CASES

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def forms() -> str:
    """Return the table of accepted forms."""
    rows = [
        (
            form.title,
            "<br>".join(_code(line) for line in form.config.replace("{web}", "https://example.org").split("\n")),
        )
        for group in FORMS.values()
        for form in group
    ]
    return _table(("form", "lines of `data` that ask for it"), FORMS, iter(rows))


def refusals() -> str:
    """Return the table of refused inputs."""
    rows = [(case.title, _code(case.message)) for group in CASES.values() for case in group]
    return _table(("input", "message (… stands for what differs from case to case)"), CASES, iter(rows))


def rendered(guide: str) -> str:
    """Return the guide with both tables up to date."""
    for name, table in (("forms", forms()), ("refusals", refusals())):
        block = f"<!-- {name} -->\n{table}<!-- end of {name} -->"
        guide, count = re.subn(f"<!-- {name} -->.*<!-- end of {name} -->", lambda _, new=block: new, guide, flags=re.S)
        assert count == 1, f"{GUIDE.name} has no place for the table of {name}"
    return guide


def _table(header: tuple[str, str], groups: dict[str, tuple], rows: Iterator[tuple[str, str]]) -> str:
    lines = [header, ("---", "---")]
    for name, group in groups.items():
        lines += [(f"**{name}**", ""), *(next(rows) for _ in group)]
    return "".join(f"| {left} | {right} |\n" for left, right in lines)


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return "none" if not text else f"`` {escaped} ``" if "`" in text else f"`{escaped}`"


if __name__ == "__main__":
    GUIDE.write_text(rendered(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
