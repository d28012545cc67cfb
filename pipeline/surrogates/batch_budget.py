"""How many neighbour pairs to evaluate at once: what memory holds, found by trial and never trusted blindly."""

from dataclasses import dataclass

from pipeline.surrogates.batch import MAX_EDGES
from pipeline.surrogates.device_memory import DeviceMemory

# On one core larger batches leave the caches (measured); memory has to be very short before it matters there.
_BEST_ON_CPU = 4_000
# Workers share the host's memory, so one of them plans with little of it.
_SHARE_OF_HOST = 0.125
# First guess on an accelerator: a small part, since the bytes an edge takes were measured elsewhere.
_FIRST_SHARE = 0.125
_FIRST_ON_ACCELERATOR = 50_000
# What growth may fill: fragments and the next, denser crystals need the rest.
_SHARE_WHEN_GROWING = 0.7
# A batch much smaller than the budget says little of what a full one needs.
_FAIR_TEST = 0.5
# What failed is known from the mean density only, and other crystals have more angles: stay well below it.
_SHARE_OF_FAILED = 0.5
# The most that one crystal alone may be expected to take.
_SHARE_OF_ONE_CRYSTAL = 0.5


@dataclass
class BatchBudget:
    """Rule by which the edges of a batch grow while memory holds them, and shrink when it does not.

    Attributes
    ----------
    memory : DeviceMemory or None
        Memory of the accelerator; None on a CPU.
    grows : bool
        Whether the budget is raised after successes; it needs ``memory``.
    failed_at : float
        Fewest edges that ran out of memory; the budget stays at half of them.
    bytes_per_edge : float
        Most memory for each edge seen in a batch of fair size.
    """

    memory: DeviceMemory | None = None
    grows: bool = False
    failed_at: float = float("inf")
    bytes_per_edge: float = 0.0

    def __post_init__(self) -> None:
        if self.grows and self.memory is None:
            raise ValueError("a budget can grow only where memory is measured; give it a DeviceMemory")

    def before(self) -> None:
        """To be called before an evaluation."""
        if self.grows and self.memory is not None:
            self.memory.start_measuring()

    def after_success(self, budget: int, edges: float) -> int:
        """New budget after a batch of ``edges`` was evaluated under ``budget``: doubled where memory should hold it."""
        if not self.grows or self.memory is None or edges < _FAIR_TEST * budget:
            return budget
        self.bytes_per_edge = max(self.bytes_per_edge, self.memory.peak() / edges)
        doubled = 2 * budget
        fits = doubled * self.bytes_per_edge <= _SHARE_WHEN_GROWING * self.memory.room()
        return doubled if fits and doubled <= _SHARE_OF_FAILED * self.failed_at else budget

    def after_overflow(self, budget: int, edges: float) -> int:
        """New budget after a batch of ``edges`` ran out of memory: at most half of what failed."""
        if self.memory is not None:
            self.memory.release()
        self.failed_at = min(self.failed_at, edges)
        return max(min(budget, int(_SHARE_OF_FAILED * self.failed_at)), 1)

    @property
    def overflowed(self) -> bool:
        """Whether a batch ever ran out of memory."""
        return self.failed_at < float("inf")


def first_budget(room: int, bytes_per_edge: float, *, accelerator: bool) -> int:
    """Edges of the first batches.

    Parameters
    ----------
    room : int
        Memory available, bytes.
    bytes_per_edge : float
        What a model is expected to take for each edge.
    accelerator : bool
        Whether the device is one; a CPU's budget is about caches and stays as it is.
    """
    share, most = (_FIRST_SHARE, _FIRST_ON_ACCELERATOR) if accelerator else (_SHARE_OF_HOST, _BEST_ON_CPU)
    return max(min(most, int(share * room / bytes_per_edge)), 1)


def largest_graph(room: int, bytes_per_edge: float) -> int:
    """Edges allowed to a single crystal: the project's limit, or less where memory would not hold them."""
    return max(min(MAX_EDGES, int(_SHARE_OF_ONE_CRYSTAL * room / bytes_per_edge)), 1)
