"""Lambda's Invoke with the real boto3 client."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Server
from tests.gateway.lambda_client import code, make_client

SOURCE = """
import sys

def handler(event, context):
    print("seen", event)
    return {
        "event": event,
        "id": context.aws_request_id,
        "name": context.function_name,
        "memory": context.memory_limit_in_mb,
        "arn": context.invoked_function_arn,
        "left": context.get_remaining_time_in_millis(),
        "custom": context.client_context.custom if context.client_context else None,
    }

def fail(event, context):
    raise KeyError("no such thing")

def large(event, context):
    return "x" * event
"""


@pytest.fixture(scope="module")
def client(twin: Server) -> Any:
    twin.deploy("echo", SOURCE, memory=256, timeout=7)
    twin.deploy("fail", SOURCE, "function.fail")
    twin.deploy("large", SOURCE, "function.large")
    return make_client(twin.url)


@pytest.fixture(autouse=True)
def _no_profile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield


def test_request_and_response(client: Any) -> None:
    event = {"deep": [1, 2.5, None, "ü"]}
    context = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
    answer = client.invoke(FunctionName="echo", Payload=json.dumps(event), LogType="Tail", ClientContext=context)
    told = json.load(answer["Payload"])
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
    assert told["event"] == event
    assert told["id"] == answer["ResponseMetadata"]["RequestId"]
    assert (told["name"], told["memory"], told["custom"]) == ("echo", 256, {"k": "v"})
    assert told["arn"].endswith(":function:echo")
    assert 0 < told["left"] <= 7000
    log = base64.b64decode(answer["LogResult"]).decode()
    assert f"START RequestId: {told['id']}" in log and "seen {'deep'" in log and "REPORT" in log


@pytest.mark.parametrize(
    "name", ["echo", "echo:$LATEST", "function:echo", "arn:aws:lambda:local:000000000000:function:echo"]
)
def test_names(client: Any, name: str) -> None:
    assert json.load(client.invoke(FunctionName=name)["Payload"])["event"] == {}


def test_a_function_error_is_a_result(client: Any) -> None:
    answer = client.invoke(FunctionName="fail")
    told = json.load(answer["Payload"])
    assert answer["StatusCode"] == 200 and answer["FunctionError"] == "Unhandled"
    assert (told["errorType"], told["errorMessage"]) == ("KeyError", "'no such thing'")
    assert told["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert 'File "/' in told["stackTrace"][-1] and "in fail" in told["stackTrace"][-1]
    assert "kasoku_runner" not in "".join(told["stackTrace"])


def test_no_such_function(client: Any) -> None:
    for name in ("absent", "echo:3"):
        with pytest.raises(client.exceptions.ResourceNotFoundException, match=f"Function not found: {name}") as caught:
            client.invoke(FunctionName=name)
        assert code(caught)[1] == 404


def test_contradicting_qualifiers(client: Any) -> None:
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="contradicts"):
        client.invoke(FunctionName="echo:$LATEST", Qualifier="other")


def test_a_payload_over_6_mib(client: Any) -> None:
    at_limit = json.dumps("x" * (6 * 1024 * 1024 - 2))
    assert len(at_limit) == 6 * 1024 * 1024
    with pytest.raises(client.exceptions.RequestTooLargeException, match="6291456 bytes") as caught:
        client.invoke(FunctionName="large", Payload=at_limit + " ")
    assert code(caught) == ("RequestTooLargeException", 413)
    answer = client.invoke(FunctionName="large", Payload=at_limit)
    assert json.load(answer["Payload"])["errorType"] == "TypeError", "at the limit it reaches the function"


def test_a_result_over_6_mib(client: Any) -> None:
    fits = client.invoke(FunctionName="large", Payload=str(6 * 1024 * 1024 - 2))
    assert len(fits["Payload"].read()) == 6 * 1024 * 1024
    told = json.load(client.invoke(FunctionName="large", Payload=str(6 * 1024 * 1024))["Payload"])
    assert told["errorType"] == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize("payload", [b"{", b"nope", b'{"a":1}x', b'"\xff"', b"[" * 100000, b"NaN"])
def test_a_payload_that_is_not_json(client: Any, payload: bytes) -> None:
    with pytest.raises(client.exceptions.InvalidRequestContentException, match="parse request body") as caught:
        client.invoke(FunctionName="echo", Payload=payload)
    assert code(caught)[1] == 400


def test_invocation_types(client: Any) -> None:
    assert client.invoke(FunctionName="echo", InvocationType="DryRun")["StatusCode"] == 204
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="'Odd' is unknown"):
        client.invoke(FunctionName="echo", InvocationType="Odd")


@pytest.mark.parametrize("context", ["%%%", "e30", base64.b64encode(b"[1]").decode()])
def test_a_client_context_that_cannot_be_read(client: Any, context: str) -> None:
    with pytest.raises(client.exceptions.InvalidRequestContentException, match="client context"):
        client.invoke(FunctionName="echo", ClientContext=context)
