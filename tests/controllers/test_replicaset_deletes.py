"""A pod that a set could not delete is not taken for deleted."""

from __future__ import annotations

import asyncio
from random import Random

from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.controllers.controller import ControllerConfig
from jota.controllers.replicaset import ReplicaSetController
from jota.controllers.table import run_controllers
from jota.meta.resource import NAMESPACES, PODS, REPLICASETS
from jota.testing.cluster import ApiServer, story
from jota.testing.faults import Faults

from .builders import CA_PEM
from .stories import names


@story
async def test_a_delete_that_lost_its_races_is_made_again(api: ApiServer) -> None:
    """The server answers 409 when others write the pod all the time; that is no word about who the pod is."""
    await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
    faults, stop = Faults(api.api.handle, api.clock), asyncio.Event()
    client, config = Client(InProcess(faults.handle, COMPONENT)), ControllerConfig(ca_pem=CA_PEM)
    work = run_controllers(client, api.clock, config, stop, random=Random(1), controllers=(ReplicaSetController,))
    task = asyncio.ensure_future(work)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    await api.client.create(REPLICASETS, {"metadata": {"name": "set"}, "spec": spec}, "ns")
    await api.advance(5)
    assert len(await names(api, PODS)) == 2
    faults.refuse("/pods/", 409, times=2)
    await api.client.patch(REPLICASETS, "set", "ns", {"spec": {"replicas": 0}})
    await api.advance(5)
    assert await names(api, PODS) == []
    stop.set()
    await task
