"""A plain HTTP client of the gateway, on the standard library alone."""

import base64
import hashlib
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from kasoku.home import Home
from kasoku.sdk import wire
from kasoku.sdk.errors import KasokuError, ServiceError, raise_remote

URL_VARIABLE = "KASOKU_URL"
KEY_VARIABLE = "KASOKU_KEY"
"""A key of the gateway, `ID.SECRET` as `kasoku keys create` prints it."""
DETAIL_HEADER = "x-kasoku-detail"
BLOBS_HEADER = "x-kasoku-blobs"
"""The blobs that come along, in order: ids with commas between them."""
REUSE_SECONDS = 2.0
"""So long a connection may lie idle and still be used; the gateway closes one after five."""
_JSON = "application/json"
_BYTES = "application/octet-stream"
_NONE: Mapping[str, str] = MappingProxyType({})


class Answer(NamedTuple):
    """What came back of one invocation. `detail` is the whole envelope: request id, timings, instance, log."""

    result: Any
    detail: dict[str, Any]


class Gateway:
    """The address of a gateway. One connection for each thread, kept between requests."""

    def __init__(self, url: str, timeout: float | None = None, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise KasokuError(f"{url!r} is not the address of a gateway, such as http://127.0.0.1:8765")
        self.url = url
        self._key = key or os.environ.get(KEY_VARIABLE)
        self._host, self._port, self._timeout = parts.hostname, parts.port or 80, timeout
        self._local = threading.local()

    @classmethod
    def find(cls, home: str | Path | None = None, timeout: float | None = None) -> "Gateway":
        """The gateway that `$KASOKU_URL` names, else the one that runs on the state directory. Raises KasokuError."""
        if home is None and (url := os.environ.get(URL_VARIABLE)):
            return cls(url, timeout)
        where = Home.resolve(home)
        try:
            told = json.loads(where.gateway_file.read_text())
            return cls(told["url"], timeout, told.get("token"))
        except (OSError, ValueError, KeyError):
            raise KasokuError(f"no server runs on {where.path}; start one with `kasoku up`") from None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | memoryview | None = None,
        content_type: str = _JSON,
        headers: Mapping[str, str] = _NONE,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; status, headers (names in lower case) and body. Raises KasokuError when nobody answers."""
        try:
            response = self._send(method, path, body, content_type, headers)
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise KasokuError(f"the gateway at {self.url} does not answer: {error or type(error).__name__}") from error

    def json(self, method: str, path: str, value: Any = None) -> Any:
        """One request with JSON both ways. Raises ServiceError with what the gateway says is wrong."""
        body = None if value is None else json.dumps(value).encode()
        return json.loads(self._checked(method, path, body)[1] or b"null")

    def invoke(self, name: str, event: Any) -> Answer:
        """Invoke a function and wait. Arrays of NumPy travel as they lie, those beyond a payload in blobs.

        Raises FunctionError or ServiceError.
        """
        apart: list[memoryview] = []
        payload, frames = wire.encode(event, apart)
        wanted = {"Accept": wire.CONTENT_TYPE}
        if apart:
            wanted[BLOBS_HEADER] = ",".join(self.send_blob(data) for data in apart)
        content_type = wire.CONTENT_TYPE if frames else _JSON
        headers, data = self._checked("POST", _path(name, "invoke"), payload, content_type, wanted)
        if headers.get("content-type") != wire.CONTENT_TYPE:
            return _answer(json.loads(data))
        named = headers.get(BLOBS_HEADER)
        blobs = [memoryview(self.get_blob(id)) for id in named.split(",")] if named else []
        return Answer(wire.decode(data, blobs), json.loads(base64.b64decode(headers[DETAIL_HEADER])))

    def send_blob(self, data: bytes | memoryview) -> str:
        """See to it that the gateway has a blob; its id. Raises ServiceError."""
        id = hashlib.sha256(data).hexdigest()
        path = f"/v1/blobs/{id}"
        if self.request("HEAD", path)[0] != http.HTTPStatus.OK:
            self._checked("PUT", path, data, _BYTES)
        return id

    def get_blob(self, id: str) -> bytes:
        """A blob's bytes. Raises ServiceError."""
        return self._checked("GET", f"/v1/blobs/{quote(id, safe='')}", None)[1]

    def invoke_raw(self, name: str, payload: bytes) -> Answer:
        """As `invoke`, with the event as JSON text."""
        return _answer(json.loads(self._checked("POST", _path(name, "invoke"), payload)[1]))

    def spawn(self, name: str, event: Any) -> str:
        """Have a function run some time soon; the id of the call. Raises ServiceError."""
        return self.spawn_raw(name, json.dumps(event).encode())

    def spawn_raw(self, name: str, payload: bytes) -> str:
        """As `spawn`, with the event as JSON text."""
        return str(json.loads(self._checked("POST", _path(name, "spawn"), payload)[1])["id"])

    def stream(self, name: str, event: Any) -> Iterator[Any]:
        """Invoke a generator function and yield what it yields. Raises FunctionError or ServiceError."""
        connection = self._connect()
        try:
            connection.request("POST", _path(name, "stream"), json.dumps(event).encode(), self._headers(_JSON))
            response = connection.getresponse()
            if response.status >= http.HTTPStatus.BAD_REQUEST:
                headers = {k.lower(): v for k, v in response.getheaders()}
                raise _service_error(response.status, headers, response.read())
            while line := response.readline():
                told = json.loads(line)
                if "item" in told:
                    yield told["item"]
                elif error := told.get("error"):
                    raise_remote(error, told)
                else:
                    return
            raise KasokuError("the gateway broke off before the stream's end")
        except (OSError, http.client.HTTPException) as error:
            raise KasokuError(f"the gateway at {self.url} does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _checked(
        self,
        method: str,
        path: str,
        body: bytes | memoryview | None,
        content_type: str = _JSON,
        wanted: Mapping[str, str] = _NONE,
    ) -> tuple[dict[str, str], bytes]:
        status, headers, data = self.request(method, path, body, content_type, wanted)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise _service_error(status, headers, data)
        return headers, data

    def _send(
        self, method: str, path: str, body: bytes | memoryview | None, content_type: str, more: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        headers = {**self._headers(content_type if body is not None else None), **more}
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        # One that the gateway may have closed meanwhile is not tried: after a failure nobody knew what was done.
        if connection is None or time.monotonic() - self._local.used_at > REUSE_SECONDS:
            self._drop()
            connection = self._local.connection = self._connect()
        connection.request(method, path, body, headers)
        self._local.used_at = time.monotonic()
        return connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)

    def _drop(self) -> None:
        if connection := getattr(self._local, "connection", None):
            connection.close()
        self._local.connection = None

    def _headers(self, content_type: str | None) -> dict[str, str]:
        headers = {"Content-Type": content_type} if content_type else {}
        return {**headers, "Authorization": f"Bearer {self._key}"} if self._key else headers


def _path(name: str, verb: str) -> str:
    return f"/v1/functions/{quote(name, safe='')}:{verb}"


def _answer(detail: dict[str, Any]) -> Answer:
    if error := detail.get("error"):
        raise_remote(error, detail)
    return Answer(detail.pop("result"), detail)


def _service_error(status: int, headers: dict[str, str], data: bytes) -> ServiceError:
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data.decode(errors="replace")[:500] or f"HTTP status {status}"
    return ServiceError(headers.get("x-amzn-errortype", "ServiceException"), message, status)
