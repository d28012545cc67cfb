"""Tests; a package, since installed ones bring a `tests` of their own."""
