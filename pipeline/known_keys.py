"""What may stand at a place of a settings file: its keys, and what a key means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel


def keys_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Keys that exist beside the one at ``place``, a location of pydantic's; empty where any key may stand."""
    return [name for settings in _models(_annotation(model, place[:-1])) for name in settings.model_fields]


def meaning(model: type[BaseModel], place: Sequence[str | int]) -> str:
    """Description of the key at ``place``; empty where it has none."""
    for settings in _models(_annotation(model, place[:-1])):
        if place and place[-1] in settings.model_fields:
            return settings.model_fields[str(place[-1])].description or ""
    return ""


def _annotation(model: type[BaseModel], place: Sequence[str | int]) -> Any:
    """Type at a place. A place in a list, or under a key of one's own, has the type that holds it."""
    found: Any = model
    for part in place:
        below = _models(found)
        tagged = next((m for m in below if _tag(m) == part), None)
        if tagged is not None:
            found = tagged
            continue
        found = next((m.model_fields[part].annotation for m in below if part in m.model_fields), found)
    return found


def _tag(model: type[BaseModel]) -> object:
    """Value by which pydantic tells the stages apart, and names them in a location."""
    stage = model.model_fields.get("stage")
    return get_args(stage.annotation)[0] if stage is not None and get_args(stage.annotation) else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
