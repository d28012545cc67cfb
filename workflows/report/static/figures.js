"use strict";
const block = (name) => JSON.parse(document.getElementById(name).textContent);
const figureBlock = block("figure-block");

/* Shared values with own ones over them, also within objects; an array is taken whole. */
function over(shared, own) {
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (own === undefined) return structuredClone(shared);
  if (!isObject(shared) || !isObject(own)) return own;
  const names = new Set([...Object.keys(shared), ...Object.keys(own)]);
  return Object.fromEntries([...names].map((name) => [name, over(shared[name], own[name])]));
}

function drawFigure(place) {
  const figure = figureBlock.figures[place.dataset.figure];
  if (!figure || place.dataset.drawn) return;
  place.dataset.drawn = "yes";
  const base = figureBlock.bases[figure.base] || { data: [], layout: {} };
  if (base.rows) return drawPhaseTable(place, base.rows, figure.row);
  const look = figureBlock.looks[figure.look] || { traces: {}, layout: {} };
  const touch = window.matchMedia("(pointer: coarse), (max-width: 600px)").matches;
  const traces = figure.data.map(({ like, ...own }) => over(look.traces[like] || {}, own));
  const layout = { ...over(over(look.layout, base.layout), figure.layout), template: figureBlock.template };
  if (touch) layout.dragmode = false;
  const options = {
    responsive: true,
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // not the one that sends a chart to a server
  };
  Plotly.newPlot(place, [...structuredClone(base.data), ...traces], layout, options).then(() => {
    place.on("plotly_click", (event) => {
      const anchor = event.points[0].customdata;
      if (typeof anchor === "string" && anchor) openSection(anchor);
    });
  });
}

/* Phases of four and more elements; the section's own candidate comes first, and once. */
function drawPhaseTable(place, rows, own) {
  const others = rows.filter((row) => String(row) !== String(own));
  const head = ["phase", "formation energy (eV/atom)", "above hull (eV/atom)", ""].map((title) => element("th", title, { scope: "col" }));
  const lines = [[...own.slice(0, 3), "this candidate"], ...others].map(([formula, ...rest], i) => {
    const line = element("tr", undefined, i ? {} : { class: "own" });
    const name = element("th", undefined, { scope: "row" });
    name.append(...formulaNodes(formula));
    line.append(name, ...rest.map((text, j) => element("td", text.replace("-", "−"), { class: j < 2 ? "number" : "text" })));
    return line;
  });
  const table = element("table", undefined, { class: "phases" });
  const parts = ["thead", "tbody"].map((name) => element(name));
  parts[0].append(element("tr"));
  parts[0].firstChild.append(...head);
  parts[1].append(...lines);
  table.append(...parts);
  place.removeAttribute("role");
  place.classList.add("scroll", "tall");
  place.replaceChildren(table);
}

function openSection(anchor) {
  const section = document.getElementById(anchor);
  if (!section) return;
  section.open = true;
  section.scrollIntoView({ block: "start" });
  history.replaceState(null, "", `#${anchor}`);
}

function openFromAddress() {
  const anchor = location.hash.slice(1);
  if (anchor.startsWith("candidate-")) openSection(anchor);
}

document.querySelectorAll("main > section [data-figure]").forEach((place) => {
  if (!place.closest("details.candidate")) drawFigure(place);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#candidate-"]');
  if (!link) return;
  event.preventDefault();
  openSection(link.getAttribute("href").slice(1));
});
window.addEventListener("hashchange", openFromAddress);
window.addEventListener("load", openFromAddress);
const PAPER = 680; // pixels across an A4 page between its margins
const drawnFigures = () => document.querySelectorAll(".js-plotly-plot");
window.addEventListener("beforeprint", () => drawnFigures().forEach((place) => Plotly.relayout(place, { width: PAPER })));
window.addEventListener("afterprint", () => drawnFigures().forEach((place) => Plotly.relayout(place, { width: null, autosize: true })));
