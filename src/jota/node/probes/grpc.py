"""gRPC health probe (grpc.health.v1.Health/Check), with grpcio when it is installed; without it the probe says so."""

from __future__ import annotations

from typing import Any

SERVING = 1


async def check(host: str, port: int, service: str, timeout: float) -> str:
    """ "" when the service reports SERVING within `timeout` seconds, else why not."""
    try:
        import grpc.aio
    except ImportError:
        return "gRPC probes need the package grpcio on the node (pip install grpcio)"
    name = f"[{host}]" if ":" in host else host
    async with grpc.aio.insecure_channel(f"{name}:{port}") as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer: bytes = await call(_request(service), timeout=timeout)
        except grpc.aio.AioRpcError as e:
            return _failure(e, grpc, service)
    status = _status(answer)
    return "" if status == SERVING else f"service unhealthy (responded with {_name(status)!r})"


def _failure(e: Any, grpc: Any, service: str) -> str:
    if e.code() == grpc.StatusCode.UNIMPLEMENTED:
        return "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
    if e.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return "timeout: health rpc did not complete within the timeout"
    return f"error: health rpc probe failed: {e.details()}"


def _request(service: str) -> bytes:
    """HealthCheckRequest{service = 1}; names are short enough for a one-byte length, longer ones get two."""
    data = service.encode()
    if not data:
        return b""
    size = bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 127 | 128, len(data) >> 7])
    return b"\x0a" + size + data


def _status(answer: bytes) -> int:
    """HealthCheckResponse{status = 1}; an absent field is 0, UNKNOWN."""
    return answer[1] if len(answer) >= 2 and answer[0] == 0x08 else 0


def _name(status: int) -> str:
    return {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(status, str(status))
