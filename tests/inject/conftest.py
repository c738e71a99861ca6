"""A plan for a live model, made without a spec."""

import pytest
from live_plans import plan_for


@pytest.fixture(name="plan_for")
def _plan_for():
    return plan_for
