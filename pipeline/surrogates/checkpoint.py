"""Checkpoints of batched dynamics: the complete state in one file, replaced at once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.surrogates.archives import read_archive, write_archive
from pipeline.surrogates.batch import FloatArray, IntArray
from pipeline.surrogates.moving import MovingCrystals

_FILE = "checkpoint.npz"


@dataclass(frozen=True)
class End:
    """Where a crystal was when it left: positions (n, 3) in Å, velocities (n, 3) in Å/fs, cell (3, 3), and why."""

    positions: FloatArray
    velocities: FloatArray
    cell: FloatArray
    n_steps: int
    error: str | None


@dataclass(frozen=True)
class Checkpoint:
    """Everything that going on depends on.

    Attributes
    ----------
    identity : dict
        What the trajectories depend on (settings, crystals, model), of JSON's types.
    step : int
        Steps done.
    state : MovingCrystals
        Crystals under way.
    ends : dict of int to End
        Crystals that have left, by their index.
    generators : list of dict
        State of each crystal's random generator.
    chunks : int
        Files of frames that count.
    n_frames : (B,) int64
        Frames of each crystal in them.
    """

    identity: dict[str, Any]
    step: int
    state: MovingCrystals
    ends: dict[int, End]
    generators: list[dict[str, Any]]
    chunks: int
    n_frames: IntArray

    def write(self, folder: Path) -> None:
        """Replace the folder's checkpoint."""
        arrays = {f"state.{f.name}": getattr(self.state, f.name) for f in fields(self.state)}
        arrays["n_frames"] = self.n_frames
        for index, end in self.ends.items():
            for name in ("positions", "velocities", "cell"):
                arrays[f"end.{index}.{name}"] = getattr(end, name)
        facts = {
            "identity": self.identity,
            "step": self.step,
            "chunks": self.chunks,
            "generators": self.generators,
            "ends": {str(index): [end.n_steps, end.error] for index, end in self.ends.items()},
        }
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        write_archive(folder / _FILE, arrays)


def read_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint of a folder, or None if it has none; half-written files of a killed process are deleted.

    Raises
    ------
    ValueError
        The file is damaged, or belongs to dynamics of another ``identity``; what differs is named.
    """
    for half_written in folder.glob(".*.npz.*.tmp"):
        half_written.unlink()
    path = folder / _FILE
    if not path.exists():
        return None
    arrays = read_archive(path)
    try:
        facts = json.loads(arrays["facts"].tobytes())
        checkpoint = Checkpoint(
            identity=facts["identity"],
            step=facts["step"],
            state=MovingCrystals(**{f.name: arrays[f"state.{f.name}"] for f in fields(MovingCrystals)}),
            ends={
                int(i): End(
                    arrays[f"end.{i}.positions"], arrays[f"end.{i}.velocities"], arrays[f"end.{i}.cell"], steps, error
                )
                for i, (steps, error) in facts["ends"].items()
            },
            generators=facts["generators"],
            chunks=facts["chunks"],
            n_frames=arrays["n_frames"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete {folder} to run the dynamics anew") from None
    wanted = json.loads(json.dumps(identity))
    differing = [
        f"{name} was {checkpoint.identity.get(name)!r} and is {wanted.get(name)!r}"
        for name in sorted({*wanted, *checkpoint.identity})
        if checkpoint.identity.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(
            f"{folder} holds other dynamics: {'; '.join(differing)}; go on with the same, or take another folder"
        )
    return checkpoint
