"""What a service port carries: declared by appProtocol or the port's name, as Istio reads them."""

from __future__ import annotations

from l7fp.frontend import kubernetes
from l7fp.frontend.lower.context import Context, Protocol, ServiceInfo

_BY_WORD = {
    **dict.fromkeys(("http", "grpc-web", "kubernetes.io/ws", "ws"), Protocol.HTTP),
    **dict.fromkeys(("http2", "grpc", "h2c", "kubernetes.io/h2c"), Protocol.HTTP2),
    **dict.fromkeys(
        ("https", "tls", "tcp", "udp", "mongo", "mysql", "redis", "kubernetes.io/wss", "wss"), Protocol.OPAQUE
    ),
}
_SERVER_FIRST = frozenset((25, 53, 3306, 5432, 6379, 27017))
"""Ports where, undeclared, nobody expects HTTP; waiting for the client to speak would block them."""


def kubernetes_protocol(port: kubernetes.ServicePort) -> tuple[Protocol, str]:
    """Protocol of a Service port and how it was declared."""
    if port.app_protocol is not None and port.app_protocol.value.lower() in _BY_WORD:
        word = port.app_protocol.value.lower()
        return _BY_WORD[word], word
    name = "" if port.name is None else port.name.value.lower()
    word = "grpc-web" if name.startswith("grpc-web") else name.partition("-")[0]
    if word in _BY_WORD:
        return _BY_WORD[word], word
    return (Protocol.OPAQUE if port.port.value in _SERVER_FIRST else Protocol.HTTP), ""


def entry_protocol(declared: str, number: int) -> tuple[Protocol, str]:
    """Protocol of a ServiceEntry port."""
    word = declared.lower()
    if word in _BY_WORD:
        return _BY_WORD[word], word
    return (Protocol.OPAQUE if number in _SERVER_FIRST else Protocol.HTTP), ""


def register(context: Context, made: ServiceInfo) -> bool:
    """Register a service; a second one with the same host is an error."""
    other = context.services.get(made.host)
    if other is not None:
        message = f"host {made.host} is already a service, from {other.span}"
        context.sink.error("L7FP304", made.span, message, "keep one of them")
        return False
    context.services[made.host] = made
    _report(context, made)
    return True


def _report(context: Context, service: ServiceInfo) -> None:
    """Say which ports of a service pass untouched, and which are HTTP by guess."""
    for port in service.ports:
        what = f"port {port.number} of {service.host}"
        match port.protocol:
            case Protocol.OPAQUE:
                how = f"is {port.text}" if port.text else "isn't declared and seldom HTTP"
                context.sink.info("L7FP409", port.span, f"{what} {how}: connections pass untouched")
            case Protocol.HTTP2:
                hint = "this version enforces HTTP/1.1"
                message = f"{what} carries {port.text}: connections pass untouched and nothing is enforced on them"
                context.sink.warning("L7FP413", port.span, message, hint)
            case Protocol.HTTP if not port.text:
                hint = "name it http-... (or tcp-...), or set appProtocol"
                context.sink.info("L7FP502", port.span, f"{what} doesn't say what it carries: taken as HTTP", hint)
