"""A plain HTTP client of the gateway, on the standard library alone."""

import http.client
import json
import os
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from kasoku.home import Home
from kasoku.sdk.errors import FunctionError, KasokuError, ServiceError

URL_VARIABLE = "KASOKU_URL"


class Answer(NamedTuple):
    """What came back of one invocation. `detail` is the whole envelope: request id, timings, instance, log."""

    result: Any
    detail: dict[str, Any]


class Gateway:
    """The address of a gateway. One connection per request: callers are scripts and command lines."""

    def __init__(self, url: str, timeout: float | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise KasokuError(f"{url!r} is not the address of a gateway, such as http://127.0.0.1:8765")
        self.url = url
        self._host, self._port, self._timeout = parts.hostname, parts.port or 80, timeout

    @classmethod
    def find(cls, home: str | Path | None = None, timeout: float | None = None) -> "Gateway":
        """The gateway that `$KASOKU_URL` names, else the one that runs on the state directory. Raises KasokuError."""
        if home is None and (url := os.environ.get(URL_VARIABLE)):
            return cls(url, timeout)
        where = Home.resolve(home)
        try:
            return cls(json.loads(where.gateway_file.read_text())["url"], timeout)
        except (OSError, ValueError, KeyError):
            raise KasokuError(f"no server runs on {where.path}; start one with `kasoku up`") from None

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """One request; status, headers (names in lower case) and body. Raises KasokuError when nobody answers."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise KasokuError(f"the gateway at {self.url} does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def json(self, method: str, path: str, value: Any = None) -> Any:
        """One request with JSON both ways. Raises ServiceError with what the gateway says is wrong."""
        body = None if value is None else json.dumps(value).encode()
        status, headers, data = self.request(method, path, body)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise _service_error(status, headers, data)
        return json.loads(data) if data else None

    def invoke(self, name: str, event: Any) -> Answer:
        """Invoke a function and wait. Raises FunctionError or ServiceError."""
        return self.invoke_raw(name, json.dumps(event).encode())

    def invoke_raw(self, name: str, payload: bytes) -> Answer:
        """As `invoke`, with the event as JSON text."""
        status, headers, data = self.request("POST", f"/v1/functions/{quote(name, safe='')}:invoke", payload)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise _service_error(status, headers, data)
        detail = json.loads(data)
        if error := detail.get("error"):
            raise FunctionError(error["errorType"], error["errorMessage"], error.get("stackTrace") or (), detail)
        return Answer(detail.pop("result"), detail)


def _service_error(status: int, headers: dict[str, str], data: bytes) -> ServiceError:
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data.decode(errors="replace")[:500] or f"HTTP status {status}"
    return ServiceError(headers.get("x-amzn-errortype", "ServiceException"), message, status)
