"""Lambda's management API with the real boto3 client."""

import json
import sys
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import Server
from tests.gateway.lambda_client import code, make_client, zipped

RUNTIME = f"python3.{sys.version_info.minor}"
SOURCE = """
import os
def handler(event, context):
    return [{}, context.function_version, context.invoked_function_arn.rpartition("function:")[2],
            os.environ["AWS_LAMBDA_FUNCTION_VERSION"], os.environ.get("COLOUR"), context.accelerator]
"""


@pytest.fixture(scope="module")
def client(twin: Server) -> Any:
    return make_client(twin.url)


def create(client: Any, name: str, answer: object = 1, **more: Any) -> Any:
    arguments = {
        "Runtime": RUNTIME,
        "Role": "arn:aws:iam::000000000000:role/x",
        "Handler": "function.handler",
        "Code": {"ZipFile": zipped(SOURCE.format(answer))},
        **more,
    }
    return client.create_function(FunctionName=name, **arguments)


def call(client: Any, name: str, **more: Any) -> Any:
    answer = client.invoke(FunctionName=name, **more)
    told = json.load(answer["Payload"])
    assert "FunctionError" not in answer, told
    return told


def test_a_function_s_life(client: Any) -> None:
    made = create(client, "life", Environment={"Variables": {"COLOUR": "red"}}, Timeout=9, MemorySize=192)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["FunctionName"], made["Version"], made["State"]) == ("life", "$LATEST", "Active")
    assert (made["Timeout"], made["MemorySize"], made["Runtime"]) == (9, 192, RUNTIME)
    assert made["Environment"]["Variables"] == {"COLOUR": "red"}
    client.get_waiter("function_active_v2").wait(FunctionName="life")
    assert call(client, "life") == [1, "$LATEST", "life", "$LATEST", "red", None]
    got = client.get_function(FunctionName="life")["Configuration"]
    assert got == {key: made[key] for key in got}
    assert client.get_function_configuration(FunctionName="life")["CodeSha256"] == made["CodeSha256"]
    assert "life" in [f["FunctionName"] for f in client.list_functions()["Functions"]]
    with pytest.raises(client.exceptions.ResourceConflictException) as caught:
        create(client, "life")
    assert code(caught)[1] == 409
    client.update_function_code(FunctionName="life", ZipFile=zipped(SOURCE.format(2)))
    client.get_waiter("function_updated_v2").wait(FunctionName="life")
    assert call(client, "life")[0] == 2
    client.update_function_configuration(
        FunctionName="life", Environment={"Variables": {"COLOUR": "blue"}}, Description="new"
    )
    assert call(client, "life")[4] == "blue"
    got = client.get_function_configuration(FunctionName="life")
    assert (got["Description"], got["Timeout"], got["MemorySize"]) == ("new", 9, 192)
    client.delete_function(FunctionName="life")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName="life")


def test_versions_and_aliases(client: Any) -> None:
    create(client, "ver", 1, Publish=True)
    client.update_function_code(FunctionName="ver", ZipFile=zipped(SOURCE.format(2)))
    assert client.publish_version(FunctionName="ver", Description="two")["Version"] == "2"
    assert client.publish_version(FunctionName="ver")["Version"] == "2", "nothing changed"
    client.update_function_code(FunctionName="ver", ZipFile=zipped(SOURCE.format(3)))
    assert call(client, "ver", Qualifier="1") == [1, "1", "ver:1", "1", None, None]
    assert call(client, "ver:2")[:2] == [2, "2"]
    assert call(client, "ver")[:2] == [3, "$LATEST"]
    listed = client.list_versions_by_function(FunctionName="ver")["Versions"]
    assert [v["Version"] for v in listed] == ["$LATEST", "1", "2"]
    alias = client.create_alias(FunctionName="ver", Name="live", FunctionVersion="1")
    answer = client.invoke(FunctionName="ver", Qualifier="live")
    assert answer["ExecutedVersion"] == "1"
    assert json.load(answer["Payload"])[1:3] == ["1", "ver:live"]
    weights = {"AdditionalVersionWeights": {"2": 1.0}}
    client.update_alias(FunctionName="ver", Name="live", RoutingConfig=weights)
    assert call(client, "ver:live")[:2] == [2, "2"]
    with pytest.raises(client.exceptions.PreconditionFailedException):
        client.update_alias(FunctionName="ver", Name="live", FunctionVersion="2", RevisionId=alias["RevisionId"])
    with pytest.raises(client.exceptions.ResourceConflictException, match="in use by the alias 'live'"):
        client.delete_function(FunctionName="ver", Qualifier="2")
    client.update_alias(FunctionName="ver", Name="live", FunctionVersion="1", RoutingConfig={})
    client.delete_function(FunctionName="ver", Qualifier="2")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        call(client, "ver:2")
    assert client.get_alias(FunctionName="ver", Name="live")["FunctionVersion"] == "1"
    assert [a["Name"] for a in client.list_aliases(FunctionName="ver")["Aliases"]] == ["live"]
    client.delete_alias(FunctionName="ver", Name="live")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_alias(FunctionName="ver", Name="live")


def test_the_accelerator_rides_in_the_environment(client: Any) -> None:
    variables = {"KASOKU_ACCELERATOR": "opencl:gpu", "KASOKU_MAX_INSTANCES": "2", "COLOUR": "x"}
    made = create(client, "accel", Environment={"Variables": variables})
    assert made["Environment"]["Variables"] == variables
    assert call(client, "accel")[4:] == ["x", "opencl:twin:0"]
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="there is: opencl:intel:0"):
        create(client, "none", Environment={"Variables": {"KASOKU_ACCELERATOR": "opencl:fpga"}})


def test_reserved_concurrency(client: Any, twin: Server) -> None:
    create(client, "limited")
    client.put_function_concurrency(FunctionName="limited", ReservedConcurrentExecutions=0)
    assert client.get_function_concurrency(FunctionName="limited")["ReservedConcurrentExecutions"] == 0
    assert client.get_function(FunctionName="limited")["Concurrency"]["ReservedConcurrentExecutions"] == 0
    with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
        client.invoke(FunctionName="limited")
    assert code(caught)[1] == 429
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    client.delete_function_concurrency(FunctionName="limited")
    assert call(client, "limited")[0] == 1
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName="limited")


def test_event_invoke_configuration(client: Any) -> None:
    create(client, "asy")
    create(client, "sink")
    sink = client.get_function(FunctionName="sink")["Configuration"]["FunctionArn"]
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="EventInvokeConfig"):
        client.get_function_event_invoke_config(FunctionName="asy")
    client.put_function_event_invoke_config(
        FunctionName="asy",
        MaximumRetryAttempts=1,
        MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnSuccess": {"Destination": sink}},
    )
    client.update_function_event_invoke_config(FunctionName="asy", MaximumRetryAttempts=0)
    got = client.get_function_event_invoke_config(FunctionName="asy")
    assert (got["MaximumRetryAttempts"], got["MaximumEventAgeInSeconds"]) == (0, 60)
    assert got["DestinationConfig"] == {"OnSuccess": {"Destination": sink}}
    listed = client.list_function_event_invoke_configs(FunctionName="asy")["FunctionEventInvokeConfigs"]
    assert [c["FunctionArn"].rpartition("function:")[2] for c in listed] == ["asy:$LATEST"]
    client.delete_function_event_invoke_config(FunctionName="asy")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function_event_invoke_config(FunctionName="asy")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Runtime": "nodejs20.x"}, "not available; this machine has python3"),
        ({"Handler": "nodot"}, "module.function"),
        ({"MemorySize": 1}, "between 64"),
        ({"Timeout": 0}, "between 1"),
        ({"PackageType": "Image"}, "must be Zip"),
        ({"Architectures": ["arm64"]}, "x86_64"),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "key"}}, "as ZipFile"),
        ({"Layers": ["arn:aws:lambda:x:000000000000:layer:y:1"]}, "Layers is not supported"),
        ({"Environment": {"Variables": {"KASOKU_ACCELLERATOR": "x"}}}, "names with KASOKU_ are KASOKU_ACCELERATOR"),
        ({"Environment": {"Variables": {"KASOKU_IDLE_TIMEOUT": "x"}}}, "must be a number"),
        ({"Environment": {"Variables": {"9": "x"}}}, "not a variable's name"),
        ({"Description": "x" * 257}, "at most 256"),
    ],
)
def test_what_cannot_be_created(twin: Server, change: dict[str, Any], reason: str) -> None:
    client = make_client(twin.url, validate=False)
    with pytest.raises(client.exceptions.InvalidParameterValueException, match=reason) as caught:
        create(client, "bad", **change)
    assert code(caught)[1] == 400
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName="bad")


def test_code_that_is_no_zip(client: Any) -> None:
    with pytest.raises(ClientError, match="not a usable zip") as caught:
        create(client, "bad", Code={"ZipFile": b"PK"})
    assert code(caught) == ("InvalidZipFileException", 400)


def test_pages(client: Any) -> None:
    for number in range(3):
        create(client, f"page{number}")
    pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    names = [f["FunctionName"] for page in pages for f in page["Functions"]]
    assert names == sorted(names) and {"page0", "page1", "page2"} <= set(names)


def test_no_invocation_is_dropped_while_the_code_changes(client: Any) -> None:
    slow = "import time\ndef handler(event, context):\n    time.sleep(0.05)\n    return {}\n"
    create(client, "busy", Code={"ZipFile": zipped(slow.format(0))})
    seen: list[object] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            seen.append(call(client, "busy"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 4):
        client.update_function_code(FunctionName="busy", ZipFile=zipped(slow.format(number)))
        assert call(client, "busy") == number
    stop.set()
    for thread in threads:
        thread.join()
    assert all(isinstance(value, int) for value in seen) and {0, 3} <= set(seen)
