"""The physics: configuration, references, surrogates and stages. No Dask, no run folders."""
