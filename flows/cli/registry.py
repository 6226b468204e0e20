"""The commands compare, promote and rollback."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.operations import Json
from lstm.errors import InputError


def compare(
    name: Annotated[str, typer.Argument(help="The pipeline's name.", metavar="NAME")],
    as_json: Json = False,
    html: Annotated[Path | None, typer.Option(help="HTML file to write.")] = None,
) -> None:
    """List the registered versions of a model by validation RMSE, with aliases and the gate's decisions."""
    from flows.cli import output
    from tasks.registry.models import list_versions

    rows = list_versions(name)
    if html is not None:
        try:
            html.write_text(output.versions_page(name, rows), encoding="utf-8")
        except OSError as error:
            raise InputError(f"--html {html}: can't be written ({error.strerror}).") from None
    if as_json:
        print(output.as_json(rows))
    elif html is None:
        output.show_versions(name, rows)
    else:
        print(f"{html}: {len(rows)} versions of {name}")


def promote(
    name: Annotated[str, typer.Argument(help="The pipeline's name.", metavar="NAME")],
    version: Annotated[str, typer.Argument(help="Number of the version, as lstm compare shows it.", metavar="VERSION")],
    force: Annotated[
        bool, typer.Option("--force", help="Promote it whatever the gate decided. It is recorded.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Reason, recorded with a forced promotion.")] = "",
) -> None:
    """Make a version champion if the gate found it better than the current champion."""
    from flows.cli import output
    from tasks.registry.promotion import promote

    output.show_champion_change(promote(name, version, force, reason))


def rollback(name: Annotated[str, typer.Argument(help="The pipeline's name.", metavar="NAME")]) -> None:
    """Make the previous champion the champion again. A second rollback in a row is refused."""
    from flows.cli import output
    from tasks.registry.promotion import rollback

    output.show_champion_change(rollback(name))
