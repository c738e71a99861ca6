"""Whether an adapted model is what its plan says, and does: identity, gradients, a step, merging, memory."""

from surgery.verifying.verification import Verification
from surgery.verifying.verify import verify

__all__ = ["Verification", "verify"]
