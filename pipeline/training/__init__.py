"""Training of interatomic potentials on labelled crystals. Reading and checking labels imports no torch."""
