"""What is known beforehand: elements, prototypes, competing phases, known electrolytes.

``PhaseReference`` and ``ElectrochemicalWindow`` are found here; they load on first use, so that importing this
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.reference.phases import PhaseReference
    from pipeline.reference.window import ElectrochemicalWindow

__all__ = ["ElectrochemicalWindow", "PhaseReference"]


def __getattr__(name: str) -> Any:
    if name == "PhaseReference":
        from pipeline.reference.phases import PhaseReference

        return PhaseReference
    if name == "ElectrochemicalWindow":
        from pipeline.reference.window import ElectrochemicalWindow

        return ElectrochemicalWindow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
