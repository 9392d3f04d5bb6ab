"""What a running relay says and shows of itself: its metrics, its readiness, its descriptors."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

POLL_SECONDS = 0.05


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    directory = f"/proc/{pid}/fd"
    # Linux 6.2 tells at once; to list a thousand takes milliseconds, for which a caller in the same process would wait.
    return os.stat(directory).st_size or len(os.listdir(directory))  # noqa: PTH116, PTH208


async def without_more_than(pid: int, count: int, within_seconds: float) -> float:
    """Wait until a process has no more descriptors than that; returns for how many seconds.

    Raises:
        TimeoutError: it has, for all that time.
    """
    began = time.monotonic()
    while descriptors(pid) > count:
        if time.monotonic() - began > within_seconds:
            raise TimeoutError(f"{descriptors(pid) - count} descriptors too many after {within_seconds:g} s")
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - began


async def metrics(admin_url: str) -> dict[str, float]:
    """The relay's numbers; `name{label="value"}` for those with labels."""
    text = await _get(admin_url, "/metrics")
    return {
        sample.name + _labels(sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def readiness(admin_url: str) -> dict[str, Any]:
    """What `/readyz?verbose` says."""
    document: dict[str, Any] = json.loads(await _get(admin_url, "/readyz?verbose"))
    return document


def lag_buckets(numbers: dict[str, float]) -> dict[float, float]:
    """How often the event loop was late by at most so many seconds."""
    prefix = "trunkline_relay_event_loop_lag_seconds_bucket"
    return {
        float(name.partition('le="')[2].rstrip('"}')): value
        for name, value in numbers.items()
        if name.startswith(prefix)
    }


def largest_lag_seconds(after: dict[float, float], before: dict[float, float]) -> float:
    """The least bound that the event loop was never late by more than, between two looks at its buckets."""
    seen = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
    return min(bound for bound, count in seen.items() if count == max(seen.values()))


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}" if labels else ""


async def _get(admin_url: str, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(admin_url + path) as answer:
        return await answer.text()
