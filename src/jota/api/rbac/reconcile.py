"""At every start the bootstrap roles and bindings get back what they miss; what an operator added stays.

Upstream's rules: annotation rbac.authorization.kubernetes.io/autoupdate "false" keeps an object as it is; rules are
compared by what they grant; a binding to another role is made anew (roleRef cannot change). Pure: `repaired` decides.
"""

from __future__ import annotations

from typing import Any

from jota.api.rbac.rules import covered, parse

Object = dict[str, Any]
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"


def repaired(existing: Object, wanted: Object) -> Object | None:
    """What to write over `existing`; None when nothing is missing. A different roleRef shows in the answer."""
    meta, wanted_meta = existing["metadata"], wanted["metadata"]
    if (meta.get("annotations") or {}).get(AUTOUPDATE) == "false":
        return None
    new = {**existing, "metadata": {**meta}}
    for part in ("labels", "annotations"):
        merged = {**wanted_meta.get(part, {}), **(meta.get(part) or {})}
        if merged:
            new["metadata"][part] = merged
    if "roleRef" in wanted:
        new["roleRef"] = wanted["roleRef"]
        have = existing.get("subjects") or []
        lacking = [s for s in wanted.get("subjects", ()) if not any(_same_subject(s, h) for h in have)]
        if lacking:
            new["subjects"] = [*have, *lacking]
    elif "aggregationRule" in wanted:
        have = (existing.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
        lacking = [s for s in wanted["aggregationRule"]["clusterRoleSelectors"] if s not in have]
        if lacking:
            new["aggregationRule"] = {"clusterRoleSelectors": [*have, *lacking]}
    else:
        rules = existing.get("rules") or []
        held = [parse(rule) for rule in rules]
        lacking = [rule for rule in wanted.get("rules", ()) if not covered(parse(rule), held)]
        if lacking:
            new["rules"] = [*rules, *lacking]
    return None if new == existing else new


def _same_subject(a: Object, b: Object) -> bool:
    return all(a.get(k, "") == b.get(k, "") for k in ("kind", "name", "namespace"))
