"""--runtime-config: which group versions are served. Text in, decisions out; pure.

    api/all=true                     everything that there is
    api/ga | api/beta | api/alpha    a stage of maturity; beta and alpha are off unless asked for
    batch/v1=false                   a group version; "v1" is the core group
    apps/v1/deployments=false        one resource of it

The more exact key wins, wherever it stands; "=true" may be left out (kube-apiserver's flag). What this server does not have is
refused, for or against: a misspelt key must not look as if it did something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jota.kinds.kind import Kind
from jota.kinds.prerelease import ABSENT
from jota.kinds.table import KINDS
from jota.kinds.virtual import VIRTUAL
from jota.meta.resource import Resource

STAGES = {"api/all", "api/ga", "api/beta", "api/alpha"}
NEEDED = ("v1", "rbac.authorization.k8s.io/v1")
"""Without these the server cannot even start."""
_TRUE, _FALSE = {"", "1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}
"""As Go reads booleans."""


class BadRuntimeConfig(ValueError):
    """The text says which key, and what there is instead."""


def stage(stability: str) -> str:
    """The key of a kind's stage of maturity."""
    return "api/" + ("ga" if stability == "stable" else stability)


def keys(resource: Resource, stability: str) -> tuple[str, ...]:
    """What may decide about a resource, the most exact key last."""
    return "api/all", stage(stability), resource.api_version, f"{resource.api_version}/{resource.plural}"


def serves(config: Mapping[str, bool], kind: Kind) -> bool:
    """Whether a kind is served: stable ones unless switched off, others only when asked for."""
    chosen = kind.stability == "stable"
    for key in keys(kind.resource, kind.stability):
        chosen = config.get(key, chosen)
    return chosen


def servable() -> list[Kind]:
    """Every built-in kind, also those that are only spoken."""
    return [*KINDS, *(Kind(v.resource, schema=v.schema) for v in VIRTUAL)]


def parse(text: str) -> dict[str, bool]:
    """The flag's value, "key[=true|false],...". Raises BadRuntimeConfig."""
    known = servable()
    resources = {f"{k.resource.api_version}/{k.resource.plural}" for k in known}
    versions = {k.resource.api_version for k in known}
    config: dict[str, bool] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = item.partition("=")
        if value not in _TRUE | _FALSE:
            raise BadRuntimeConfig(f"{key}={value}: give true or false")
        if key not in STAGES | versions | resources:
            raise BadRuntimeConfig(_unknown(key, known))
        config[key] = value in _TRUE
    for kind in known:
        if kind.resource.api_version in NEEDED and not serves(config, kind):
            what = f"{kind.resource.api_version}/{kind.resource.plural}"
            raise BadRuntimeConfig(f"{what} cannot be switched off: the server itself needs {' and '.join(NEEDED)}")
    return config


def _unknown(key: str, known: Iterable[Kind]) -> str:
    group, _, rest = key.partition("/")
    if group == "api":
        return f"{key}: there is no such stage; there are {', '.join(sorted(STAGES))}"
    if not rest:
        return f"{key}: give a group with a version, as in apps/v1, or a stage, as in api/beta"
    have = sorted({k.resource.version for k in known if k.resource.group == group})
    if not have:
        return f"{key}: this server has no API group {group}"
    version, _, plural = rest.partition("/")
    if version not in have:
        return f"{key}: this server has no version {version} of {group}; it has {', '.join(have)}"
    plurals = sorted(k.resource.plural for k in known if (k.resource.group, k.resource.version) == (group, version))
    return f"{key}: this server has no {plural} in {group}/{version}; it has {', '.join(plurals)}"


def left_out(config: Mapping[str, bool]) -> list[str]:
    """What a whole stage asks for, and this server does not have: told at start."""
    found = []
    for resource in ABSENT:
        version = resource.split("/")[1]
        asked = config.get("api/all", False)
        asked = config.get("api/alpha" if "alpha" in version else "api/beta", asked)
        asked = config.get(resource.rpartition("/")[0], asked)
        if asked:
            found.append(resource)
    return found
