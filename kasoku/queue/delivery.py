"""POSTs the record of a call to an HTTP destination. Blocking; run in a worker thread.

The host's name is resolved once, every address is checked, and the checked address is the one connected to. Link-local
addresses are refused: there lie the metadata services of clouds, whose answers are credentials.
"""

import http.client
import ipaddress
import socket
import ssl
from urllib.parse import urlsplit

from kasoku.queue.model import Attempt

TIMEOUT_SECONDS = 15.0


def deliver(url: str, body: bytes, call_id: str) -> Attempt:
    """One try. An answer of 2xx is a success; 4xx but 408 and 429 will not get better."""
    try:
        status = _post(url, body, call_id)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _trouble(f"{url}: {error or type(error).__name__}", hopeless=isinstance(error, ValueError))
    if 200 <= status < 300:
        return Attempt(result=b"null")
    return _trouble(f"{url} answered with status {status}", hopeless=400 <= status < 500 and status not in (408, 429))


def _post(url: str, body: bytes, call_id: str) -> int:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an HTTP URL")
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_SECONDS)
    plain = _connect(parts.hostname, port)
    connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname) if tls else plain
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        host = parts.netloc.rpartition("@")[2]
        headers = {"Content-Type": "application/json", "Host": host, "Idempotency-Key": call_id}
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _connect(host: str, port: int) -> socket.socket:
    last: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        number = ipaddress.ip_address(str(address[0]).partition("%")[0])
        mapped = getattr(number, "ipv4_mapped", None)
        if number.is_link_local or number.is_multicast or (mapped is not None and mapped.is_link_local):
            raise ValueError(f"{number} is not an address that destinations may have")
        try:
            connected = socket.socket(family, kind, protocol)
            connected.settimeout(TIMEOUT_SECONDS)
            connected.connect(address)
            return connected
        except OSError as error:
            last = error
    raise last


def _trouble(message: str, *, hopeless: bool) -> Attempt:
    told = {"errorType": "DestinationError", "errorMessage": message}
    return Attempt(trouble=told, hopeless=hopeless)
