"""The golden objects through the real API: created, read back, written again without a change, shown as a Table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import yaml

from jota.kinds import table
from jota.meta.resource import SERVICEACCOUNTS
from jota.testing.cluster import ApiServer, story

CASES = sorted((Path(__file__).parent / "golden").glob("*/*.yaml"))
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@story
async def test_every_golden_object_is_accepted_and_stable(api: ApiServer) -> None:
    await api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "builder"}}, "default")
    for number, path in enumerate(CASES):
        given: dict[str, Any] = next(yaml.safe_load_all(path.read_text()))
        group, _, version = given["apiVersion"].rpartition("/")
        kind = table.by_kind(group, version, given["kind"])
        assert kind is not None
        namespace = "default" if kind.resource.namespaced else ""
        given["metadata"]["name"] += f"-{number}" if "." not in given["metadata"]["name"] else ""
        made = await api.client.create(kind.resource, given, namespace)
        again = await api.client.update(kind.resource, made)
        assert again == made, path
        where = kind.resource.path(namespace)
        answer = await api.client.raw("GET", where, headers={"accept": TABLE})
        assert answer.status == 200
        rows = orjson.loads(answer.body)["rows"]
        assert made["metadata"]["name"] in [row["object"]["metadata"]["name"] for row in rows]
