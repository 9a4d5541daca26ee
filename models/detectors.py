"""The detectors that can be used on their own: River's two verbs, `score_one` and `learn_one`, over one dict of features.

Each is the stand-alone form of a rule that the compiled loop applies to every event:

* `models.facts.Novelty`: a value that is rarely, or never, used here
* `models.amounts.Excess`: an amount above its own past
* `models.tails.Exceedance`: a number that few have reached

`tests/test_detectors.py` is the contract of whatever stands in `DETECTORS`: River's own checks, finite scores of at least 0, no
learning while scoring, bounded memory, and the same answer in every process.
"""

from __future__ import annotations

from models.amounts import Excess
from models.facts import Novelty
from models.tails import Exceedance

DETECTORS = (Novelty, Excess, Exceedance)
