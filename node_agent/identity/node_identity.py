"""The node's identity as the agent keeps it.

Key, chain, names, listen token, sealing key and relays are in one file, so that they can never disagree. There are two
such files, the slots: the identity in force, and the one that is to succeed it and has not been proved yet. Putting the
successor in force is one rename, which happens or does not happen.
"""

import contextlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from certs.chains import CertificateChain
from certs.errors import CertificateError, TokenError
from certs.identities import Identity
from certs.jose import parse_compact
from certs.keyfiles import PrivateKey, read_secret, write_secret
from certs.lifespan import Lifespan, lifespan_of
from certs.spiffe import SpiffeId
from trunkline.runtime.files import sync_directory
from trunkline.runtime.secret import Secret

IN_FORCE_FILE = "identity.json"
SUCCESSOR_FILE = "identity-successor.json"
# More than one only where renewals followed each other without the control plane hearing of any.
MOST_FORMER_SEALING_KEYS = 4
LATEST_TIME = 1e15
"""In milliseconds; what is said to be later is no time."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who this node is, and what it attaches to relays with.

    Attributes:
        confirmed: the control plane knows that the node holds this key, and seals to this sealing key.
        former_sealing_keys: until then it may still seal to one of these; the newest comes first.
        first: it came of a bootstrap or a late renewal, as those of a whole fleet may have at once.
        renew_at: when to renew the pair (seconds since the epoch), as the control plane has it in its timetable.
    """

    identity: Identity
    node_id: str
    node: str
    workspace_id: str
    workspace: str
    name_suffix: str
    listen_token: Secret
    sealing_key: Secret
    relays: tuple[str, ...] = ()
    policy: dict[str, Any] = field(default_factory=dict)
    confirmed: bool = False
    former_sealing_keys: tuple[Secret, ...] = ()
    first: bool = False
    renew_at: float | None = None

    @property
    def lifespan(self) -> Lifespan:
        """The life of the certificate."""
        return lifespan_of(self.identity.chain)

    @property
    def sealing_keys(self) -> tuple[Secret, ...]:
        """The keys that the control plane may have sealed to, the newest first."""
        return (self.sealing_key, *self.former_sealing_keys)

    @property
    def listen_token_key(self) -> str | None:
        """The key that signed the listen token, as its header says; the signature is for others to verify."""
        try:
            return parse_compact(self.listen_token.reveal()).key_id
        except TokenError:
            return None

    @property
    def spiffe_id(self) -> SpiffeId:
        """The SPIFFE id in the certificate."""
        return self.identity.spiffe_id

    def is_valid(self, now: float) -> bool:
        """Whether the certificate is valid at wall time `now` (seconds)."""
        return self.lifespan.covers(now)

    def with_token(self, answer: dict[str, Any]) -> "NodeIdentity":
        """Return this identity with the listen token and the relays of the control plane's answer.

        Raises:
            CertificateError: the answer lacks something.
        """
        return replace(self, listen_token=Secret(_text(answer, "listen_token")), relays=_relays(answer))

    def succeeded(
        self, answer: dict[str, Any], key: PrivateKey, sealing_key: Secret, *, late: bool = False
    ) -> "NodeIdentity":
        """Return the identity that the control plane's answer makes of this one, with a new key and sealing key.

        `late` says that this one had expired.

        Raises:
            CertificateError: the answer lacks something, or the chain is of another key or another node.
        """
        identity = Identity(key, CertificateChain.from_pem(_text(answer, "certificate_chain")))
        if identity.spiffe_id != self.spiffe_id:
            raise CertificateError("the control plane renewed the identity of another node")
        former = self.sealing_keys[:MOST_FORMER_SEALING_KEYS]
        heir = replace(
            self,
            identity=identity,
            sealing_key=sealing_key,
            former_sealing_keys=former,
            confirmed=False,
            first=late,
            renew_at=_renew_at(answer),
        )
        return heir.with_token(answer)

    def settled(self) -> "NodeIdentity":
        """Return this identity as one that the control plane has confirmed."""
        return replace(self, confirmed=True, former_sealing_keys=())


def identity_from_answer(answer: dict[str, Any], key: PrivateKey, sealing_key: Secret) -> NodeIdentity:
    """Read the control plane's answer to a bootstrap.

    Raises:
        CertificateError: it lacks something, or the chain does not belong to the key.
    """
    identity = Identity(key, CertificateChain.from_pem(_text(answer, "certificate_chain")))
    node = NodeIdentity(
        identity=identity,
        node_id=_text(answer, "node_id"),
        node=_text(answer, "node"),
        workspace_id=_text(answer, "workspace_id"),
        workspace=_text(answer, "workspace"),
        name_suffix=_text(answer, "name_suffix"),
        listen_token=Secret(_text(answer, "listen_token")),
        sealing_key=sealing_key,
        relays=_relays(answer),
        policy=_policy(answer),
        first=True,
        renew_at=_renew_at(answer),
    )
    if (node.spiffe_id.workspace_id, node.spiffe_id.node_id) != (node.workspace_id, node.node_id):
        raise CertificateError("the certificate names another node than the answer that it came in")
    return node


class IdentityStore:
    """The two slots: the identity in force, and its successor, which is kept beside it until it is proved.

    Its methods block on the disk, so that callers run them in a thread.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> NodeIdentity | None:
        """Return the identity in force, or None.

        Raises:
            CertificateError: its file is damaged, or others can read it.
        """
        return self._load(IN_FORCE_FILE)

    def load_successor(self) -> NodeIdentity | None:
        """Return the successor, or None.

        Raises:
            CertificateError: its file is damaged, or others can read it.
        """
        return self._load(SUCCESSOR_FILE)

    def save(self, node: NodeIdentity) -> None:
        """Put an identity in force, durably.

        Raises:
            KeyFileError: the file system refuses.
        """
        write_secret(self._directory / IN_FORCE_FILE, _to_json(node))

    def save_successor(self, node: NodeIdentity) -> None:
        """Keep a successor, durably; the identity in force stays.

        Raises:
            KeyFileError: the file system refuses.
        """
        write_secret(self._directory / SUCCESSOR_FILE, _to_json(node))

    def commit(self) -> None:
        """Put the successor in force; done again after it was done, makes sure that it is durable.

        Raises:
            OSError: the file system refuses.
        """
        with contextlib.suppress(FileNotFoundError):
            (self._directory / SUCCESSOR_FILE).replace(self._directory / IN_FORCE_FILE)
        sync_directory(self._directory)

    def drop_successor(self) -> None:
        """Forget the successor.

        Raises:
            OSError: the file system refuses.
        """
        (self._directory / SUCCESSOR_FILE).unlink(missing_ok=True)

    def _load(self, name: str) -> NodeIdentity | None:
        path = self._directory / name
        if not path.exists():
            return None
        try:
            document = json.loads(read_secret(path))
            return _from_json(document, str(path))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise CertificateError(f"{path} is damaged; remove it and the agent will bootstrap again") from None


def _to_json(node: NodeIdentity) -> bytes:
    document = {
        "identity": node.identity.to_pem().decode("ascii"),
        "node_id": node.node_id,
        "node": node.node,
        "workspace_id": node.workspace_id,
        "workspace": node.workspace,
        "name_suffix": node.name_suffix,
        "listen_token": node.listen_token.reveal(),
        "sealing_key": node.sealing_key.reveal(),
        "relays": list(node.relays),
        "policy": node.policy,
        "confirmed": node.confirmed,
        "first": node.first,
        "renew_at": node.renew_at,
        "former_sealing_keys": [key.reveal() for key in node.former_sealing_keys],
    }
    return json.dumps(document).encode()


def _from_json(document: dict[str, Any], source: str) -> NodeIdentity:
    return NodeIdentity(
        identity=Identity.from_pem(_text(document, "identity").encode("ascii"), source),
        node_id=_text(document, "node_id"),
        node=_text(document, "node"),
        workspace_id=_text(document, "workspace_id"),
        workspace=_text(document, "workspace"),
        name_suffix=_text(document, "name_suffix"),
        listen_token=Secret(_text(document, "listen_token")),
        sealing_key=Secret(_text(document, "sealing_key")),
        relays=tuple(document["relays"]),
        policy=_policy(document),
        confirmed=document.get("confirmed", True) is True,
        former_sealing_keys=tuple(Secret(key) for key in document.get("former_sealing_keys", [])),
        first=document.get("first", False) is True,
        renew_at=_seconds(document.get("renew_at")),
    )


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise CertificateError(f"{name} is missing")
    return value


def _relays(document: dict[str, Any]) -> tuple[str, ...]:
    """Return the relays' addresses; entries without one are of a later release, and ignored."""
    relays = document.get("relays")
    listed = relays if isinstance(relays, list) else []
    urls = [entry.get("url") for entry in listed if isinstance(entry, dict)]
    return tuple(dict.fromkeys(url for url in urls if isinstance(url, str) and url.startswith("https://")))


def _renew_at(answer: dict[str, Any]) -> float | None:
    """Return the moment that the control plane has promised; an older one promises none."""
    moment = _seconds(answer.get("renew_time"))
    return None if moment is None else moment / 1000


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LATEST_TIME else None


def _policy(document: dict[str, Any]) -> dict[str, Any]:
    policy = document.get("policy")
    return policy if isinstance(policy, dict) else {}
