"use strict";
const block = (name) => JSON.parse(document.getElementById(name).textContent);
const figureBlock = block("figure-block");

function drawFigure(place) {
  const figure = figureBlock.figures[place.dataset.figure];
  if (!figure || place.dataset.drawn) return;
  place.dataset.drawn = "yes";
  const touch = window.matchMedia("(pointer: coarse), (max-width: 600px)").matches;
  const base = figureBlock.bases[figure.base] || { data: [], layout: {} };
  const layout = { ...structuredClone(base.layout), ...figure.layout, template: figureBlock.template };
  if (touch) layout.dragmode = false;
  const options = {
    responsive: true,
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // not the one that sends a chart to a server
  };
  Plotly.newPlot(place, [...structuredClone(base.data), ...figure.data], layout, options).then(() => {
    place.on("plotly_click", (event) => {
      const anchor = event.points[0].customdata;
      if (typeof anchor === "string" && anchor) openSection(anchor);
    });
  });
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
