"""What a process of the program has done before it begins: imported all that a worker and the commands need, and loaded the compiled models."""

from __future__ import annotations

import stream.__main__
import stream.operations
import stream.worker  # noqa: F401
from stream.engine import warm_up
from stream.settings import load

warm_up(load({}))
