"""Colours that people with any kind of colour vision tell apart (Okabe and Ito, Color Universal Design, 2008)."""

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
SKY = "#56B4E9"
GREY = "#6b7280"

OF_KIND = {"shortlist": VERMILION, "control": GREEN, "suspect": "#222222", "other": SKY}
SYMBOL_OF_KIND = {"shortlist": "diamond", "control": "square", "suspect": "x-thin-open", "other": "circle"}
NAME_OF_KIND = {"shortlist": "shortlist", "control": "known or parent", "suspect": "suspect", "other": "other"}
