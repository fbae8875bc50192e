"""Errors over HTTP, as Lambda's clients read them: a status, `x-amzn-ErrorType`, and a JSON body with a message."""

import json
import logging
import math
import sqlite3
import uuid
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from kasoku.node.errors import PlatformError

_log = logging.getLogger(__name__)
STATUS = {
    "AccessDeniedException": HTTPStatus.FORBIDDEN,
    "InvalidParameterValueException": HTTPStatus.BAD_REQUEST,
    "InvalidRequestContentException": HTTPStatus.BAD_REQUEST,
    "IncompleteSignatureException": HTTPStatus.BAD_REQUEST,
    "InvalidSignatureException": HTTPStatus.FORBIDDEN,
    "InvalidZipFileException": HTTPStatus.BAD_REQUEST,
    "MissingAuthenticationTokenException": HTTPStatus.FORBIDDEN,
    "PreconditionFailedException": HTTPStatus.PRECONDITION_FAILED,
    "RequestTooLargeException": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "ResourceConflictException": HTTPStatus.CONFLICT,
    "ResourceNotFoundException": HTTPStatus.NOT_FOUND,
    "ServiceException": HTTPStatus.INTERNAL_SERVER_ERROR,
    "TooManyRequestsException": HTTPStatus.TOO_MANY_REQUESTS,
    "UnrecognizedClientException": HTTPStatus.FORBIDDEN,
}

Headers = list[tuple[bytes, bytes]]


def error_response(error: PlatformError, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an error."""
    status = STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    side = "User" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "Service"
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"x-amzn-errortype", error.code.encode()),
        (b"x-amzn-requestid", request_id.encode()),
    ]
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
    return status, headers, json.dumps({"Type": side, "message": error.message}).encode()


def fault(error: Exception) -> PlatformError:
    """What a client is told of an error that nobody expected: the disk's own words, else that there was one."""
    if isinstance(error, OSError):
        return PlatformError("ServiceException", f"the request cannot be carried out: {error.strerror or error}")
    if isinstance(error, sqlite3.Error):
        return PlatformError("ServiceException", f"the state cannot be written: {error}")
    return PlatformError("ServiceException", "an internal error, which the server's log has")


async def on_fault(request: Request, error: Exception) -> Response:
    """Starlette's handler for everything else."""
    id = str(uuid.uuid4())
    _log.error("%s %s: %s", request.method, request.url.path, error, extra={"requestId": id})
    return _respond(fault(error), id)


async def on_platform_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for PlatformError in a native route."""
    assert isinstance(error, PlatformError)
    return _respond(error, request.headers.get("x-amzn-requestid", ""))


def _respond(error: PlatformError, request_id: str) -> Response:
    status, headers, body = error_response(error, request_id)
    return Response(body, status, {k.decode(): v.decode() for k, v in headers})
