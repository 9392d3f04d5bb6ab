"""Takes quotas into force as the control plane states them, and keeps them for a start without it."""

from collections.abc import Callable
from pathlib import Path

from relay.admission.quota_form import QuotaError, read_quotas
from relay.admission.quotas import Quotas
from trunkline.runtime.files import read_regular, write_atomic
from trunkline.runtime.logs import Logger

QUOTAS_FILE = "quotas.json"
MAX_FILE_BYTES = 16 * 1024 * 1024


class QuotaKeeper:
    """Holds the text in force; `changed` is called once other quotas are, so that grants are decided anew."""

    def __init__(self, state_directory: Path, quotas: Quotas, changed: Callable[[], object], log: Logger) -> None:
        self._path = state_directory / QUOTAS_FILE
        self._quotas = quotas
        self._changed = changed
        self._log = log
        self._text = ""
        self._kept = ""
        self._due: Callable[[], object] = self.keep
        self._load()
        self._kept = self._text

    @property
    def text(self) -> str:
        """What is in force, as the control plane states it; empty while nothing is."""
        return self._text

    def store_later(self, due: Callable[[], None]) -> None:
        """Have `take` wait for no disk: from here on it calls `due`, and `keep` is to be called in a thread then."""
        self._due = due

    def take(self, text: str) -> None:
        """Take what the control plane states into force; what cannot be read changes nothing, and is logged."""
        if text == self._text:
            return
        try:
            self._apply(text)
        except QuotaError as error:
            self._log.error("quotas.refused", reason=str(error))
        else:
            self._due()

    def keep(self) -> bool:
        """Bring the text in force to the disk, where it is not; whether it is there. It may be called in any thread."""
        text = self._text
        if text != self._kept:
            try:
                write_atomic(self._path, text.encode())
                self._kept = text
            except OSError:
                return False
        return True

    def _apply(self, text: str) -> None:
        quotas = read_quotas(text)
        self._quotas.replace(quotas)
        self._text = text
        self._changed()
        self._log.info("quotas.in_force", workspaces=len(quotas))

    def _load(self) -> None:
        try:
            self._apply(read_regular(self._path, most_bytes=MAX_FILE_BYTES).decode("utf-8", "replace"))
        except FileNotFoundError:
            return
        except (OSError, QuotaError) as error:
            self._log.warning(
                "quotas.not_read",
                file=str(self._path),
                reason=error.strerror if isinstance(error, OSError) else str(error),
                consequence="there are no quotas until the control plane has stated them, which replaces the file",
            )
