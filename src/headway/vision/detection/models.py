"""Known detection models: where they come from, under which licence, and the hash that a file must
have.
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from headway.vision import SensingError

CHUNK_BYTES = 1 << 16
SILENT_S = 30.0  # s without an answer, then the download has failed


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file. sha256: empty where the publisher changes it; such a model is not fetched, only
    used from a file of yours.
    """

    name: str
    url: str
    licence: str
    sha256: str
    about: str


RELEASE = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
MODELS = (
    ModelFile(
        "yolox_nano",
        f"{RELEASE}/yolox_nano.onnx",
        "Apache-2.0 (Megvii)",
        "e8af074932d4ed7e232278e3055cefcdea3edf178874a3694ae292649fb464dd",
        "80 COCO classes, 416 x 416, 3.7 MB; 10 to 25 ms a frame on a processor",
    ),
)


def known(name: str) -> ModelFile:
    """Raises SensingError for an unknown name."""
    for model in MODELS:
        if model.name == name:
            return model
    raise SensingError(
        f"no model {name!r}. There are: {', '.join(m.name for m in MODELS)}; or give a file "
        "of your own."
    )


def file_sha256(path: Path) -> str:
    """SHA-256, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(model: ModelFile, path: Path) -> None:
    """Raises SensingError if the file is not what it should be."""
    if not path.exists():
        raise SensingError(
            f"{path}: it is not there. Fetch it: `headway models fetch {model.name}`"
        )
    found = file_sha256(path)
    if found != model.sha256:
        raise SensingError(
            f"{path}: its sha256 is {found}, it should be {model.sha256}. Delete it and fetch "
            "it again."
        )


def fetch(
    model: ModelFile,
    folder: Path,
    url: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Download, or resume a download that broke; the file gets its name only when its hash is
    right. progress: called with bytes so far and in all.

    Raises SensingError with what to do, when the server does not answer, breaks off, or sends
    something else (which is then deleted).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.name}.onnx"
    part = folder / f"{model.name}.onnx.part"
    url = url or model.url
    if path.exists() and file_sha256(path) == model.sha256:
        return path
    try:
        done, size = _download(url, part, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)  # it is as long as the whole file, and yet not it
        raise SensingError(
            f"{url}: the server answers {error.code}. Try again later, or put the file at "
            f"{path} yourself."
        ) from error
    except (OSError, ValueError) as error:
        raise SensingError(
            f"{url}: {error}. Nothing is lost: the same command resumes where it broke off; or "
            f"put the file at {path} yourself."
        ) from error
    if size and done < size:
        raise SensingError(
            f"{url}: it broke off after {done} of {size} bytes. The same command resumes there."
        )
    found = file_sha256(part)
    if found != model.sha256:
        part.unlink()
        raise SensingError(
            f"{url}: the file received has the sha256 {found}, not {model.sha256}. It was deleted: "
            "another file may have been put there."
        )
    part.replace(path)
    return path


def _download(url: str, part: Path, progress: Callable[[int, int], None] | None) -> tuple[int, int]:
    """Add to a part what is missing, or write it anew; how many bytes there are, and how many there
    should be (0 where the server does not say).
    """
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=SILENT_S) as answer:
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            done = 0
        size = done + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if done else "wb") as out:
            while chunk := answer.read(CHUNK_BYTES):
                out.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, size)
    return done, size
