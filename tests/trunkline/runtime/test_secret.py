import copy
import json
import pickle

import pytest
from pydantic import BaseModel

from trunkline.runtime.secret import Secret

CANARY = "canary-7c1f"


class Holder(BaseModel):
    secret: Secret


def test_only_reveal_reveals():
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, repr([secret])]  # noqa: UP031
    assert CANARY not in "".join(shown)
    assert bool(secret)
    assert not Secret("")


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_cannot_be_pickled_or_copied(copier):
    with pytest.raises(TypeError, match="cannot be pickled"):
        copier(Secret(CANARY))


def test_models_hide_it():
    holder = Holder.model_validate({"secret": CANARY})
    assert holder.secret.reveal() == CANARY
    assert CANARY not in repr(holder) + holder.model_dump_json() + json.dumps(holder.model_dump())
