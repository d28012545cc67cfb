"use strict";
const structureBlock = block("structure-block");
const MOST_VIEWERS = 6; // browsers drop the oldest WebGL context beyond 8 to 16
const openViewers = new Map();

function drawStructure(section) {
  const structure = structureBlock[section.id];
  const place = section.querySelector(".structure");
  if (!structure || !place || openViewers.has(section)) return;
  while (openViewers.size >= MOST_VIEWERS) removeStructure(openViewers.keys().next().value);
  const viewer = $3Dmol.createViewer(place, { backgroundColor: "white", antialias: true });
  if (!viewer) {
    place.textContent = "This browser offers no WebGL; the CIF can be downloaded below.";
    return;
  }
  viewer.setProjection("orthographic");
  openViewers.set(section, viewer);
  fillViewer(section, viewer, structure);
}

function fillViewer(section, viewer, structure) {
  const cells = section.querySelector(".supercell").checked ? 2 : 1;
  viewer.removeAllModels();
  viewer.removeAllShapes();
  viewer.removeAllLabels();
  const model = viewer.addModel(structure.cif, "cif", { doAssembly: true, duplicateAssemblyAtoms: true });
  for (const [element, colour] of Object.entries(structure.colours)) {
    viewer.setStyle({ elem: element }, { sphere: { scale: 0.4, color: colour } });
  }
  const axes = { radius: 0.06, text: { fontColor: "#374151", showBackground: false, fontSize: 14 } };
  viewer.addUnitCell(model, { box: { color: "#6b7280" }, alabel: "a", blabel: "b", clabel: "c",
    astyle: { color: "#6b7280", ...axes }, bstyle: { color: "#6b7280", ...axes }, cstyle: { color: "#6b7280", ...axes } });
  viewer.replicateUnitCell(cells, cells, cells, model);
  for (const [element, colour] of Object.entries(structure.colours)) {
    viewer.setStyle({ elem: element }, { sphere: { scale: 0.4, color: colour } });
  }
  tieFramework(viewer, model.selectedAtoms({}), structure);
  const path = section.querySelector(".path");
  if (path && path.checked) layPath(viewer, model.getCrystData().matrix.elements, structure.path);
  layLongestAxisAcross(viewer, model.getCrystData());
  viewer.zoomTo();
  viewer.zoom(1.45);
  viewer.render();
}

/* Sticks from each cation of the framework to the anions within 1.2 times its element's shortest distance to one. */
function tieFramework(viewer, atoms, structure) {
  const anions = atoms.filter((atom) => structure.anions.includes(atom.elem));
  const distance = (p, q) => Math.hypot(p.x - q.x, p.y - q.y, p.z - q.z);
  for (const element of structure.cations) {
    const pairs = atoms.filter((atom) => atom.elem === element).flatMap((atom) => anions.map((anion) => [atom, anion, distance(atom, anion)]));
    const shortest = pairs.reduce((least, pair) => Math.min(least, pair[2]), Infinity);
    for (const [atom, anion, length] of pairs) {
      if (length <= 1.2 * shortest) viewer.addCylinder({ start: atom, end: anion, radius: 0.1, color: "#9aa3af" });
    }
  }
}

/* Hops of the mobile ion: a ball where each starts and ends, a bend at its pass. */
function layPath(viewer, matrix, hops) {
  const place = ([a, b, c]) => ({ x: matrix[0] * a + matrix[3] * b + matrix[6] * c, y: matrix[1] * a + matrix[4] * b + matrix[7] * c, z: matrix[2] * a + matrix[5] * b + matrix[8] * c });
  const color = "#111827";
  for (const hop of hops) {
    const [start, pass, end] = [hop.slice(0, 3), hop.slice(3, 6), hop.slice(6)].map(place);
    for (const center of [start, end]) viewer.addSphere({ center, radius: 0.28, color });
    for (const [from, to] of [[start, pass], [pass, end]]) viewer.addCylinder({ start: from, end: to, radius: 0.13, color, fromCap: 2, toCap: 2 });
  }
}

function layLongestAxisAcross(viewer, cell) {
  viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
  if (cell.c >= cell.a && cell.c >= cell.b) viewer.rotate(90, "y");
  else if (cell.b >= cell.a) viewer.rotate(-90, "z");
  viewer.rotate(14, "x");
  viewer.rotate(-16, "y");
}

function removeStructure(section) {
  openViewers.delete(section);
  const place = section.querySelector(".structure");
  const canvas = place.querySelector("canvas");
  const context = canvas && (canvas.getContext("webgl2") || canvas.getContext("webgl"));
  const lost = context && context.getExtension("WEBGL_lose_context");
  if (lost) lost.loseContext();
  place.replaceChildren();
}

function saveText(text, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

document.querySelectorAll("details.candidate").forEach((section) => {
  section.addEventListener("toggle", () => {
    if (!section.open) return removeStructure(section);
    section.querySelectorAll("[data-figure]").forEach(drawFigure);
    drawStructure(section);
  });
  const structure = structureBlock[section.id];
  if (!structure) return;
  section.querySelectorAll(".supercell, .path").forEach((box) => box.addEventListener("change", () => {
    if (!openViewers.has(section)) drawStructure(section);
    else fillViewer(section, openViewers.get(section), structure);
  }));
  section.querySelector(".save-cif").addEventListener("click", () => saveText(structure.cif, `${section.id}.cif`, "chemical/x-cif"));
});
