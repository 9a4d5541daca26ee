"""What can stop the program, each with the operator's next action in its message.

* StraylineError
  x SettingsError     a setting is unknown or out of its domain
  x InputError        a file cannot be read to its end
  x OutputError       a result cannot be written
  x BrokerError       the broker, or a topic on it, is not as it must be
    x TopicsError     a topic is missing, or has a shape that would lose something

A record that cannot be used is not an error: it becomes a `Reject` with its reason (`stream/codec.py`).
"""

from __future__ import annotations


class StraylineError(Exception):
    """The program could not go on; the message says what to do. Exit status 1."""


class SettingsError(StraylineError):
    """A setting is unknown or out of its domain. Exit status 2."""


class InputError(StraylineError):
    """A file cannot be read to its end; what was read before that point has been scored and written."""


class OutputError(StraylineError):
    """A result cannot be written: no such folder, no permission, a full disk."""


class BrokerError(StraylineError):
    """The broker cannot be reached, or a topic on it is missing or shaped wrongly."""


class TopicsError(BrokerError):
    """A topic is missing, or shaped so that baselines or verdicts would be lost; the message has the command that mends it."""
