"""Resource ids: one spelling a machine, and no trick that makes one look like another."""

import pytest

from certs.arm_ids import checked_resource_id, read_compute_resource

SUBSCRIPTION = "/subscriptions/55555555-5555-4555-8555-555555555555"
COMPUTE = f"{SUBSCRIPTION}/resourceGroups/Rg-1/providers/Microsoft.Compute"


def test_a_machine():
    found = read_compute_resource(f"{COMPUTE}/virtualMachines/VM_1")
    assert found is not None
    assert (found.machine, found.resource_group, found.is_one_machine) == ("vm_1", "rg-1", True)
    assert found == read_compute_resource(f"{COMPUTE}/virtualMachines/VM_1".upper())


def test_scale_sets_and_their_instances():
    whole = read_compute_resource(f"{COMPUTE}/virtualMachineScaleSets/Web")
    one = read_compute_resource(f"{COMPUTE}/virtualMachineScaleSets/Web/virtualMachines/7")
    assert whole is not None
    assert one is not None
    assert (whole.scale_set, whole.is_one_machine) == ("web", False)
    assert (one.scale_set, one.instance, one.is_one_machine) == ("web", "7", True)


@pytest.mark.parametrize(
    "text",
    [
        f"{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u",
        f"{SUBSCRIPTION}/resourceGroups/virtualMachines/providers/Microsoft.Web/sites/virtualMachines",
        f"{COMPUTE}/virtualMachines/vm-1/extensions/x",
        f"{COMPUTE}/virtualMachines/vm-1/providers/Microsoft.Compute/virtualMachines/vm-2",
        f"{COMPUTE}x/virtualMachines/vm-1",
        "/subscriptions/x/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm-1",
        f"/x{COMPUTE}/virtualMachines/vm-1",
    ],
)
def test_what_is_no_machine(text: str):
    assert read_compute_resource(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/a",
        "/a//b",
        "/a/b/",
        "a/b/c",
        "/a/../b",
        "/a/./b",
        "/a/.../b",
        f"{COMPUTE}/virtualMachines/vm-2%2f..%2fvm-1",
        f"{COMPUTE}/virtualMachines/vm-1\n",
        f"{COMPUTE}/virtualMachines/vm-1?api-version=1",
        f"{COMPUTE}/virtualMachines/vm-1#",
        f"{COMPUTE}/virtualMachines/v\u212a",
        f"{COMPUTE}/virtualMachines/vm 1",
        f"{COMPUTE}\\virtualMachines\\vm-1",
        "/a" * 25,
        "/" + "a" * 121 + "/b",
        "/ab" * 1000,
    ],
)
def test_forms_that_are_refused(text: str):
    with pytest.raises(ValueError, match="not a resource id"):
        checked_resource_id(text)
