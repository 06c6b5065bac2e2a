"""A request as policies see it, and who sent it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The client. Empty text: unknown. `conflict`: the identity is ambiguous (the process that created
    the connection and the one that uses it differ), so conditions on it count against the request."""

    workload: str = ""
    namespace: str = ""
    principal: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    ip: str = ""
    conflict: bool = False


UNKNOWN_SOURCE = Source()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request head. `target` is path and query (origin-form); `headers` have lower-case names,
    keep their order and leave out Host, which is `authority`. `port` and `destination_ip` are the
    original destination of the connection."""

    port: int
    method: str
    target: str
    authority: str
    headers: tuple[tuple[str, str], ...] = ()
    source: Source = UNKNOWN_SOURCE
    scheme: str = "http"
    destination_ip: str = ""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query with its `?`, empty where there is none."""
        _, mark, query = self.target.partition("?")
        return mark + query


class RequestView:
    """A request with what conditions look up prepared once. `port` and `destination_ip` may be those of
    the endpoint instead of the connection's: authorization happens there."""

    __slots__ = ("_headers", "_parameters", "destination_ip", "path", "port", "query", "request", "source")

    def __init__(self, request: Request, port: int, destination_ip: str) -> None:
        self.request = request
        self.source = request.source
        self.port = port
        self.destination_ip = destination_ip
        self.path, _, self.query = request.target.partition("?")
        self._headers: dict[str, list[str]] | None = None
        self._parameters: dict[str, list[str]] | None = None

    def header(self, name: str) -> list[str] | None:
        """All values of a header in order, None where it is absent."""
        index = self._headers
        if index is None:
            index = self._headers = {}
            for key, value in self.request.headers:
                index.setdefault(key, []).append(value)
        return index.get(name)

    def parameter(self, name: str) -> list[str] | None:
        """All values of a query parameter in order, None where it is absent. As in Envoy nothing is
        decoded, and a parameter without `=` has an empty value."""
        index = self._parameters
        if index is None:
            index = self._parameters = {}
            if self.query:
                for part in self.query.split("&"):
                    key, _, value = part.partition("=")
                    index.setdefault(key, []).append(value)
        return index.get(name)
