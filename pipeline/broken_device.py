"""A GPU that answers no more: no crystal is to blame, and nothing that its process computes from then on is right."""

from __future__ import annotations


def is_broken_device(error: BaseException) -> bool:
    """Tell whether an error is of CUDA's kind that every later call of the process meets too.

    An uncorrectable memory error, an illegal access or an assertion on the device leaves the process without its GPU.
    Memory that does not suffice leaves it as it was. torch raises ``AcceleratorError``, before version 2.9
    ``RuntimeError``, with a text that begins alike; it is not imported for that.
    """
    text = str(error)
    return isinstance(error, RuntimeError) and text.startswith("CUDA error") and "out of memory" not in text
