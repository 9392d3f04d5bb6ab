"""Following a rotation: whatever the node stands on that is to be left, or was left, is renewed.

A trust document that names the root of the node's certificate, or the key of its listen token, as retiring makes the
node renew at a random moment within the time that the document gives, so that a fleet does not come at once; documents
that come meanwhile, of which each revocation makes one, do not put it off. What is trusted no more (the node slept
through the rotation, or a key was revoked) is renewed at once.
"""

import random
from collections.abc import Callable, Mapping

from certs.chains import root_of
from certs.fingerprints import sha256_hex
from certs.succession import root_is_gone, root_is_retiring
from certs.trust import TrustDocument
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.trust_in_force import TrustInForce
from trunkline.runtime.drawn_moment import DrawnMoment
from trunkline.runtime.logs import Logger


class RotationWatch:
    """Asks for renewals. `close` ends it; call `look` once to begin with."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        trust: TrustInForce,
        renew_certificate: Callable[[], None],
        renew_token: Callable[[], None],
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._credentials = credentials
        self._trust = trust
        self._renew = {"certificate": renew_certificate, "listen_token": renew_token}
        self._moment = DrawnMoment(rng)
        self._drawn_for = ""
        self._log = log
        trust.subscribe(self.look)
        credentials.subscribe(lambda before, node: self.look())

    @property
    def renewal_due_at(self) -> float | None:
        """When a renewal will be asked for, by the loop's clock; None while none will."""
        return self._moment.at

    def look(self) -> None:
        """See whether anything is to be renewed, and when."""
        document = self._trust.store.current
        need = None if document is None else _need(self._credentials.current, document)
        if document is None or need is None:
            self.close()
            return
        credential, at_once = need
        within_seconds = 0.0 if at_once else document.retirement.renew_within_seconds
        if credential != self._drawn_for:
            self._moment.cancel()
            self._drawn_for = credential
        delay_seconds = self._moment.draw(within_seconds, self._renew[credential])
        if delay_seconds is not None:
            self._log.info("rotation.renewal_due", credential_kind=credential, in_seconds=round(delay_seconds, 1))

    def close(self) -> None:
        """Ask for nothing any more."""
        self._moment.cancel()

    def standing(self) -> Mapping[str, str | None]:
        """Return what the node says of itself in its health: the root and the key that it stands on."""
        node, document = self._credentials.current, self._trust.store.current
        root = root_of(node.identity.chain, document.roots) if document is not None else None
        return {
            "certificate_root": None if root is None else sha256_hex(root),
            "listen_token_key": node.listen_token_key,
        }


def _need(node: NodeIdentity, document: TrustDocument) -> tuple[str, bool] | None:
    """Return what is to be renewed, and whether at once; a certificate brings a token along."""
    chain, key_id = node.identity.chain, node.listen_token_key
    if root_is_gone(chain, document):
        return "certificate", True
    if key_id is not None and key_id not in {key.key_id for key in document.token_keys}:
        return "listen_token", True
    if root_is_retiring(chain, document):
        return "certificate", False
    return ("listen_token", False) if key_id in document.retirement.token_keys else None
