"""Distillation: crystals of a campaign's domain, labelled by a teacher, as training data for a surrogate of our own."""
