"""Copies of model files that several machines reach: a bucket or folder of any kind that fsspec
knows (`s3://bucket/prefix`), named by HEADWAY_MODELS_URL. Needs the extra `storage`.

What comes from there is believed by its content alone: a file has the name of its sha256.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from headway.telemetry.masking import masked

VARIABLE = "HEADWAY_MODELS_URL"


class StorageAwayError(OSError):
    """The storage does not answer, or does not take it: another time it may."""


class SharedFiles:
    """url: of the bucket or folder, without credentials: these are read from where the kind of
    storage looks for them (for S3 `AWS_...` or its files).

    Raises ValueError for one that cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = masked(url)  # in case they stand there all the same: errors name it
        try:
            from fsspec.core import url_to_fs

            self._storage: Any
            self._storage, self._root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise ValueError(
                f"{VARIABLE} is {self.url}, and that needs the extra `storage`: {error}"
            ) from error
        except Exception as error:  # each kind of storage has errors of its own
            raise ValueError(f"{VARIABLE} is {self.url}: {masked(str(error))}") from error

    @classmethod
    def named(cls) -> SharedFiles | None:
        """Those of the variable; None where it is not set. Raises ValueError."""
        url = os.environ.get(VARIABLE, "")
        return cls(url) if url else None

    def put(self, path: Path, sha256: str) -> None:
        """Copy a file there, whatever is there by that name. Raises StorageAwayError, also where
        there is no such bucket or folder: one that was misspelt is not made.
        """
        place = self._place(sha256)
        try:
            try:
                self._storage.put_file(str(path), place)
            except FileNotFoundError:  # buckets have no folders, others do
                self._storage.mkdir(place.rpartition("/")[0], create_parents=False)
                self._storage.put_file(str(path), place)
        except Exception as error:
            raise StorageAwayError(
                f"{self.url}: the file cannot be kept there: {_said(error)}"
            ) from error

    def get(self, sha256: str, path: Path, largest_bytes: int) -> None:
        """Copy what has that name to `path`. Raises FileNotFoundError where there is none, OSError
        for one that is too large, StorageAwayError; what is in `path` then is to be thrown away.
        """
        place = self._place(sha256)
        try:
            size = int(self._storage.size(place) or 0)
            if size <= largest_bytes:
                self._storage.get_file(place, str(path))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise StorageAwayError(f"{self.url}: the file cannot be had: {_said(error)}") from error
        if size > largest_bytes:
            raise OSError(f"{self.url}: the file is larger than {largest_bytes >> 20} MiB")

    def _place(self, sha256: str) -> str:
        return f"{self._root.rstrip('/')}/{sha256[:2]}/{sha256}"


def _said(error: Exception) -> str:
    return masked(str(error)) or type(error).__name__
