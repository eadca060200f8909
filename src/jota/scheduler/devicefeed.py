"""Reads slices, taint rules, classes and claims for the scheduler, from the first pod on that has claims; before that nobody pays for it.

In: the API. Out: changes of `Snapshot.devices`, hints about whom they may help. Pods that come before everything was read
once are held back and handed over then. Selectors that take too long for a decision are evaluated here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from jota.aio.clock import Clock
from jota.aio.slices import run as in_slices
from jota.client.client import Client
from jota.client.informer import Informer
from jota.scheduler.devices import Devices
from jota.scheduler.deviceview import Claim, DeviceClass, Slice, TaintRule
from jota.scheduler.resources import DEVICECLASSES, DEVICETAINTRULES, RESOURCECLAIMS, RESOURCESLICES

HINT = "DynamicResources"


class DeviceFeed:
    def __init__(
        self,
        client: Client,
        devices: Devices,
        *,
        stir: Callable[[str], None],
        admit: Callable[[str], None],
        clock: Clock,
        random: Random,
    ) -> None:
        """`stir`: told that refused pods may be helped; `admit`: told the keys of pods that were held back."""
        self._devices, self._stir, self._admit = devices, stir, admit
        self._needed = asyncio.Event()
        self._held: dict[str, None] = {}
        claims: Informer[Claim] = Informer(client, RESOURCECLAIMS, type=Claim, clock=clock, random=random)
        classes: Informer[DeviceClass] = Informer(client, DEVICECLASSES, type=DeviceClass, clock=clock, random=random)
        rules: Informer[TaintRule] = Informer(client, DEVICETAINTRULES, type=TaintRule, clock=clock, random=random)
        slices: Informer[Slice] = Informer(client, RESOURCESLICES, type=Slice, clock=clock, random=random)
        claims.add_handler(self._claim_changed)
        classes.add_handler(self._class_changed)
        slices.add_handler(self._slice_changed)
        rules.add_handler(self._rule_changed)
        self._informers: list[Informer[Any]] = [rules, slices, classes, claims]
        self._questions = asyncio.Event()

    def holds(self, key: str) -> bool:
        """Whether the pod has to wait until everything was read once; it is handed over then."""
        if self._devices.synced:
            return False
        self._held[key] = None
        self._needed.set()
        return True

    async def run(self) -> None:
        """Until cancelled."""
        await self._needed.wait()
        selectors = self._devices.selectors
        selectors.attend(self._questions.set, asyncio.get_running_loop().call_soon)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._answer())
            for informer in self._informers:
                tasks.create_task(informer.run())
            for informer in self._informers:
                await informer.synced()
            self._devices.synced = True
            held, self._held = list(self._held), {}
            for key in held:
                self._admit(key)

    async def _answer(self) -> None:
        """Evaluate what decisions had no time for, and have them made again."""
        selectors = self._devices.selectors
        while True:
            await self._questions.wait()
            self._questions.clear()
            while (question := selectors.next()) is not None:
                selectors.learn(question, await in_slices(question.answer))
                if selectors.settled(question.expression):
                    self._devices.answered()
                    self._stir(HINT)

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        if new is not None:
            moved = self._devices.put_claim(new)
        else:
            assert old is not None
            self._devices.remove_claim(old)
            moved = True
        if moved:
            self._stir(HINT)

    def _class_changed(self, old: DeviceClass | None, new: DeviceClass | None) -> None:
        seen = new or old
        assert seen is not None
        self._devices.put_class(seen.metadata.name, new)
        self._stir(HINT)

    def _rule_changed(self, old: TaintRule | None, new: TaintRule | None) -> None:
        seen = new or old
        assert seen is not None
        self._devices.put_rule(seen.metadata.name, new)
        self._stir(HINT)

    def _slice_changed(self, old: Slice | None, new: Slice | None) -> None:
        seen = new or old
        assert seen is not None
        self._devices.put_slice(seen.metadata.name, new)
        self._stir(HINT)
