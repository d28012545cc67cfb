"""What every row of a campaign needs: prototypes, models, competing phases. Loaded once a process, on first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config import Campaign
    from pipeline.reference import PhaseReference
    from pipeline.reference.prototype_library import PrototypeLibrary
    from pipeline.surrogates import Potential, PropertyModel


@dataclass
class References:
    """The ``refs`` argument of a stage.

    Attributes
    ----------
    campaign
        The whole configuration, resolved (fallback models chosen, paths absolute).
    library_path
        The campaign's prototype library, as ``PrototypeLibrary.save`` wrote it.
    phases_path
        Formation energies of the competing phases: the configured table, or what the self-consistent reference
        step of this run wrote.
    elemental_references_path
        Energies of the elements in the same scheme.
    """

    campaign: Campaign
    library_path: Path
    phases_path: Path
    elemental_references_path: Path
    observed_path: Path | None = None

    def __getstate__(self) -> dict[str, object]:
        """What travels to a worker: the settings and paths, not the models and tables loaded here."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def mobile_ions(self) -> tuple[str, ...]:
        """Elements whose ions should move."""
        return self.campaign.mobile_ions

    @cached_property
    def library(self) -> PrototypeLibrary:
        """Prototypes that candidates are made of."""
        from pipeline.reference.prototype_library import PrototypeLibrary

        return PrototypeLibrary.load(self.library_path)

    @cached_property
    def phases(self) -> PhaseReference:
        """Competing phases and the energies of the elements."""
        from pipeline.reference import PhaseReference

        return PhaseReference.from_table(self.phases_path, elemental_references=self.elemental_references_path)

    @property
    def database(self) -> PhaseReference | None:
        """Competing phases that a database holds; None where they are this campaign's own relaxations."""
        return None if self.campaign.reference.source == "prototypes" else self.phases

    @cached_property
    def potential(self) -> Potential:
        """The interatomic potential."""
        from pipeline.surrogates import load_potential

        settings = self.campaign.potential
        return load_potential(
            settings.model, device=self.campaign.device, convention=settings.convention, scheme=settings.scheme
        )

    @cached_property
    def second_potential(self) -> Potential | None:
        """The potential asked for a second opinion, if one is configured."""
        from pipeline.surrogates import load_potential

        name = self.campaign.potential.second_opinion
        return None if name is None else load_potential(name, device=self.campaign.device)

    def property_model(self, name: str) -> PropertyModel:
        """A property model by name, loaded once."""
        from pipeline.surrogates import load_property_model

        if name not in self._property_models:
            self._property_models[name] = load_property_model(name, device=self.campaign.device)
        return self._property_models[name]

    @cached_property
    def _property_models(self) -> dict[str, PropertyModel]:
        return {}

    @property
    def has_observed_list(self) -> bool:
        """Whether a list of observed compositions was found: without one, not to be listed means nothing."""
        return self.observed_path is not None

    @property
    def known_formulas(self) -> frozenset[str]:
        """Compositions that the campaign itself names as known."""
        return self.campaign.known_formulas

    @cached_property
    def observed_formulas(self) -> frozenset[str]:
        """Reduced formulas that were observed in experiment, as far as the campaign's data knows.

        Parents of prototypes count; a user's own crystals do not: they are what is screened.
        """
        from pipeline.reference.prototypes import observed_formulas

        known = set(observed_formulas(self.observed_path)) if self.observed_path is not None else set()
        own = self.campaign.candidates.own_crystals
        return frozenset(known if own else known | self.library.parent_formulas)


def resolve_path(text: str, base: Path, environ: Mapping[str, str]) -> Path | None:
    """Find a configured file: absolute, beside the config, or in ``$IONSIEVE_DATA``; None when nowhere."""
    path = _at_home(Path(text))
    tried = [path] if path.is_absolute() else [base / path]
    if not path.is_absolute() and environ.get("IONSIEVE_DATA"):
        tried.append(Path(environ["IONSIEVE_DATA"]) / path)
    return next((p.resolve() for p in tried if _exists(p)), None)


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # ~name of a user that does not exist
        return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for the file system
        return False
