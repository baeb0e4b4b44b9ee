"""The API server of a cluster: requests in its own words, each with a limit, and what its answers mean.

Objects are the dictionaries that it sends. To make models of a thousand pods takes seconds, and nothing needs them.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from quotas.backends.port import BackendAway

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
CALL_SECONDS = 15
CONNECT_SECONDS = 5
CONNECTIONS = 32
LARGEST_LINE_BYTES = 16 * 2**20


class ApiRefused(Exception):  # noqa: N818 - named for what the API server did
    """The API server will not do it: `status` is 404, 409 or another 4xx that says something of the request itself."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    """The API server that ``KUBECONFIG`` or the pod's own account names. It is connected to at the first call."""

    def __init__(self, call_seconds: float = CALL_SECONDS) -> None:
        self.call_seconds = call_seconds
        self._made: Any = None
        self._making = threading.Lock()

    def get(self, path: str, **query: str) -> Object:
        return self.call("GET", path, query=query)

    def find(self, path: str) -> Object | None:
        """Return the object, or None when the API server says that there is none."""
        try:
            return self.get(path)
        except ApiRefused as refused:
            if refused.status == 404:
                return None
            raise

    def post(self, path: str, body: Mapping[str, Any]) -> Object:
        return self.call("POST", path, body=body)

    def patch(self, path: str, body: Mapping[str, Any], content_type: str = MERGE) -> Object:
        return self.call("PATCH", path, body=body, content_type=content_type)

    def delete(self, path: str, **options: Any) -> None:
        """The object is deleted, or soon will be; one that is gone already is no matter."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
        with contextlib.suppress(Gone):
            self.call("DELETE", path, body=body)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Return the answer. Raises ApiRefused, and BackendAway for all that leaves open what there is."""
        found: Object = json.loads(self._text(method, path, query, body, content_type))
        return found

    def text(self, path: str, **query: str) -> bytes:
        """Return an answer that is no object, such as a log."""
        return self._text("GET", path, query, None, "application/json")

    def watch(self, path: str, silence_seconds: float, **query: str) -> Iterator[Object]:
        """Yield the events of a watch until it ends; the first is empty and says that it has begun.

        Raises BackendAway when nothing comes for `silence_seconds`.
        """
        with _answering():
            response = self._request("GET", path, {**query, "watch": "true"}, None, "", silence_seconds)
            try:
                if response.status != 200:
                    raise _what(response.status, response.read(LARGEST_LINE_BYTES))
                yield {}
                for line in _lines(response):
                    yield json.loads(line)
            finally:
                response.close()

    def close(self) -> None:
        """Give the connections back. The next call connects anew."""
        with self._making:
            if self._made is not None:
                self._made.rest_client.pool_manager.clear()
                self._made = None

    def _text(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None, content_type: str
    ) -> bytes:
        with _answering():
            response = self._request(method, path, query or {}, body, content_type, self.call_seconds)
            try:
                content: bytes = response.read()
            finally:
                response.release_conn()
        if response.status >= 300:
            raise _what(response.status, content)
        return content

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content_type: str,
        seconds: float,
    ) -> urllib3.HTTPResponse:
        client = self._client()
        headers = {"Accept": "application/json", **({"Content-Type": content_type} if body is not None else {})}
        method, url, headers, *_ = client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, auth_settings=["BearerToken"]
        )
        response: urllib3.HTTPResponse = client.rest_client.pool_manager.request(
            method,
            url,
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds),
            preload_content=False,
            retries=False,
        )
        return response

    def _client(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = _connect()
            return self._made


class Gone(ApiRefused):
    """The API server's 404, the one word that something is not there."""


def _connect() -> Any:
    # Loaded late, as others than the backend's users import this package.
    from kubernetes.client import ApiClient, Configuration  # noqa: PLC0415
    from kubernetes.config import load_incluster_config, load_kube_config  # noqa: PLC0415
    from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415

    configuration = Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise BackendAway(f"kubernetes: no cluster is known: {error}") from error
    return ApiClient(configuration)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError) as error:
        raise BackendAway(f"kubernetes: {error}") from error


def _what(status: int, content: bytes) -> Exception:
    """Return what to raise for an answer: of the request itself, or of an API server that cannot be asked now.

    Whom it does not know (401) or grants no right to ask (403) learns nothing of what there is. A 403 may also be the
    word of a rule of the cluster about the object, which names it.
    """
    try:
        answer = json.loads(content)
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", content[:300].decode("utf-8", "replace")
    no_right = status == 403 and ('User "' in message or "is forbidden:" not in message)
    if status >= 500 or status in (401, 408, 429) or status < 400 or no_right:
        return BackendAway(f"kubernetes: {status} {reason}: {message}")
    return (Gone if status == 404 else ApiRefused)(status, reason, message)


def _lines(response: urllib3.HTTPResponse) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(2**16):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)
        if len(rest) > LARGEST_LINE_BYTES:
            raise urllib3.exceptions.HTTPError("an event of the watch does not end")
