"""A real RTSP server, by GStreamer, for the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

PYTHON = "/usr/bin/python3"
BINDINGS = [PYTHON, "-c", "import gi; gi.require_version('GstRtspServer', '1.0')"]
HAS_RTSP = Path(PYTHON).exists() and subprocess.run(BINDINGS, capture_output=True).returncode == 0


def rtsp(port):
    process = subprocess.Popen(
        [PYTHON, Path(__file__).with_name("rtsp_server.py"), str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "ready"
    return process


def stop(server):
    server.kill()
    server.wait()
    server.stdout.close()
