"""Reading the settings: built-in defaults, then a YAML file, then variables of the environment.
Every fault is named with its path; a file is followed while the program runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings.exceptions import SettingsError as VariableError
from yaml.constructor import ConstructorError

from headway.settings.base import OLD_KEYS, with_new_keys
from headway.settings.tree import RESTART_ONLY, BothNamesError, Settings

LARGEST_FILE_BYTES = 1 << 20
MOST_VALUES = 10_000
TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"  # of YAML: a text, the key <<
LONGEST_SHOWN = 200  # characters of a value in a fault
# The usual variables, and the ones of Headway for which they stand; these win.
ALIASES = {
    "ENVIRONMENT": "HEADWAY_ENVIRONMENT",
    "LOG_LEVEL": "HEADWAY_LOG__LEVEL",
    "DATABASE_URL": "HEADWAY_DATABASE_URL",
    "REDIS_URL": "HEADWAY_REDIS_URL",
    "SECRET_KEY": "HEADWAY_SECRET_KEY",
}
SECRETS = ("secret", "password", "bearer_token")  # never repeated in a fault, which goes to logs
# variables that may be given as the path of a file that holds the value: NAME_FILE
IN_FILES = ("HEADWAY_DATABASE_URL", "HEADWAY_REDIS_URL", "HEADWAY_SECRET_KEY")
LARGEST_SECRET_BYTES = 1 << 16
# nor what is given here, of which any part may be a password or an address with a token
PRIVATE = (("notify",), ("external", "mqtt"))


class SettingsError(ValueError):
    """The settings cannot be used; the message lists every fault with its path."""


def use_aliases(variables: MutableMapping[str, str]) -> None:
    """Give each variable of Headway that is not set the value of its alias."""
    for alias, name in ALIASES.items():
        if value := variables.get(alias, ""):
            variables.setdefault(name, value)


def read_secret_files(variables: MutableMapping[str, str]) -> None:
    """Put the content of the file in the place of each variable NAME_FILE: of IN_FILES, their
    aliases, and the keys of SECRETS in any section (HEADWAY_NOTIFY__MAIL__PASSWORD_FILE). So that
    secrets need not stand in the environment that others may read. An end of line is no part of the
    value. Raises SettingsError, which repeats nothing of what the file holds.
    """
    for given in sorted(variables):
        name = given.removesuffix("_FILE")
        if name == given or not _may_be_in_a_file(name):
            continue
        if name in variables:
            raise SettingsError(f"{given}: {name} is given, too. Give one of the two.")
        variables[name] = _secret_in(given, Path(variables[given]))
        del variables[given]


def _may_be_in_a_file(name: str) -> bool:
    is_key = name.startswith("HEADWAY_") and name.lower().rpartition("__")[2] in SECRETS
    return is_key or ALIASES.get(name, name) in IN_FILES


def _secret_in(variable: str, path: Path) -> str:
    """Raises SettingsError."""
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_SECRET_BYTES + 1)
        value = content.decode().rstrip("\r\n")
    except OSError as error:
        raise SettingsError(
            f"{variable}: {path} cannot be read ({error.strerror}). Give the path of a file that "
            "holds the value alone, and that this user may read."
        ) from error
    except UnicodeDecodeError:  # without it as a cause, which has the content
        value = ""
    if not value or len(content) > LARGEST_SECRET_BYTES or not value.isprintable():
        raise SettingsError(
            f"{variable}: {path} must hold one line of text, of {LARGEST_SECRET_BYTES >> 10} KiB "
            "at most: the value alone."
        )
    return value


def log_level(settings: Settings) -> str:
    """In development everything is logged, unless the settings name a level."""
    is_given = "level" in settings.log.model_fields_set
    if settings.environment == "development" and not is_given:
        return "debug"
    return settings.log.level


def load(
    path: str | Path | None = None, defaults: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """Read the settings from the YAML file `path` (none: defaults and variables alone). defaults:
    by section and key, in place of the built-in ones. Raises SettingsError.
    """
    tree = {} if path is None else read_tree(Path(path))
    for section, values in (defaults or {}).items():
        given = tree.get(section, {})
        if isinstance(given, Mapping):
            taken = {OLD_KEYS.get(section, {}).get(key, key) for key in given}
            left = {key: value for key, value in values.items() if key not in taken}
            tree[section] = left | dict(given)
    return checked(tree, path)


class _Loader(yaml.SafeLoader):
    """One that names the place of a value that is not what its tag says (`!!bool 5`), which raises
    errors of many kinds, with the value in their text; and that reads no more values than there may
    be: a megabyte of them would take 18 s.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path.read_text(encoding="utf-8"))
        self._path = path
        self._count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._count += 1
        if self._count > MOST_VALUES:
            raise _too_many(self._path)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise ConstructorError(
                problem=f"the value there is no {kind}", problem_mark=node.start_mark
            ) from error


def read_tree(path: Path) -> dict[Any, Any]:
    """The sections of a file, small and without tricks. Raises SettingsError."""
    try:
        if path.exists() and not path.is_file():
            raise SettingsError(f"{path}: is no file. Give the path of a YAML file.")
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise SettingsError(
                f"{path}: is larger than {LARGEST_FILE_BYTES >> 10} KiB, too large for settings."
            )
        text = _Loader(path)
        node = text.get_single_node()
        _check_nodes(path, node)
        tree = text.construct_document(node) if node is not None else None
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}). Give the path of a YAML file."
        ) from error
    except SettingsError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: is no YAML ({_yaml_fault(error)}).") from error
    if tree is None:  # an empty file
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(
            f"{path}: must hold a mapping of sections, holds a {type(tree).__name__}."
        )
    return tree


def _too_many(path: Path) -> SettingsError:
    return SettingsError(
        f"{path}: holds more than {MOST_VALUES} values, too many for settings (aliases count each "
        "time)."
    )


def _yaml_fault(error: Exception) -> str:
    """Where and what, without the lines themselves, which may hold secrets."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return _brief(error)
    problem = getattr(error, "problem", None) or "it cannot be understood"
    # a password may begin with one of the characters for these
    problem = re.sub(r"(alias|anchor|tag|tag handle) '.*'", r"\1", problem)
    return f"line {mark.line + 1}, column {mark.column + 1}: {_brief(problem)}"


def _check_nodes(path: Path, root: yaml.Node | None) -> None:
    """Aliases may stand for millions of values; a key given twice hides one of its values. Raises
    SettingsError. Takes every key as the text that stands there.
    """
    waiting, count = [root] if root is not None else [], 0
    while waiting:
        node = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            raise _too_many(path)
        if isinstance(node, yaml.MappingNode):
            _take_keys_as_text(node)
            _refuse_double_keys(path, node)
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _take_keys_as_text(node: yaml.MappingNode) -> None:
    """Keys are names: 0x1, 1 and 01 are three junctions, where YAML reads one number."""
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
            key.tag = TEXT


def _refuse_double_keys(path: Path, node: yaml.MappingNode) -> None:
    before = set[str]()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
            continue
        if key.value in before:
            raise SettingsError(
                f"{path}: line {key.start_mark.line + 1}: {_brief(key.value)} is given twice in "
                "one section. Give it once."
            )
        before.add(key.value)


def _brief(value: object) -> str:
    """On one line, and not at length."""
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def checked(tree: dict[str, Any], path: str | Path | None = None) -> Settings:
    """The settings of a tree of sections; `path` is named in faults. Raises SettingsError with
    every fault.
    """
    refuse_unknown_variables(os.environ)
    for name in map(str, tree):
        if name.startswith("_"):  # pydantic's own arguments: other files, the command line
            raise SettingsError(
                f"{path or 'settings'}: {_brief(name)}: unknown key. Known here: "
                f"{', '.join(_known(()))}."
            )
    try:
        return Settings(**{str(name): section for name, section in tree.items()})
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(path, e) for e in error.errors())) from error
    except BothNamesError as error:
        raise SettingsError(f"{error.source or path or 'settings'}: {error.text}") from error
    except VariableError as error:
        raise SettingsError(
            f"a variable HEADWAY_...: {error}. Give its value as JSON, or one variable a key "
            "(HEADWAY_LOOP__TICK_S)."
        ) from error


def refuse_unknown_variables(variables: Mapping[str, str]) -> None:
    """Raises SettingsError for a variable HEADWAY_SECTION__KEY of a section that does not exist; of
    the keys of others the settings themselves know.
    """
    for name in sorted(variables):
        section, separator, _ = name.upper().removeprefix("HEADWAY_").partition("__")
        is_ours = name.upper().startswith("HEADWAY_") and separator
        if is_ours and section.lower() not in Settings.model_fields:
            raise SettingsError(
                f"{name}: unknown section. Known: {', '.join(Settings.model_fields)}."
            )


def overridden(settings: Settings, changes: Mapping[str, Mapping[str, Any]]) -> Settings:
    """`settings` with `changes` (by section and key), as given on a command line, over file and
    variables. Raises SettingsError.
    """
    if unknown := sorted(changes.keys() - Settings.model_fields.keys()):
        raise SettingsError(
            f"settings: {unknown[0]}: unknown key. Known here: {', '.join(_known(()))}."
        )
    sections = {}
    for name, values in changes.items():
        old = getattr(settings, name)
        try:
            sections[name] = type(old).model_validate(
                old.model_dump() | with_new_keys(name, values)
            )
        except ValidationError as error:
            raise SettingsError(
                "\n".join(_fault(None, e | {"loc": (name, *e["loc"])}) for e in error.errors())
            ) from error
        except PydanticCustomError as error:
            raise SettingsError(f"settings: {name}: {error}.") from error
    return settings.model_copy(update=sections)


def _fault(path: str | Path | None, error: Any) -> str:
    location = error["loc"]
    where = ".".join(_brief(part) if _is_key(part) else "(a key)" for part in location)
    path = _variable(location) or path
    if error["type"] == "extra_forbidden":
        known = _known(location[:-1])
        return f"{path or 'settings'}: {where}: unknown key. Known here: {', '.join(known)}."
    if error["type"] == "missing":
        return f"{path or 'settings'}: {where}: is required, but missing."
    if not location:
        return f"{path or 'settings'}: {error['msg']}."
    return (
        f"{path or 'settings'}: {where}: {_shown(location, error['input'])} is not allowed: "
        f"{error['msg'][0].lower()}{error['msg'][1:]}."
    )


def _is_key(part: object) -> bool:
    """And no address that stands in its place, which may hold a password."""
    return "://" not in str(part)


def _variable(location: tuple[str | int, ...]) -> str:
    """The variable that a value comes from; empty where there is none."""
    name = "HEADWAY_" + "__".join(str(part) for part in location).upper()
    if name not in os.environ:
        return ""
    alias = next((a for a, n in ALIASES.items() if n == name and a in os.environ), "")
    return f"the variable {alias or name}"


def _shown(location: tuple[str | int, ...], value: object) -> str:
    """Not at length, and not if a secret may be within: a number is none, unless it stands where
    one belongs.
    """
    is_private = location[-1] in SECRETS or any(location[: len(p)] == p for p in PRIVATE)
    is_number = isinstance(value, int | float) and location[-1] not in SECRETS
    text = repr(value)
    has_secret = any(secret in text.lower() for secret in SECRETS) or "://" in text
    return "the value" if not is_number and (is_private or has_secret) else _brief(text)


def _known(location: tuple[str | int, ...]) -> list[str]:
    model: Any = Settings
    for part in location:
        # a number is a place in a list, and another name one of a mapping
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            model = next(
                (
                    a
                    for a in get_args(annotation)
                    if isinstance(a, type) and issubclass(a, BaseModel)
                ),
                annotation,
            )
    return sorted(model.model_fields)


class _Stamp(NamedTuple):
    """What tells a file from what it was before; a file put in its place may have the same time and
    size (`rsync -t`, a package whose files are all of one date).
    """

    modified_ns: int
    changed_ns: int
    number: int
    size: int


NO_FILE = _Stamp(0, 0, 0, -1)


class Watched:
    """Settings that follow their file while the program runs. A faulty file changes nothing; the
    fault is kept in `fault`. waiting: sections of RESTART_ONLY that the file has changed, which
    wait for the next start.

    changes: what stands over the file, by section and key; defaults: what stands under it.
    check:   raises ValueError for settings that cannot be used, beyond what their types say.
    instead: in force where the file is faulty from the start; without them that raises
        SettingsError.
    """

    def __init__(
        self,
        path: str | Path,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        defaults: Mapping[str, Mapping[str, Any]] | None = None,
        check: Callable[[Settings], object] | None = None,
        instead: Settings | None = None,
    ) -> None:
        self._path, self._changes, self._defaults = Path(path), changes or {}, defaults or {}
        self._check = check
        self._stamp = self._seen = self._read_stamp()
        self.fault = ""
        try:
            self.current = self._load()
        except SettingsError as error:
            if instead is None:
                raise
            self.current, self.fault = instead, str(error)
        self.waiting: tuple[str, ...] = ()

    def _load(self) -> Settings:
        """Raises SettingsError."""
        settings = overridden(load(self._path, self._defaults), self._changes)
        if self._check is not None:
            try:
                self._check(settings)
            except ValueError as error:
                raise SettingsError(f"{self._path}: {error}") from error
        return settings

    def refresh(self) -> tuple[str, ...]:
        """Read the file again if it changed, and then stayed as it is until this call. Returns the
        sections that changed and are now in force.

        Sections of RESTART_ONLY keep their value until the next start, see `waiting`.
        """
        stamp, seen = self._read_stamp(), self._seen
        self._seen = stamp
        if stamp == self._stamp or stamp != seen:  # while it is being written, it is not read
            return ()
        self._stamp = stamp
        if stamp.size == 0:  # cut by an editor or a full disk: nobody asks for all defaults so
            self.fault = f"{self._path}: is empty. Write {{}} where the defaults are to hold."
            return ()
        try:
            new = self._load()
        except SettingsError as error:
            self.fault = str(error)
            return ()
        held = tuple(s for s in RESTART_ONLY if getattr(new, s) != getattr(self.current, s))
        self.fault, self.waiting = "", held
        new = new.model_copy(update={s: getattr(self.current, s) for s in held})
        changed = tuple(
            s for s in Settings.model_fields if getattr(new, s) != getattr(self.current, s)
        )
        self.current = new
        return changed

    def refuse(self, in_force: Settings, fault: str) -> None:
        """What `refresh` found does not fit where it was to be used: `in_force` stays, with which
        the next file is compared.
        """
        self.current, self.fault = in_force, fault

    def _read_stamp(self) -> _Stamp:
        try:
            status = self._path.stat()
        except OSError:
            return NO_FILE
        return _Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
