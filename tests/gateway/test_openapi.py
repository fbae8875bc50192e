"""Requests that Schemathesis makes of the OpenAPI document: whatever is sent, the answer is one that it knows."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from kasoku.gateway.openapi import ROUTES, document
from tests.conftest import Server

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 12
SECONDS = 20.0


@pytest.fixture(scope="module")
def deployed(twin: Server) -> Iterator[Server]:
    twin.deploy("0", "def handler(event, context):\n    yield event\n")
    yield twin


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_operation_answers_as_the_document_says(deployed: Server, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_dict(document())

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy())
    def sent(case: Any) -> None:
        response = case.call(base_url=deployed.url, timeout=SECONDS)
        case.validate_response(response, checks=CHECKS)

    sent()
    assert deployed.process.poll() is None
