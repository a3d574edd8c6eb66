"""Tokens, API keys, and the secret that signs tokens: another one in place of one that may be
known.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headway.api.audit import Audit
from headway.api.keys import Keys
from headway.api.scopes import UNBOUNDED, Bounds
from headway.api.seal import Seal
from headway.api.security import Keyring, Principal, Role
from headway.cli.environment import SECRET_KEY
from headway.store import open_database
from headway.store.handed import hand
from headway.store.revocations import Revocations

app = typer.Typer(help="API keys, and the secret of tokens.", no_args_is_help=True)
console = Console()
errors = Console(stderr=True)
Data = Annotated[str, typer.Option(help="Data folder.")]
LONGEST_NAME = 64  # letters, of a holder of credentials


def token(
    name: Annotated[str, typer.Argument(help="Name of the holder, for the audit trail.")],
    role: Annotated[
        str, typer.Option(help=f"Role: {', '.join(r.name.lower() for r in Role)}.")
    ] = "viewer",
    hours: Annotated[
        float, typer.Option(min=0.01, max=24 * 366, help="Validity of the token, hours.")
    ] = 12.0,
    street: Annotated[
        list[str], typer.Option(help="Street that it is bounded to; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    camera: Annotated[
        list[str], typer.Option(help="Camera that it is bounded to; may be repeated.")
    ] = [],  # noqa: B006
    data: Data = "data",
) -> None:
    """Print an access token for a server; needs read access to its data folder."""
    if ":" in name or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        raise typer.BadParameter(
            f"no holder may be named {name!r}: 1 to {LONGEST_NAME} letters that can be printed, "
            "without ':', which divides a holder from the parts it reports for."
        )
    if role.upper() not in Role.__members__:
        raise typer.BadParameter(
            f"no role {role!r}. There are: {', '.join(r.name.lower() for r in Role)}."
        )
    secret = os.environ.get(SECRET_KEY, "")
    keyring = Keyring(Path(data) / "keys.json", secret, create=False)
    bounds = Bounds.of(street, camera) if street or camera else UNBOUNDED
    if role.upper() == "ADMIN" and not bounds.are_none:
        raise typer.BadParameter("an admin cannot be bounded to streets and cameras")
    made = keyring.token(name, Role[role.upper()], hours * 3600.0, bounds)
    told = {"name": name, "role": role.lower(), "hours": f"{hours:g}", **bounds.claims()}
    put_on_record(Path(data), "token", {**told, "number": keyring.read(made).token})
    print(made)


@app.command()
def rotate(
    number: Annotated[str, typer.Argument(help="Middle part of the key: hw_NUMBER_SECRET.")],
    overlap: Annotated[
        float,
        typer.Option(min=0.0, max=720.0, help="Hours for which the old key works beside the new."),
    ] = 24.0,
    data: Data = "data",
) -> None:
    """Print a new API key in place of another one, with its name, role and length of validity."""
    folder = Path(data)
    database = open_database(folder, create=False)
    try:
        keys = Keys(database, Revocations(folder / "revoked.json"))
        made = keys.rotate(number, overlap)
        if made is None:
            raise ValueError(
                f"no key {number!r} is in force. GET /api/v1/admin/keys lists those that there are."
            )
        audit = Audit(database, Seal(folder, os.environ.get(SECRET_KEY, "")))
        who = Principal("headway key rotate", Role.ADMIN)
        audit.add(who, "rotate", 200, {"old": number, "new": made.split("_")[1]})
    finally:
        database.close()
    print(made)


@app.command("rotate-secret")
def rotate_secret(
    keep: Annotated[
        int, typer.Option(min=1, max=10, help="Secrets that stay valid, the new one included.")
    ] = 2,
    data: Data = "data",
) -> None:
    """Make another secret sign tokens from now on; a server that runs follows at once. With
    --keep 1 all tokens of before end.
    """
    if os.environ.get(SECRET_KEY, ""):
        raise ValueError(f"{SECRET_KEY} is what signs tokens: give all servers another one.")
    keyring = Keyring(Path(data) / "keys.json", create=False)
    made = keyring.rotate(keep)
    put_on_record(Path(data), "rotate-secret", {"signs": made, "keep": str(keep)})
    console.print(f"{made} signs from now on, {keep} stay valid at most")


def put_on_record(folder: Path, what: str, data: dict[str, str]) -> None:
    """In the audit trail of the data folder's server, once one runs there; what was done stays done
    where the folder cannot be written to.
    """
    told = {"user": str(os.getuid()), **data}
    try:
        hand(folder, [time.time(), f"headway {what}", Role.ADMIN.name, what, 200, told])
    except OSError as error:
        errors.print(f"this is not in the audit trail: {error}", soft_wrap=True)
