"""The OpenAPI document against the server by Schemathesis: no 5xx, no undocumented answer."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.api.service import serving

pytestmark = pytest.mark.slow

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


def test_no_request_breaks_the_contract(tmp_path):
    with serving(tmp_path) as running:
        schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
        headers = {"Authorization": f"Bearer {running.token('admin')}"}
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) > 30
        faults = []
        for operation in operations:
            if operation.path.startswith(("/stream/", "/api/v1/live/")):
                continue  # has no end

            @settings(
                max_examples=12,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
                database=None,
            )
            @given(case=operation.as_strategy())
            def holds(case):
                case.call_and_validate(headers=headers, checks=CHECKS, timeout=60)

            try:
                holds()
            except Exception as error:
                faults.append(f"{operation.method} {operation.path}: {str(error)[:600]}")
        if faults:
            pytest.fail("\n\n".join(faults))
