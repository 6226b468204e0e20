"""Render formatted tables in the terminal and as an HTML page."""

from html import escape

import rich.table
from rich import box
from rich.console import Console

from tasks.reporting.tables import Cell, Table

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; }
th, td { padding: .4rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8886; }
.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.champion { font-weight: 600; }
"""


def make_console() -> Console:
    """Return a console as wide as the terminal; in a pipe or a file, wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def print_table(console: Console, table: Table) -> None:
    """Print the title, the rows and the caption."""
    printed = rich.table.Table(title=table.title or None, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for column in table.columns:
        if _is_text(table, column):
            printed.add_column(column)
        else:
            printed.add_column(column, justify="right", no_wrap=True)
    for row in table.rows:
        printed.add_row(*map(_cell_text, row))
    console.print(printed)
    if table.caption:
        console.print(table.caption, markup=False, highlight=False)


def html_page(title: str, heading: str, table: Table) -> str:
    """Return the table as an HTML page without external resources; highlighted rows are bold."""
    rows = "\n".join(_html_row(table, number) for number in range(len(table.rows)))
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(heading)}</h1>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>\n</body></html>\n"
    )


def _html_row(table: Table, number: int) -> str:
    cells = "".join(
        f"<td>{escape(_cell_text(cell))}</td>"
        if _is_text(table, column)
        else f'<td class="figure">{escape(_cell_text(cell))}</td>'
        for column, cell in zip(table.columns, table.rows[number], strict=True)
    )
    champion = ' class="champion"' if number in table.highlighted else ""
    return f"<tr{champion}>{cells}</tr>"


def _cell_text(cell: Cell) -> str:
    return f"{cell.text} [{cell.detail}]" if cell.detail else cell.text


def _is_text(table: Table, column: str) -> bool:
    return column == table.columns[0] or column in table.text_columns
