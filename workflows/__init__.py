"""Dask and disk: clusters, run folders, the funnel, the command line."""
