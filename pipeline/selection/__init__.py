"""What to label next: which relaxed crystals of a run would teach a potential most, and why."""
