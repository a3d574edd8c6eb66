"""The registry of models: versions that never change, in the database; their files by content, in
the data folder; and which version is champion, challenger or shadow of which street and junction.

Each row is signed with a key that stands outside of the database (HMAC-SHA256): a row that was
altered, or copied from another installation, is refused, and so is a file that is not the one that
was registered.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from headway import __version__
from headway.control.models import KINDS, ModelFile
from headway.learning.model_files import ModelFiles, digest
from headway.learning.shared_files import StorageAwayError
from headway.store import Database

ALIASES = ("champion", "challenger", "shadow")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
LONGEST_NAME = 256  # letters, of a street or junction
LARGEST_NOTE_BYTES = 1 << 20  # of `made_from` and of `metrics`, as JSON
MOST_LISTED = 10_000
LARGEST_ID = 2**63 - 1  # that a column can hold
LOCK = 4848  # any number that no other lock of the database has: rows are numbered one by one
COLUMNS = """
    id, name, version, kind, sha256, size, code_version, made_from::text AS made_from,
    metrics::text AS metrics, parent, created_by, created_at, key, signature
"""
INSERT = """
    INSERT INTO model_version (id, name, version, kind, sha256, size, code_version, made_from,
        metrics, parent, created_by, created_at, key, signature)
    VALUES (:id, :name, :version, :kind, :sha256, :size, :code_version,
        CAST(:made_from AS json), CAST(:metrics AS json), :parent, :created_by, :created_at, :key,
        :signature)
"""
NEXT = """
    SELECT coalesce(max(id), 0) + 1 AS id,
        coalesce(max(version) FILTER (WHERE name = :name), 0) + 1 AS version
    FROM model_version
"""
HISTORY = """
    SELECT a.number, a.at, a.street, a.junction, a.alias, a.version_id, a.set_by, a.key,
        a.signature, coalesce(v.name || '@' || v.version, '') AS label
    FROM model_alias a LEFT JOIN model_version v ON v.id = a.version_id
"""
INSERT_ALIAS = """
    INSERT INTO model_alias (number, at, street, junction, alias, version_id, set_by, key,
        signature)
    VALUES (:number, :at, :street, :junction, :alias, :version_id, :set_by, :key, :signature)
"""


class UnknownModelError(ValueError):
    """There is no such model, version or alias."""


class ModelFaultError(ValueError):
    """A row or file of the registry is not what was registered."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model. version: from 1 on, within its name; sha256, size (bytes): of its
    file; made_from: data, seeds and settings it was made with; metrics: figures with their
    intervals; parent: id of the version it was made of; fault: what is wrong with the row, empty
    for nothing.
    """

    id: int
    name: str
    version: int
    kind: str
    sha256: str
    size: int
    code_version: str
    made_from: dict[str, Any]
    metrics: dict[str, Any]
    parent: int | None
    created_by: str
    created_at: datetime
    fault: str = ""

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class ModelAlias:
    """An entry of the history: from `at` on, `alias` of a junction (empty: of the whole street) was
    the version `version_id`, called `label`; None: no version. fault: what is wrong with the entry,
    empty for nothing; one with a fault is not in force.
    """

    number: int
    at: datetime
    street: str
    junction: str
    alias: str
    version_id: int | None
    label: str
    set_by: str
    fault: str = ""


class Registry:
    """folder: the data folder, with the files in `models/`; key: what rows are signed with, see
    `signing_key`.
    """

    def __init__(self, database: Database, folder: Path, key: bytes) -> None:
        self._database = database
        self._files = ModelFiles(folder.resolve() / "models")
        self._key = key
        self._key_name = hashlib.sha256(b"name of " + key).hexdigest()[:8]

    def add(
        self,
        content: Path | bytes,
        *,
        name: str,
        kind: str,
        made_from: dict[str, Any],
        metrics: dict[str, Any],
        parent: int | None = None,
        by: str,
        within: Callable[[sa.Connection, int], None] | None = None,
    ) -> ModelVersion:
        """Register a file, or what is in it, as the next version of `name`. The file is on disk
        before its row is in the database. within: done in the transaction of the row, with its id;
        where it raises there is no row.

        Raises UnknownModelError for an unknown parent; ValueError for a name, kind or content that
        cannot be registered; OSError, SQLAlchemyError.
        """
        require_name(name)
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}: is none. There are: {', '.join(KINDS)}.")
        notes = {"made_from": _text("made_from", made_from), "metrics": _text("metrics", metrics)}
        if parent is not None:
            self.get(parent)
        sha256, size = self._files.keep(content, kind)
        with self._numbering() as held:
            following = held.execute(sa.text(NEXT), {"name": name}).mappings().one()
            row: dict[str, Any] = {
                "id": following["id"],
                "name": name,
                "version": following["version"],
                "kind": kind,
                "sha256": sha256,
                "size": size,
                "code_version": __version__,
                **notes,
                "parent": parent,
                "created_by": by,
                "created_at": datetime.now(UTC),
            }
            held.execute(sa.text(INSERT), row | self._signed("version", row))
            if within is not None:
                within(held, row["id"])
        return _version(row, "")

    def get(self, version_id: int) -> ModelVersion:
        """Raises UnknownModelError; ModelFaultError for a row that was altered."""
        return _sound(self.look_at(version_id))

    def look_at(self, version_id: int) -> ModelVersion:
        """To be shown alone: a row that was altered has its fault. Raises UnknownModelError."""
        is_one = 0 < version_id <= LARGEST_ID
        rows = self._versions("WHERE id = :id", id=version_id) if is_one else ()
        if not rows:
            raise UnknownModelError(f"no model has the id {version_id}.")
        return rows[0]

    def find(self, reference: str, street: str | None = None) -> ModelVersion:
        """The version that `reference` names: NAME (the newest), NAME@3, or NAME@champion (also
        challenger, shadow): what has that alias now, on `street` or, where None, on any.

        Raises UnknownModelError, also where several versions have the alias; ModelFaultError.
        """
        name, _, which = reference.partition("@")
        if not NAME.fullmatch(name):
            raise UnknownModelError(f"{reference[:LONGEST_NAME]!r}: no model has such a name.")
        if which in ALIASES:
            return self._of_alias(name, which, street)
        if which and not (which.isascii() and which.isdigit() and len(which) < 10):
            raise UnknownModelError(
                f"{reference}: no such model. Give NAME, NAME@NUMBER, or NAME@ with one of: "
                f"{', '.join(ALIASES)}."
            )
        number = int(which) if which else None
        rows = self._versions(
            "WHERE name = :name AND (CAST(:number AS integer) IS NULL OR version = :number) "
            "ORDER BY version DESC LIMIT 1",
            name=name,
            number=number,
        )
        if not rows:
            raise UnknownModelError(f"{reference}: no such model is registered.")
        return _sound(rows[0])

    def _of_alias(self, name: str, alias: str, street: str | None) -> ModelVersion:
        if not _are_askable(street):
            raise UnknownModelError(f"{name}@{alias}: there is no such street.")
        now = self._now("TRUE" if street is None else "street = :street", street=street)
        having = [e for e in now if e.alias == alias and e.label.rpartition("@")[0] == name]
        found = {entry.version_id: entry for entry in having if not entry.fault}
        if not found:
            for entry in having:
                raise ModelFaultError(
                    f"entry {entry.number} of the aliases {entry.fault}. Give the version, or "
                    "deploy it anew."
                )
            on = f" on the street {street!r}" if street is not None else ""
            raise UnknownModelError(f"{name}@{alias}: no version of {name!r} is {alias}{on}.")
        if len(found) > 1:
            said = ", ".join(f"{e.label} ({e.street})" for e in found.values())
            raise UnknownModelError(f"{name}@{alias}: is several: {said}. Give the version.")
        (version_id,) = found
        assert version_id is not None
        return self.get(version_id)

    def list(
        self,
        limit: int = 100,
        after_id: int | None = None,
        name: str | None = None,
        kind: str | None = None,
    ) -> Sequence[ModelVersion]:
        """Versions, the newest first; after_id: those that come after this one in the list. One
        whose row was altered is listed with its fault.
        """
        if not _are_askable(name, kind):
            return []
        return self._versions(
            "WHERE (CAST(:after AS bigint) IS NULL OR id < :after) "
            "AND (CAST(:name AS text) IS NULL OR name = :name) "
            "AND (CAST(:kind AS text) IS NULL OR kind = :kind) ORDER BY id DESC LIMIT :limit",
            after=after_id,
            name=name,
            kind=kind,
            limit=min(limit, MOST_LISTED),
        )

    def file(self, version: ModelVersion) -> ModelFile:
        """Its file, read to its end. Raises UnknownModelError; ModelFaultError where the row or the
        file is not what was registered; StorageAwayError where it has to come from a shared storage
        that is away.
        """
        of = self.get(version.id)
        path = self._files.path(of.sha256)
        try:
            self._files.bring(of.sha256)
        except StorageAwayError:
            raise
        except OSError as error:
            raise ModelFaultError(
                f"{of.label}: its file {path} is missing or was altered, and cannot be brought "
                f"back: {error}. Put it back from a copy."
            ) from error
        try:
            sha256, _ = digest(path)
        except FileNotFoundError:
            raise ModelFaultError(
                f"{of.label}: its file {path} is missing. Put it back from a copy of the data "
                "folder."
            ) from None
        except OSError as error:
            raise ModelFaultError(
                f"{of.label}: its file {path} cannot be read ({error.strerror}). Put it back from "
                "a copy of the data folder."
            ) from error
        if sha256 != of.sha256:
            raise ModelFaultError(
                f"{of.label}: its file {path} was altered. Put it back from a copy of the data "
                "folder."
            )
        return ModelFile(of.name, of.version, of.kind, of.sha256, str(path))

    def verify(self) -> Iterator[tuple[ModelVersion, str]]:
        """Each version, the newest first, with what is wrong with its row or its file; empty for
        nothing.
        """
        after: int | None = None
        while found := self.list(1000, after):
            for version in found:
                fault = ""
                try:
                    self.file(version)
                except (ValueError, OSError) as error:
                    fault = str(error)
                yield version, fault
            after = found[-1].id

    def set_alias(
        self, street: str, junction: str, alias: str, version_id: int | None, by: str
    ) -> ModelAlias:
        """From now on `alias` of a junction (empty: of the whole street) is this version, or none.
        Nothing of before is lost. Raises UnknownModelError, ModelFaultError, ValueError for another
        alias.
        """
        if alias not in ALIASES:
            raise ValueError(f"alias {alias!r}: is none. There are: {', '.join(ALIASES)}.")
        _require_place("street", street, 1)
        _require_place("junction", junction, 0)
        label = "" if version_id is None else self.get(version_id).label
        with self._numbering() as held:
            number = held.execute(
                sa.text("SELECT coalesce(max(number), 0) + 1 FROM model_alias")
            ).scalar_one()
            row: dict[str, Any] = {
                "number": number,
                "at": datetime.now(UTC),
                "street": street,
                "junction": junction,
                "alias": alias,
                "version_id": version_id,
                "set_by": by,
            }
            held.execute(sa.text(INSERT_ALIAS), row | self._signed("alias", row))
        return ModelAlias(**row, label=label)

    def aliases(self, street: str) -> Sequence[ModelAlias]:
        """What is in force on a street: of each junction and alias the newest entry, where it names
        a version and has no fault.
        """
        if not _are_askable(street):
            return []
        return [e for e in self._now("street = :street", street=street) if e.label and not e.fault]

    def history(self, street: str, junction: str | None = None) -> Sequence[ModelAlias]:
        """All entries of a street, or of one of its junctions (empty: those of the whole street),
        the newest first. One that was altered, or signed by another installation, has its fault.
        """
        if not _are_askable(street, junction):
            return []
        where = (
            "WHERE a.street = :street AND (CAST(:junction AS text) IS NULL OR "
            "a.junction = :junction) ORDER BY a.number DESC"
        )
        return self._entries(HISTORY + where, street=street, junction=junction)

    def at_junction(
        self, street: str, junction: str, limit: int
    ) -> tuple[Sequence[ModelAlias], Sequence[ModelAlias]]:
        """(history, in force) of a junction, with what is of its whole street: the newest `limit`
        entries, and what is in force as `aliases` has it. The entries of all junctions may be
        hundreds of thousands.
        """
        if not _are_askable(street, junction):
            return [], []
        values = {"street": street, "junction": junction}
        where = "street = :street AND junction IN ('', :junction)"
        newest = (
            "WHERE a.street = :street AND a.junction IN ('', :junction) "
            "ORDER BY a.number DESC LIMIT :limit"
        )
        now = [e for e in self._now(where, **values) if e.label and not e.fault]
        return self._entries(HISTORY + newest, limit=limit, **values), now

    def _now(self, where: str, **values: Any) -> Sequence[ModelAlias]:
        newest = (
            "WHERE a.number IN (SELECT max(number) FROM model_alias "
            f"WHERE {where} GROUP BY street, junction, alias) ORDER BY a.number"
        )
        return self._entries(HISTORY + newest, **values)

    def _entries(self, query: str, **values: Any) -> Sequence[ModelAlias]:
        found = []
        for row in self._database.rows(query, **values):
            kept = {k: row.pop(k) for k in ("key", "signature", "label")}
            fault = self._fault("alias", row, kept["key"], kept["signature"])
            found.append(ModelAlias(**row, label=kept["label"], fault=fault))
        return found

    def _versions(self, where: str, **values: Any) -> Sequence[ModelVersion]:
        found = []
        for row in self._database.rows(f"SELECT {COLUMNS} FROM model_version {where}", **values):
            key, signature = row.pop("key"), row.pop("signature")
            fault = self._fault("version", row, key, signature)
            if fault and key != self._key_name:
                file = self._files.path(row["sha256"])
                fault += f"; or register its file anew: headway registry add {file}"
            found.append(_version(row, fault))
        return found

    @contextlib.contextmanager
    def _numbering(self) -> Iterator[sa.Connection]:
        """A transaction in which nobody else gives numbers."""
        with self._database.engine.begin() as held:
            held.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            yield held

    def _signed(self, what: str, row: dict[str, Any]) -> dict[str, str]:
        return {"key": self._key_name, "signature": self._signature(what, row)}

    def _signature(self, what: str, row: dict[str, Any]) -> str:
        """Over all of a row, its number included: nothing of it fits in the place of another."""
        said = {k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in row.items()}
        text = json.dumps([what, said], sort_keys=True, default=datetime.isoformat)
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()

    def _fault(self, what: str, row: dict[str, Any], key: str, signature: str) -> str:
        if key != self._key_name:
            return (
                f"was signed by another installation, or with another HEADWAY_SECRET_KEY (key {key}"
                "): give that one, or its DATA/models.key"
            )
        is_it = hmac.compare_digest(self._signature(what, row), signature)
        return "" if is_it else "was altered in the database: restore it from a backup"


def require_name(name: str) -> None:
    """Raises ValueError where a model cannot be called so."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"name {name[:LONGEST_NAME]!r}: give 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter "
            "or digit first."
        )


def signing_key(folder: Path, secret: str = "") -> bytes:
    """What rows are signed with, 32 bytes: derived from the service's secret, else the key in
    `DATA/models.key`, which is made where it is missing, for this user alone.

    Raises ValueError for a damaged file, OSError.
    """
    if secret:
        return hmac.new(secret.encode(), b"headway model registry", "sha256").digest()
    path = folder / "models.key"
    if not path.exists():
        _make_key(path)
    try:
        key = bytes.fromhex(path.read_text())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError(f"{path}: is damaged. Put it back from a copy.")
    return key


def _make_key(path: Path) -> None:
    """Of two processes at once, one makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(8)}.draft")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(secrets.token_hex(32))
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _version(row: dict[str, Any], fault: str) -> ModelVersion:
    notes = {k: json.loads(row[k]) for k in ("made_from", "metrics")}
    return ModelVersion(**(row | notes), fault=fault)


def _sound(version: ModelVersion) -> ModelVersion:
    if version.fault:
        raise ModelFaultError(f"{version.label} {version.fault}.")
    return version


def _text(name: str, note: dict[str, Any]) -> str:
    try:
        text = json.dumps(note, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: cannot be written as JSON ({error}). Give texts and finite numbers."
        ) from error
    if len(text.encode()) > LARGEST_NOTE_BYTES:
        raise ValueError(f"{name}: is larger than {LARGEST_NOTE_BYTES >> 20} MiB as JSON.")
    return text


def _are_askable(*texts: str | None) -> bool:
    """Whether the database can be asked for them: it refuses some letters, and nothing has them."""
    return all(text is None or text.isprintable() for text in texts)


def _require_place(what: str, name: str, shortest: int) -> None:
    if not shortest <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise ValueError(
            f"{what} {name[:LONGEST_NAME]!r}: give {shortest} to {LONGEST_NAME} letters that can "
            "be printed."
        )
