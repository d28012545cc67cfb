"""Tests of the report, on one synthetic run that they share."""
