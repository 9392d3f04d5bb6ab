"""Resource ids of Azure Resource Manager, strictly: one spelling for each machine, and no way to look like another.

An id is taken apart segment by segment. Upper and lower case are the same (ARM compares so) and become lower; an empty
segment, a segment of dots, an escape, or anything after the machine is refused rather than repaired.
"""

import re
from dataclasses import dataclass

MAX_RESOURCE_ID = 2048

_SEGMENT = r"[a-z0-9_(-][a-z0-9_.()-]{0,119}"
_RESOURCE_ID = re.compile(rf"(?:/{_SEGMENT}){{2,24}}", re.ASCII)
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_COMPUTE = re.compile(
    rf"/subscriptions/(?P<subscription>{_UUID})/resourcegroups/(?P<group>{_SEGMENT})/providers/microsoft\.compute"
    rf"/(?:virtualmachines/(?P<machine>{_SEGMENT})"
    rf"|virtualmachinescalesets/(?P<scale_set>{_SEGMENT})(?:/virtualmachines/(?P<instance>{_SEGMENT}))?)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ComputeResource:
    """A virtual machine, a scale set, or an instance of one; all parts in lower case.

    A machine has a `machine`; an instance of a scale set has a `scale_set` and an `instance`; a scale set, whose
    identity all its instances share, has a `scale_set` only.
    """

    text: str
    subscription: str
    resource_group: str
    machine: str | None = None
    scale_set: str | None = None
    instance: str | None = None

    @property
    def is_one_machine(self) -> bool:
        """Whether the id names a single machine."""
        return self.machine is not None or self.instance is not None


def checked_resource_id(text: str) -> str:
    """The id in lower case.

    Raises:
        ValueError: it is not of the form of resource ids; the message does not repeat it.
    """
    lowered = text.lower() if text.isascii() and len(text) <= MAX_RESOURCE_ID else ""
    if not _RESOURCE_ID.fullmatch(lowered) or any(set(segment) == {"."} for segment in lowered.split("/")):
        msg = "not a resource id"
        raise ValueError(msg)
    return lowered


def read_compute_resource(resource_id: str) -> ComputeResource | None:
    """What the id names if it is a machine, a scale set or an instance of one; None if it is anything else.

    Raises:
        ValueError: as `checked_resource_id`.
    """
    text = checked_resource_id(resource_id)
    found = _COMPUTE.fullmatch(text)
    if found is None:
        return None
    return ComputeResource(
        text, found["subscription"], found["group"], found["machine"], found["scale_set"], found["instance"]
    )
