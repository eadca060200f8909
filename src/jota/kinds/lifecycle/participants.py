"""Who asks for evictions and who carries them out, by domain-prefixed names; shared by requests, evictions and pods.

Upstream: pkg/apis/lifecycle/validation and the declarative rules of the types.
"""

from __future__ import annotations

from typing import Any

from jota.kinds import names
from jota.kinds.shape import Object, part, parts, text
from jota.meta.errors import FieldError, duplicate, invalid, not_supported, required, too_many

IMPERATIVE = "imperative-eviction.k8s.io/evictor"
"""The responder that every pod has: it asks the pods/eviction subresource, last of all."""
IMPERATIVE_PRIORITY = 100
MOST_RESPONDERS = 10
LARGEST_PRIORITY = 100_000
FIRST_PRIORITY = 1000
"""Lower ones are for *.k8s.io."""
INTENTS = ["Eviction", "Withdrawn"]


def reserved(name: str) -> bool:
    domain = name.partition("/")[0]
    return any(domain == d or domain.endswith(f".{d}") for d in ("k8s.io", "kubernetes.io"))


def validate_name(name: Any, path: str, *, foreign: bool) -> list[FieldError]:
    """`foreign`: names of Kubernetes' own domains are refused."""
    if not isinstance(name, str) or not name:
        return [required(path)]
    if "/" not in name:
        return [invalid(path, name, 'must be a domain-prefixed key (such as "acme.io/foo")')]
    errors = [invalid(path, name, detail) for detail in names.qualified_name(name)]
    if foreign and reserved(name):
        errors.append(invalid(path, name, "domain names *.k8s.io and *.kubernetes.io are reserved"))
    return errors


def validate_target(target: Object, path: str) -> list[FieldError]:
    pod = target.get("pod")
    if not isinstance(pod, dict):
        return [required(f"{path}.pod", "exactly one target must be specified")]
    return [required(f"{path}.pod.{field}") for field in ("name", "uid") if not text(pod, field)]


def validate_intent(intent: Any, path: str) -> list[FieldError]:
    if not intent:
        return [required(path)]
    return [] if intent in INTENTS else [not_supported(path, intent, INTENTS)]


def validate_responders(spec: Object, path: str) -> list[FieldError]:
    """A pod's `evictionResponders`."""
    found, where = parts(spec, "evictionResponders"), f"{path}.evictionResponders"
    errors = [too_many(where, len(found), MOST_RESPONDERS)] if len(found) > MOST_RESPONDERS else []
    if found and part(spec, "schedulingGroup"):
        errors.append(invalid(where, found, "not supported when the pod is part of a PodGroup"))
    seen: set[str] = set()
    for i, responder in enumerate(found):
        at, name, priority = f"{where}[{i}]", text(responder, "name"), responder.get("priority")
        errors += validate_name(name, f"{at}.name", foreign=True)
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        if type(priority) is not int:
            errors.append(required(f"{at}.priority"))
        elif not 0 <= priority <= LARGEST_PRIORITY:
            errors.append(invalid(f"{at}.priority", priority, f"must be between 0 and {LARGEST_PRIORITY}, inclusive"))
        elif priority < FIRST_PRIORITY:
            detail = f"the interval 0-{FIRST_PRIORITY - 1} is reserved for responders with *.k8s.io suffix"
            errors.append(invalid(f"{at}.priority", priority, detail))
    return errors
