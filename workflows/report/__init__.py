"""The report of a run: one HTML file that needs no network.

run_data.py reads the run folder, stage_rows.py the rows of each stage; overview.py, table.py, elements.py and
candidate_sections.py work out what is shown; figures.py and candidate_figures.py turn it into plotly figures; page.py
draws it with the templates in templates/ and the scripts in static/.
"""
