"""Structured logs: one line an event, for people or as JSON, on standard error and, on request, one
file a component.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
import threading
from pathlib import Path
from typing import Any

import structlog

from headway.telemetry.masking import mask_line

COMPONENTS = ("engine", "street", "safety", "training", "api", "store", "sensing", "cli")
LONGEST_FILE_BYTES = 10_000_000
FILES_KEPT = 5


def set_up(level: str = "info", json_lines: bool = False, folder: str = "") -> None:
    """Configure the logs of this process. `folder`: where each component's file goes, kept to five
    of 10 MB; empty for none.

    Raises OSError if the folder cannot be made.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_line,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    lines = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    root = logging.getLogger("headway")
    root.handlers.clear()
    root.setLevel(level.upper())
    root.propagate = False
    root.addHandler(_handler(logging.StreamHandler(sys.stderr), lines, shared))
    threading.excepthook = log_end_of_thread
    for component in COMPONENTS:
        logger = logging.getLogger(f"headway.{component}")
        for old in logger.handlers[:]:
            logger.removeHandler(old)
            old.close()
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            file = logging.handlers.RotatingFileHandler(
                Path(folder) / f"{component}.log",
                maxBytes=LONGEST_FILE_BYTES,
                backupCount=FILES_KEPT,
                delay=True,
            )
            logger.addHandler(_handler(file, structlog.processors.JSONRenderer(), shared))


def log(component: str) -> Any:
    """The log of a component: `log("street").info("restored", at_s=12.0)`. Raises ValueError for an
    unknown component.
    """
    if component not in COMPONENTS:
        raise ValueError(f"no component {component!r}. There are: {', '.join(COMPONENTS)}.")
    return structlog.get_logger(f"headway.{component}")


def log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    """For `threading.excepthook`: no thread ends with an error that nobody sees."""
    if ended.exc_value is None or isinstance(ended.exc_value, SystemExit):
        return
    name = ended.thread.name if ended.thread is not None else "unknown"
    log("engine").error(
        "a thread ended", thread=name, error=repr(ended.exc_value), exc_info=ended.exc_value
    )


def _handler(handler: logging.Handler, renderer: Any, shared: list[Any]) -> logging.Handler:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    return handler
