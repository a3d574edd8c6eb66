"""The container image: built from an empty store on a base of Debian's packages, and run as the
user that it names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.waiting import until

TREE = Path(__file__).parents[2]
NEEDED = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
WANTED = "HEADWAY_TEST_IMAGE"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(WANTED not in os.environ, reason="NOT ASKED FOR: `make test-image`"),
    pytest.mark.skipif(bool(NEEDED), reason=f"NOT HERE: Debian's {', '.join(NEEDED)}"),
    pytest.mark.skipif(os.getuid() != 0, reason="NOT ROOT: debootstrap needs it"),
]
PACKAGES = "python3,python3-venv,ca-certificates"
LARGEST_COMPRESSED = 400_000_000  # as a registry keeps it and a server pulls it
LARGEST = 1_300_000_000  # unpacked, with this base


class Store:
    """Of one run of the tests; nothing of it is left."""

    def __init__(self, folder):
        self.folder = folder
        self.places = ("--root", folder / "store", "--runroot", folder / "run")

    def buildah(self, *words, check=True, **more):
        command = [*map(str, ("buildah", *self.places, "--storage-driver", "vfs", *words))]
        environment = os.environ | {"TMPDIR": str(self.folder)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, **more)
        assert not check or done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done

    def build(self, base):
        """How pip of this machine finds packages, and whom it trusts, goes for the build too."""
        trusted = ["/etc/ssl/certs"] + [p for p in ("/etc/pip.conf",) if Path(p).exists()]
        mounts = [f"--volume={path}:{path}:ro" for path in trusted]
        self.buildah(
            "bud", "--isolation", "chroot", "--format", "docker", "--layers=false", "--pull-never",
            "--build-arg", f"BASE={base}", "--build-arg", "VERSION=1.2.3", *mounts,
            "-t", "localhost/headway", "-f", "deploy/image/Containerfile", ".", cwd=TREE,
        )  # fmt: skip


class Image:
    """A container of it. root: its files."""

    def __init__(self, store):
        self.store = store
        self.about = json.loads(
            store.buildah("inspect", "--type", "image", "localhost/headway").stdout
        )
        self.settings = self.about["Docker"]["config"]
        self.container = store.buildah("from", "--pull-never", "localhost/headway").stdout.strip()
        self.root = Path(store.buildah("mount", self.container).stdout.strip())

    def run(self, *words, check=True):
        user = ("--isolation", "chroot", "--user", self.settings["User"])
        return self.store.buildah("run", *user, self.container, "--", *words, check=check)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("image"))
    folder = store.folder / "base"
    bootstrap = [
        "debootstrap",
        "--variant=minbase",
        f"--include={PACKAGES}",
        "bookworm",
        str(folder),
    ]
    subprocess.run(bootstrap, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder / "var/cache/apt/archives")
    container = store.buildah("from", "scratch").stdout.strip()
    store.buildah("add", container, folder, "/")
    store.buildah("commit", "--rm", container, "localhost/base")
    store.build("localhost/base")
    yield Image(store)
    store.buildah("umount", "--all")
    store.buildah("rm", "--all")


def test_it_is_nobodys_and_says_what_it_is(image):
    settings = image.settings
    assert settings["User"] == "10001:10001"
    assert image.run("id", "-u").stdout.strip() == "10001"
    labels = settings["Labels"]
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert settings["Healthcheck"]["Test"] == ["CMD", "health"]
    assert (settings["Entrypoint"], settings["Cmd"][0]) == (["entrypoint"], "serve")
    assert not [word for word in settings["Env"] if "SECRET" in word or "PASSWORD" in word]


def test_it_can_change_nothing_of_itself_and_install_nothing(image):
    found = image.run(
        "find", "/", "-xdev", "-writable", "-not", "-type", "l", "-not", "-path", "/proc/*",
        "-not", "-path", "/dev/*", "-not", "-path", "/sys/*", check=False,
    ).stdout.split()  # fmt: skip
    places = ("/tmp", "/var/tmp", "/run/lock", "/var/lib/headway", "/var/backups/headway")
    assert [path for path in found if not path.startswith((*places, "/var/log/headway"))] == []
    assert image.run("python", "-c", "import pip", check=False).returncode != 0
    assert not list((image.root / "opt/headway").rglob("*.git"))
    assert not (image.root / "opt/tools").exists()


def plain(name):
    """A package's name as all spell it (PEP 503)."""
    return re.sub("[-_.]+", "-", name).lower()


def test_what_is_inside_is_listed(image):
    listed = json.loads((image.root / "opt/headway/sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    inside = {plain(part["name"]): part["version"] for part in listed["components"]}
    for line in (TREE / "requirements.lock").read_text().splitlines():
        name, separator, version = line.partition("==")
        if separator and ";" not in version:
            assert inside[plain(name)] == version.split()[0], line


def test_it_is_small_enough(image):
    packed = image.store.folder / "packed"
    with packed.open("wb") as out:
        with subprocess.Popen(["tar", "-C", image.root, "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(["gzip", "-6"], stdin=tar.stdout, stdout=out, check=True)
        assert tar.returncode == 0
    assert packed.stat().st_size < LARGEST_COMPRESSED
    size = int(subprocess.check_output(["du", "-sb", image.root]).split()[0])
    print(f"the image: {size / 1e6:.0f} MB, compressed {packed.stat().st_size / 1e6:.0f} MB")
    assert size < LARGEST


def test_the_main_job_runs_and_compiles_nothing_more(image):
    ran = image.run(
        "entrypoint", "run", "--scenario", "cologne1", "--controller", "planner",
        "--speed-factor", "0", "--until", "25260", "--data", "/tmp/run",
    )  # fmt: skip
    assert "25260" in ran.stdout

    def compiled(folder):
        return {p.name for p in (image.root / folder).rglob("*.nbc")}

    assert compiled("tmp/headway-compiled") == compiled("opt/headway/compiled") != set()


def test_it_serves_and_its_health_check_says_so(image):
    port = free_port()
    address = f"http://127.0.0.1:{port}/health/ready"
    assert image.run("health", address, check=False).returncode == 1
    words = ["serve", "--scenario", "", "--port", str(port), "--data", "/var/lib/headway/one"]
    command = [
        "buildah", *map(str, image.store.places), "--storage-driver", "vfs", "run",
        "--isolation", "chroot", "--user", image.settings["User"], image.container,
        "--", "entrypoint", *words,
    ]  # fmt: skip
    log = image.store.folder / "serve.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            until(lambda: image.run("health", address, check=False).returncode == 0, 300)
            assert json.loads(image.run("health", address).stdout)["ready"] is True
        finally:
            process.terminate()
            process.wait(60)
