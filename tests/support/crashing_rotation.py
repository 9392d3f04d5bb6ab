"""A program that rotates, with trouble at each fsync in turn, and says for each what the next start found.

Run with `kill_at_sync.so` preloaded: `python crashing_rotation.py LIBRARY STATE DIRECTORY TROUBLE STRIDE`. TROUBLE is
`kill`, or `full`: the disk takes nothing for three flushes, and whoever rotates tries again. One process imports
everything; a child is forked for each run, and another looks at what it left. STRIDE 2 leaves every other fsync out.

Each act of the flow begins in a process of its own, on a copy of what the act before it left when it met no trouble: so
a kill at the last fsync costs no more than one at the first.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import json
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from certs.chains import verify_chain
from certs.identities import build_csr
from certs.keyfiles import generate_key
from certs.keyring import key_id_of
from certs.spiffe import node_id
from certs.trust import TrustStore
from control_plane.composition import ControlPlane, compose
from control_plane.errors import ApiError, ErrorCode
from control_plane.foundation import Foundation
from control_plane.rotation.steps import Asked
from control_plane.signing.in_force import SignersInForce
from control_plane.signing.key_stores import key_stores
from control_plane.signing.making import ISSUING, ROOT, SIGNING
from control_plane.signing.phases import Phase, SignerKind, Step
from control_plane.signing.seats import certificates_of
from control_plane.storage.audit import Actor
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageFullError
from tests.support.control_planes import TRUST_DOMAIN, settings_for
from tests.support.shared_statements import shared_statements
from trunkline.runtime.clock import SystemClock

ACTOR = Actor("test")
FLOW = [
    *((SignerKind.CA, step) for step in (Step.PREPARE, Step.ACTIVATE, Step.ROLLBACK, Step.ACTIVATE, Step.RETIRE)),
    *((SignerKind.SIGNING_KEY, step) for step in (Step.PREPARE, Step.ACTIVATE, Step.RETIRE)),
]
ACTS = range(len(FLOW) + 1)
T = TypeVar("T")
FULL_FOR = 3
WAS_FULL = 75
ONWARDS = {Phase.PREPARED: Step.ACTIVATE, Phase.ACTIVATED: Step.RETIRE, Phase.ROLLED_BACK: Step.RETIRE}


class WasFull(Exception):  # noqa: N818 - a state of the world
    """The disk was full in this run, and it went on all the same."""


class Opened:
    """A control plane over a directory, without a listener."""

    def __init__(self, directory: Path) -> None:
        self.settings = settings_for(directory)
        self.database = Database(self.settings.database_url)
        self.stores = key_stores(self.settings)
        self.signers = SignersInForce(
            database=self.database, settings=self.settings, stores=self.stores, clock=SystemClock()
        )

    async def compose(self) -> ControlPlane:
        await self.signers.load()
        control_plane = compose(
            Foundation(
                settings=self.settings,
                database=self.database,
                signers=self.signers,
                stores=self.stores,
                account_id="",
                page_key="",
                operators={},
                providers={},
                registry=CollectorRegistry(),
                clock=SystemClock(),
                rng=random.Random(1),
                draining=asyncio.Event(),
            )
        )
        await control_plane.identities.trust.refresh()
        return control_plane


async def do(act: int, control_plane: ControlPlane, opened: Opened) -> None:
    """Take the step of the flow that has this number; behind the last, revoke the key that signs tokens."""
    if act < len(FLOW):
        kind, step = FLOW[act]
        await control_plane.rotations.take(Asked(kind, step, ACTOR, force=True, reason="test"))
    else:
        active = opened.signers.seats.signing_key.active.signer_id
        await control_plane.rotations.revoke_key(active, "test", ACTOR)


async def rotate(directory: Path, act: int, arm: Callable[[], None], disarm: Callable[[], None]) -> None:
    """Start, do an act, and leave what is published where the next start can read it.

    Armed from the start of the first act to the end of the last one; between two of them nothing is to be killed, since
    only there the process is another.
    """
    if act == ACTS[0]:
        arm()
    opened = Opened(directory)
    control_plane = await opened.compose()
    published = directory / "published"
    published.write_text(control_plane.identities.trust.text)
    if act != ACTS[0]:
        arm()
    await do(act, control_plane, opened)
    published.write_text(control_plane.identities.trust.text)
    if act != ACTS[-1]:
        disarm()
    await opened.database.close()


class Patience:
    """Does things again until the disk has room for them; `failures` counts how often it was full."""

    def __init__(self) -> None:
        self.failures = 0

    async def until_done(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        while True:
            try:
                return await work()
            except StorageFullError:
                self.failures += 1
            except ApiError as error:
                if error.code is not ErrorCode.INSUFFICIENT_STORAGE:
                    raise
                self.failures += 1


async def rotate_on_a_disk_that_fills(directory: Path) -> int:
    """Do every act as often as it needs, in one process; tells how often the disk was full.

    After each act what is published is of what signs, and all of it is whole, as seen from outside.
    """
    opened, patience = Opened(directory), Patience()
    control_plane = await patience.until_done(opened.compose)
    store, now = TrustStore(), time.time()
    for act in ACTS:
        before = patience.failures
        await patience.until_done(lambda act=act: do(act, control_plane, opened))  # type: ignore[misc]
        if patience.failures > before and act != ACTS[-1]:
            await patience.until_done(control_plane.identities.trust.refresh)
            store.replace(control_plane.identities.trust.text, now)
            check_signers(opened, store, now)
    await opened.database.close()
    return patience.failures


async def look(directory: Path) -> None:
    """Start again, and see that everything is legal, and that the rotation can be finished."""
    opened = Opened(directory)
    control_plane = await opened.compose()
    store, now = TrustStore(), time.time()
    if (directory / "published").exists():
        store.replace((directory / "published").read_text(), now)
    store.replace(control_plane.identities.trust.text, now)
    check_signers(opened, store, now)
    for kind in SignerKind:
        while (phase := opened.signers.seats.of(kind).phase) is not Phase.STEADY:
            await control_plane.rotations.take(Asked(kind, ONWARDS[phase], ACTOR, force=True, reason="test"))
    store.replace(control_plane.identities.trust.text, now)
    check_signers(opened, store, now)
    await opened.database.close()


def check_signers(opened: Opened, store: TrustStore, now: float) -> None:
    """One signer of each kind signs, with the keys that belong to it, and everybody trusts what it makes."""
    seats, document = opened.signers.seats, store.current
    assert document is not None
    for signer in seats.ca.trusted:
        certificates = certificates_of(signer)
        root = opened.stores.authority.open(signer.key_names[ROOT]).public_key()
        issuing = opened.stores.authority.open(signer.key_names[ISSUING]).public_key()
        assert (root, issuing) == (certificates.root.public_key(), certificates.issuing.public_key())
    for signer in seats.signing_key.trusted:
        assert key_id_of(opened.stores.tokens.open(signer.key_names[SIGNING]).public_key()) == signer.signer_id
    assert {key.key_id for key in document.token_keys} == {one.signer_id for one in seats.signing_key.trusted}
    assert opened.signers.tokens.key_id == seats.signing_key.active.signer_id
    node = node_id(TRUST_DOMAIN, "ws-1", "nd-1")
    chain = opened.signers.authority.issue_node(build_csr(generate_key()), node, 60, now=now)
    assert verify_chain(chain, document.roots, now) == node


def in_child(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run in a forked process; returns its exit status, negative if a signal ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(work())
            status = 0
        except WasFull:
            status = WAS_FULL
        except BaseException:  # noqa: BLE001 - the outermost edge of a process
            traceback.print_exc()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def crash(library: ctypes.CDLL, act: int, number: int, place: Path, *, once_done: bool) -> None:
    """Be killed at an fsync of an act; ends only if there are not so many."""
    await rotate(
        place,
        act,
        arm=lambda: library.kill_at_sync(number, once_done),
        disarm=lambda: library.kill_at_sync(0, 0),
    )


async def fill(library: ctypes.CDLL, number: int, place: Path) -> None:
    """Go on from a disk that is full at an fsync; ends well only if there are not so many.

    Raises:
        WasFull: there are, and it went on.
    """
    library.full_at_sync(number, FULL_FOR)
    if await rotate_on_a_disk_that_fills(place):
        raise WasFull


class Runs:
    """Runs that met trouble, numbered from 1, each in a directory of its own; what became of each is told."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.count = 0

    def meet(self, before: Path, trouble: Callable[[Path], Coroutine[Any, Any, None]]) -> tuple[Path, bool]:
        """Meet trouble on a copy of a directory, and look; returns the copy and whether it ended without any."""
        self.count += 1
        place = self._directory / str(self.count)
        shutil.copytree(before, place)
        ended = in_child(lambda: trouble(place))
        kept = place.with_name(f"{place.name}-kept")
        if ended == 0:
            shutil.copytree(place, kept)
        looked = in_child(lambda: look(place))
        sys.stdout.write(json.dumps({"run": self.count, "ended": ended, "looked": looked}) + "\n")
        sys.stdout.flush()
        if not looked:
            shutil.rmtree(place)
        return kept, ended == 0


def kill_at_each(library: ctypes.CDLL, before: Path, runs: Runs) -> None:
    """Kill each act at its first fsync, its second, and so on, until it comes to its end; then the next one.

    Every other kill is before the fsync was done, every other after it.
    """
    for act in ACTS:
        number, ended = 0, False
        while not ended:
            number += 1
            once_done = runs.count % 2 == 0
            trouble = functools.partial(crash, library, act, number, once_done=once_done)
            after, ended = runs.meet(before, trouble)
        before = after


def fill_at_each(library: ctypes.CDLL, before: Path, runs: Runs, stride: int) -> None:
    """Have the disk be full at fsyncs that lie `stride` apart, until the flow comes to its end without."""
    number, ended = 1, False
    while not ended:
        _, ended = runs.meet(before, functools.partial(fill, library, number))
        number += stride


def warm_up(before: Path, place: Path) -> None:
    """Go through the flow once without trouble: what the first time costs, children need not pay again."""
    shutil.copytree(before, place)
    for act in ACTS:
        asyncio.run(rotate(place, act, arm=lambda: None, disarm=lambda: None))
    asyncio.run(look(place))
    gc.collect()
    gc.freeze()  # else a child that collects copies all that is there


def main(library: str, before: str, directory: str, trouble: str, stride: str) -> None:
    """Have trouble at fsyncs of the flow, beginning with the state that is in the directory `before`."""
    loaded, runs = ctypes.CDLL(library), Runs(Path(directory))
    with shared_statements():
        warm_up(Path(before), Path(directory) / "warm")
        if trouble == "kill":
            kill_at_each(loaded, Path(before), runs)
        else:
            fill_at_each(loaded, Path(before), runs, int(stride))


if __name__ == "__main__":
    main(*sys.argv[1:])
