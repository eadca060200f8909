"""Have a container's image on the node, by its pull policy. In: pod, container, secrets. Out: Image, or PullFailed.

Concurrent pulls of one reference share one transfer. The waiting curve after failures is the worker's. Event texts are the
kubelet's; people and tools match on them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable

import orjson

from jota.aio.clock import Clock
from jota.node.model import Object
from jota.runtime.protocol import Image, Images, RuntimeFault

Tell = Callable[[str, str, str], None]
"""(Normal | Warning, reason, message): an event about the container."""
Auth = tuple[str, str]
DOCKER_HUB = "docker.io"
LOCAL_HINT = (
    "the image exists locally, but imagePullPolicy Always forces a pull; use IfNotPresent to run the local copy"
)


class PullFailed(Exception):
    """No image. `reason`: ErrImagePull | ErrImageNeverPull | InvalidImageName | RegistryUnavailable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class ImageKeeper:
    """Pulls. `group` owns the transfers, so that a pod that goes away does not cut off another that waits too."""

    def __init__(self, images: Images, clock: Clock, group: asyncio.TaskGroup) -> None:
        self._images, self._clock, self._group = images, clock, group
        self._pulls: dict[tuple[str, Auth | None], asyncio.Task[Image | RuntimeFault]] = {}

    async def ensure(self, container: Object, credentials: list[tuple[str, Auth]], tell: Tell) -> Image:
        """The image of `container`, present on the node. Raises PullFailed."""
        reference, policy = container.get("image", ""), pull_policy(container)
        local = None if policy == "Always" else await self._images.get(reference)
        if local is not None:
            tell(
                "Normal",
                "Pulled",
                f'Container image "{reference}" already present on machine and can be accessed by the pod',
            )
            return local
        if policy == "Never":
            text = f'Container image "{reference}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", text)
            raise PullFailed("ErrImageNeverPull", text)
        return await self._pull(reference, credentials, policy, tell)

    async def _pull(self, reference: str, credentials: list[tuple[str, Auth]], policy: str, tell: Tell) -> Image:
        tell("Normal", "Pulling", f'Pulling image "{reference}"')
        begin, fault = self._clock.monotonic(), RuntimeFault("ErrImagePull", "no attempt was made")
        for auth in [*matching(reference, credentials), None]:
            outcome = await self._shared(reference, auth)
            if isinstance(outcome, Image):
                took = _seconds(self._clock.monotonic() - begin)
                text = f'Successfully pulled image "{reference}" in {took} ({took} including waiting).'
                tell("Normal", "Pulled", f"{text} Image size: {outcome.size} bytes.")
                return outcome
            fault = outcome
        message = fault.message
        if policy == "Always" and await self._images.get(reference) is not None:
            message += f" ({LOCAL_HINT})"
        tell("Warning", "Failed", f'Failed to pull image "{reference}": {message}')
        tell("Warning", "Failed", f"Error: {fault.reason}")
        raise PullFailed(fault.reason, message)

    async def _shared(self, reference: str, auth: Auth | None) -> Image | RuntimeFault:
        key = (reference, auth)
        task = self._pulls.get(key)
        if task is None:
            task = self._pulls[key] = self._group.create_task(self._fetch(reference, auth), name=f"pull {reference}")
            task.add_done_callback(lambda _: self._pulls.pop(key, None))
        return await asyncio.shield(task)

    async def _fetch(self, reference: str, auth: Auth | None) -> Image | RuntimeFault:
        try:
            return await self._images.pull(reference, auth=auth)
        except RuntimeFault as fault:
            return fault
        except Exception as e:  # handed to all who wait; it must not end the task group of the whole agent
            return RuntimeFault("ErrImagePull", f"{type(e).__name__}: {e}")


def pull_policy(container: Object) -> str:
    """As given; else Always for :latest and untagged, IfNotPresent otherwise."""
    if policy := container.get("imagePullPolicy"):
        return str(policy)
    name = container.get("image", "").rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    tag = name.partition(":")[2] or "latest"
    return "Always" if tag == "latest" else "IfNotPresent"


def registry_of(reference: str) -> str:
    """The registry's host of an image name; names without one belong to Docker Hub."""
    first, slash, _ = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else DOCKER_HUB


def credentials_from(secrets: Iterable[Object]) -> list[tuple[str, Auth]]:
    """(registry or registry/path, (user, password)) from kubernetes.io/dockerconfigjson and dockercfg Secrets.

    Undecodable entries are left out: a broken pull secret must not stop a pull that works without it.
    """
    out: list[tuple[str, Auth]] = []
    for secret in secrets:
        data = secret.get("data") or {}
        for key in (".dockerconfigjson", ".dockercfg"):
            if key not in data:
                continue
            try:
                decoded = orjson.loads(base64.b64decode(data[key]))
            except (binascii.Error, orjson.JSONDecodeError):
                continue
            entries = decoded.get("auths", {}) if key == ".dockerconfigjson" else decoded
            out += [(_registry_key(host), auth) for host, e in entries.items() if (auth := _auth(e)) is not None]
    return out


def _auth(entry: Object) -> Auth | None:
    if entry.get("username"):
        return entry["username"], entry.get("password", "")
    try:
        user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password.rstrip("\0")) if user else None


def _registry_key(host: str) -> str:
    name = host.removeprefix("https://").removeprefix("http://").rstrip("/")
    name = name.removesuffix("/v1").removesuffix("/v2")
    return DOCKER_HUB if name in ("index.docker.io", "registry-1.docker.io") else name


def matching(reference: str, credentials: list[tuple[str, Auth]]) -> list[Auth]:
    """Credentials that fit, the most specific path first."""
    registry = registry_of(reference)
    full = reference if reference.startswith(registry) else f"{registry}/{reference}"
    fitting = [(key, auth) for key, auth in credentials if full == key or full.startswith((key + "/", key + ":"))]
    return [auth for _, auth in sorted(fitting, key=lambda pair: -len(pair[0]))]


def _seconds(value: float) -> str:
    """Go's short spelling of a duration: 340ms, 1.2s."""
    return f"{value * 1000:.0f}ms" if value < 1 else f"{value:.3g}s"
