"""Density functional theory on the survivors: inputs, results, competing phases and the hull of one code and settings.

A calculation is a crystal, an engine and its settings (`pipeline.dft.calculation`). The engine ``gpaw`` runs here in a
process of its own; ``vasp`` and ``espresso`` get input files, and their outputs are read back and checked.
"""
