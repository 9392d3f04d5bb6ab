"""kill -9 of the control plane within 50 ms after it has acknowledged a revocation: it holds after the restart.

Ten times in the test command; fifty with TRUNKLINE_SOAK=1 (`make soak-revocation`).
"""

import os
import random
import sys
import time
from pathlib import Path

import pytest

from certs.chains import certificates_from_pem
from certs.trust import verify_trust_document
from tests.control_plane.test_app import call, config, daemon, initialised

__all__ = ["config"]  # a fixture

TIMES = 50 if os.environ.get("TRUNKLINE_SOAK") else 10
LATEST_KILL_SECONDS = 0.05
SEED = 20


@pytest.mark.timeout(600)
def test_each_acknowledged_revocation_holds(config: Path) -> None:
    initialised(config)
    roots = certificates_from_pem((config.parent / "state" / "ca.pem").read_bytes(), maximum=4)
    rng, acknowledged, sequence = random.Random(SEED), set[str](), 0
    for number in range(TIMES + 1):
        with daemon(config) as process:
            text = call(config, "/api/2.0/trust-document")["trust_document"]
            document = verify_trust_document(text, roots, time.time())
            assert document.sequence >= sequence
            assert set(document.revocations.token_ids) == acknowledged
            if number < TIMES:
                name = f"jti-{number}"
                sequence = call(config, "/api/2.0/revocations", {"kind": "token", "id": name})["sequence"]
                acknowledged.add(name)
                time.sleep(rng.uniform(0, LATEST_KILL_SECONDS))
            process.kill()
            process.wait()
    sys.stdout.write(
        f"\n{TIMES} times killed within {LATEST_KILL_SECONDS * 1000:.0f} ms after the acknowledgement: "
        f"{len(acknowledged)} of {TIMES} revocations hold\n"
    )
