"""Declarations of the columns, a tuple for each stage; `pipeline.schema` puts them in order and looks them up."""
