"""One file a stage: a pure function of one table partition."""
