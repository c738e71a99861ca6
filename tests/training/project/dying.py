"""The task of `tiny`, in a process that is killed where the environment says.

`DIE=loss:7` kills at the 7th forward pass, `DIE=fsync:3` when the 3rd file is flushed to the disk in a save.
"""

import os
import signal
from collections import Counter

from tiny import Unmask

WHAT, _, NUMBER = os.environ.get("DIE", "").partition(":")
counts = Counter()


def reach(what):
    counts[what] += 1
    if (what, str(counts[what])) == (WHAT, NUMBER):
        os.kill(os.getpid(), signal.SIGKILL)


class Dying(Unmask):
    def loss(self, model, batch):
        reach("loss")
        return super().loss(model, batch)


def unmask():
    flush = os.fsync
    os.fsync = lambda handle: (reach("fsync"), flush(handle))[1]
    return Dying()
