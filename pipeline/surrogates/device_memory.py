"""How much memory there is to evaluate in: of a CUDA device, or of the host within its control group's limits."""

from pathlib import Path
from typing import Protocol

import psutil
import torch


class DeviceMemory(Protocol):
    """Memory of an accelerator, as a batch budget sees it. All numbers in bytes."""

    def start_measuring(self) -> None:
        """Forget the peak so far."""
        ...

    def peak(self) -> int:
        """Most memory taken at once since measuring started, beyond what was taken then."""
        ...

    def room(self) -> int:
        """Memory that an evaluation may take now."""
        ...

    def release(self) -> None:
        """Give back what is cached but not used."""
        ...


class CudaMemory:
    """Memory of one CUDA device as torch's caching allocator sees it.

    Parameters
    ----------
    device : torch.device
        A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._taken_before = 0

    def start_measuring(self) -> None:
        """Forget the peak so far."""
        torch.cuda.reset_peak_memory_stats(self.device)
        self._taken_before = torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        """Most memory taken at once since measuring started, beyond what was taken then."""
        return int(torch.cuda.max_memory_allocated(self.device) - self._taken_before)

    def room(self) -> int:
        """Free memory of the device, and what the allocator holds in reserve."""
        free, _ = torch.cuda.mem_get_info(self.device)
        reserve = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(free + reserve)

    def release(self) -> None:
        """Give the allocator's reserve back to the device."""
        torch.cuda.empty_cache()


def available_host_memory(system: Path = Path("/")) -> int:
    """Bytes that this process may still take: what the machine has available, within its control groups' limits.

    Parameters
    ----------
    system : Path
        Where ``proc`` and ``sys`` are mounted.
    """
    available = int(psutil.virtual_memory().available)
    return min([available, *_room_of_groups(system)])


def _room_of_groups(system: Path) -> list[int]:
    """Limit minus use for each memory control group that holds this process (version 1 and 2 of cgroups)."""
    try:
        memberships = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []
    rooms = []
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = system / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = system / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = root / path.lstrip("/")
        # In a container the path may be the host's while the group is mounted as the root: then only the root exists.
        for folder in (group, *group.parents):
            room = _room_of_group(folder, *names)
            if room is not None:
                rooms.append(room)
            if folder == root:
                break
    return rooms


def _room_of_group(folder: Path, limit_name: str, use_name: str, reclaimable_name: str) -> int | None:
    """Limit minus use of one group; None without a limit. Cached files count as use, but are given up when needed."""
    try:
        limit = int((folder / limit_name).read_text(encoding="utf-8"))
        use = int((folder / use_name).read_text(encoding="utf-8"))
        rows = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
        reclaimable = int(rows.get(reclaimable_name, 0))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
    return max(limit - use + reclaimable, 0)
