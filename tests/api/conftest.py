from __future__ import annotations

import pytest

from tests.api.service import serving


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("api")) as running:
        yield running
