"""The machines of a sandbox as each emulated cloud knows them: the same ids at each start, for DEVELOPMENT ONLY."""

from __future__ import annotations

import base64
import hashlib
import uuid

TENANT = "00000000-5a4d-b0c5-8000-000000000001"
SUBSCRIPTION = "00000000-0000-4000-8000-5a4db0c50000"
RESOURCE_GROUP = "sandbox"
AZURE_REGION = "sandboxregion"
DOCUMENT_HOST = "metadata.sandbox.internal"
AWS_ACCOUNT = "000000000042"
AWS_REGION = "us-sandbox-1"
AWS_ROLE = "sandbox-node"
GCP_PROJECT = "trunkline-sandbox"
GCP_ZONE = "sandbox-region1-a"
GCP_ISSUER_PATH = "/google"
GCP_KEYS_PATH = "/google/oauth2/v3/certs"
CONTROL_PLANE = "control-plane"
"""The machine that the control plane itself runs on; it has a token for Azure Resource Manager, and nothing else."""

_NAMESPACE = uuid.UUID("5a4db0c5-0000-4000-8000-000000000000")


def object_id(machine: str) -> str:
    """The object id of a machine's managed identity."""
    return str(uuid.uuid5(_NAMESPACE, f"object/{machine}"))


def client_id(machine: str) -> str:
    """The application id of a machine's managed identity."""
    return str(uuid.uuid5(_NAMESPACE, f"client/{machine}"))


def vm_id(machine: str) -> str:
    """The id that Azure gives a VM for its life."""
    return str(uuid.uuid5(_NAMESPACE, f"vm/{machine}"))


def resource_id(machine: str) -> str:
    """The id of a VM in Azure Resource Manager."""
    group = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/{RESOURCE_GROUP}"
    return f"{group}/providers/Microsoft.Compute/virtualMachines/{machine}"


def ec2_instance_id(machine: str) -> str:
    """The id of an EC2 instance."""
    return f"i-{_digest(f'ec2/{machine}').hex()[:17]}"


def ec2_access_key_id(machine: str) -> str:
    """The access key id of an EC2 instance's role."""
    return "ASIA" + base64.b32encode(_digest(f"key/{machine}")).decode()[:16]


def gcp_instance_id(machine: str) -> str:
    """The id of a Compute Engine instance."""
    return str(int.from_bytes(_digest(f"gce/{machine}")[:7], "big"))


def service_account(machine: str) -> str:
    """The service account of a Compute Engine instance."""
    return f"{machine}@{GCP_PROJECT}.iam.gserviceaccount.com"


def _digest(text: str) -> bytes:
    return hashlib.sha256(_NAMESPACE.bytes + text.encode()).digest()
