"""Diffusivities, conductivities and activation energies from trajectories of molecular dynamics.

Plain arrays in, frozen results out. `trajectory.analyse_trajectory` is the whole of it for one temperature,
`arrhenius.fit_arrhenius` brings temperatures together.
"""
