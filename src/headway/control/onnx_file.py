"""Networks from ONNX files, and a trial of one in a process of its own (`python -m` this module):
what it takes to load and run it is known before a street, between two ticks, does so.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ERRORS_ALONE = 3  # severity from which onnxruntime logs
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"  # its default: the cwd
LONGEST_S = 2.0  # of a processor, to be loaded and run once; a street stands meanwhile
MOST_MEMORY_BYTES = 3 << 30
TRIAL_WITHIN_S = 120.0  # wall time, on a busy machine
TOO_HEAVY = (
    f"takes more than {LONGEST_S:g} s of a processor or {MOST_MEMORY_BYTES >> 30} GiB to be loaded "
    "and run once. A street would stand meanwhile: give a smaller network"
)


def session(data: bytes, place: str) -> Any:
    """One thread: a street has one processor. Its weights are those of the file, which a sha256
    covers: beside it, there are none. Raises ValueError.
    """
    try:
        import onnxruntime as ort
    except ImportError:
        raise ValueError(
            f"{place}: needs onnxruntime. Install it: pip install onnxruntime"
        ) from None
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ALONE
    options.add_session_config_entry(WEIGHTS_FOLDER, os.devnull)  # a folder without files
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each fault
        raise ValueError(f"{place}: is no ONNX network ({first_line(error)}).") from error


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]


def require_light(path: Path, place: str) -> None:
    """It can be loaded, and run once, within bounds; where onnxruntime is not installed, nothing is
    tried. Raises ValueError.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(path)],
            capture_output=True, text=True, timeout=TRIAL_WITHIN_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"{place}: {TOO_HEAVY}.") from None
    if done.returncode == os.EX_OK:
        return
    if done.returncode == os.EX_DATAERR:
        raise ValueError(f"{place}: {done.stderr.strip().splitlines()[-1]}")
    raise ValueError(f"{place}: {TOO_HEAVY}.")  # it was ended, or raised for want of memory


def _trial(path: Path) -> int:
    """Exit status. The input's size is that of the file, or some, where any will do."""
    try:
        import onnxruntime  # noqa: F401 - loading it is no part of the network
    except ImportError:
        return os.EX_OK
    begun_s = time.process_time()
    cpu_s = int(begun_s + LONGEST_S) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    try:
        found = session(path.read_bytes(), "")
    except ValueError as error:
        print(str(error).removeprefix(": "), file=sys.stderr)
        return os.EX_DATAERR
    rows = {x.name: x.shape for x in found.get_inputs() if x.type == "tensor(float)"}
    sized = {n: [s if isinstance(s, int) else 1 for s in shape] for n, shape in rows.items()}
    try:
        found.run(None, {name: np.zeros(shape, np.float32) for name, shape in sized.items()})
    except Exception as error:  # whether its shapes fit is known on the street
        if "alloc" in str(error).lower():
            return os.EX_SOFTWARE
    return os.EX_OK if time.process_time() - begun_s <= LONGEST_S else os.EX_SOFTWARE


if __name__ == "__main__":
    sys.exit(_trial(Path(sys.argv[1])))
