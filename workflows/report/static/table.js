"use strict";
const tableBlock = block("table-block");
const PAGE = 50;
const state = { sort: null, descending: false, filters: {}, kind: "all", text: "", rows: PAGE, columns: tableBlock.order.slice() };
const numbers = tableBlock.columns.map((column, j) => (column.number ? tableBlock.rows.map((row) => (row[j] === "" ? NaN : Number(row[j] === "inf" ? Infinity : row[j] === "-inf" ? -Infinity : row[j]))) : null));

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function formulaNodes(text) {
  if (!/^[A-Za-z0-9().]+$/.test(text)) return [document.createTextNode(text)];
  return text.split(/((?<=[A-Za-z)])\d+(?:\.\d+)?)/).filter(Boolean).map((piece, i) => (i && /^\d/.test(piece) ? element("sub", piece) : document.createTextNode(piece)));
}

function rounded(j, i) {
  const text = tableBlock.rows[i][j];
  const column = tableBlock.columns[j];
  if (text === "True") return "yes";
  if (text === "False") return "no";
  if (text === "") return column.empty;
  if (!column.float) return text;
  const value = numbers[j][i];
  if (!Number.isFinite(value)) return text;
  const size = Math.abs(value);
  const short = size !== 0 && (size < 1e-4 || size >= 1e5) ? value.toExponential(3) : String(Number(value.toPrecision(4)));
  return short.replace("-", "−");
}

/* A filter of one column: "<0.05", ">= 3", "1..2" for numbers, any other text is searched for. */
function columnTest(j, wish) {
  const range = wish.match(/^\s*(-?[\d.]+(?:e[-+]?\d+)?)\s*\.\.\s*(-?[\d.]+(?:e[-+]?\d+)?)\s*$/i);
  const bound = wish.match(/^\s*(<=|>=|<|>|=)\s*(-?[\d.]+(?:e[-+]?\d+)?)\s*$/i);
  if (numbers[j] && range) return (i) => numbers[j][i] >= Number(range[1]) && numbers[j][i] <= Number(range[2]);
  if (numbers[j] && bound) {
    const limit = Number(bound[2]);
    const compare = { "<": (v) => v < limit, "<=": (v) => v <= limit, ">": (v) => v > limit, ">=": (v) => v >= limit, "=": (v) => v === limit };
    return (i) => compare[bound[1]](numbers[j][i]);
  }
  const lower = wish.trim().toLowerCase();
  return (i) => tableBlock.rows[i][j].toLowerCase().includes(lower) || (!numbers[j] && rounded(j, i).toLowerCase().includes(lower));
}

/* What is wrong with the filters, in words: a number's filter that is neither a bound, a range nor a part of a number. */
function filterHint() {
  const wrong = Object.entries(state.filters).find(([j, wish]) => numbers[j] && wish.trim() && !/^[\s<>=.\-+e\d]*$|^-?inf$/i.test(wish));
  if (!wrong) return "";
  const column = tableBlock.columns[wrong[0]];
  return `; ${column.title} holds numbers: write ${column.filter}, 1..2 or a number, not "${wrong[1].trim()}"`;
}

function kindTest(kind) {
  if (kind === "all") return () => true;
  if (kind === "new") return (i) => tableBlock.kinds[i] === "shortlist" || tableBlock.kinds[i] === "other";
  return (i) => tableBlock.kinds[i] === kind;
}

function chosenRows() {
  const tests = [kindTest(state.kind)];
  for (const [j, wish] of Object.entries(state.filters)) if (wish.trim()) tests.push(columnTest(Number(j), wish));
  const word = state.text.trim().toLowerCase();
  if (word) tests.push((i) => tableBlock.rows[i].some((cell) => cell.toLowerCase().includes(word)));
  const rows = tableBlock.rows.map((_, i) => i).filter((i) => tests.every((test) => test(i)));
  if (state.sort === null) return rows;
  const j = state.sort;
  const direction = state.descending ? -1 : 1;
  return rows.sort((a, b) => {
    const [x, y] = [tableBlock.rows[a][j], tableBlock.rows[b][j]];
    if (x === "" || y === "") return (x === "") - (y === "") || a - b; // rows without a value come last
    const difference = numbers[j] ? numbers[j][a] - numbers[j][b] || 0 : x.localeCompare(y);
    return direction * difference || a - b;
  });
}

function drawHead() {
  const titles = element("tr");
  const filters = element("tr", undefined, { class: "filters" });
  for (const j of state.columns) {
    const column = tableBlock.columns[j];
    const sorted = state.sort === j ? (state.descending ? "descending" : "ascending") : "none";
    const cell = element("th", undefined, { scope: "col", "aria-sort": sorted, title: column.meaning, "data-column": column.name, class: column.name === "formula_pretty" ? "pinned" : "" });
    const button = element("button", column.title, { type: "button" });
    button.append(element("span", column.unit, { class: "unit" }));
    button.addEventListener("click", () => {
      state.descending = state.sort === j ? !state.descending : false;
      state.sort = j;
      drawHead();
      drawBody();
    });
    cell.append(button);
    titles.append(cell);
    const filter = element("td", undefined, { class: column.name === "formula_pretty" ? "pinned" : "" });
    const input = element("input", undefined, { type: "text", placeholder: column.filter, "aria-label": `filter ${column.title}`, "data-filter": column.name });
    input.value = state.filters[j] || "";
    input.addEventListener("input", () => {
      state.filters[j] = input.value;
      drawBody();
    });
    filter.append(input);
    filters.append(filter);
  }
  titles.append(element("th", "marks", { scope: "col" }));
  filters.append(element("td"));
  document.querySelector("#candidates thead").replaceChildren(titles, filters);
}

function drawCell(i, j) {
  const column = tableBlock.columns[j];
  const text = tableBlock.rows[i][j];
  const cell = element("td", undefined, { class: column.number ? "number" : "text", "data-column": column.name, "data-value": text });
  if (column.name !== "formula_pretty") {
    cell.textContent = rounded(j, i);
    if (column.float) cell.title = text;
    return cell;
  }
  cell.classList.add("pinned");
  const anchor = tableBlock.sections[i];
  const holder = anchor ? element("a", undefined, { href: `#${anchor}` }) : element("span");
  holder.append(...formulaNodes(text));
  cell.append(holder);
  return cell;
}

function drawBody() {
  const rows = chosenRows();
  const shown = rows.slice(0, state.rows).map((i) => {
    const line = element("tr", undefined, { class: `kind-${tableBlock.kinds[i]}` });
    line.append(...state.columns.map((j) => drawCell(i, j)), element("td", tableBlock.marks[i], { class: "marks" }));
    return line;
  });
  document.querySelector("#candidates tbody").replaceChildren(...shown);
  document.getElementById("table-count").textContent = `${rows.length.toLocaleString("en")} of ${tableBlock.rows.length.toLocaleString("en")} rows, ${shown.length} shown${filterHint()}`;
  document.getElementById("more-rows").hidden = rows.length <= state.rows;
}

function csvOf(rows) {
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [tableBlock.columns.map((column) => column.name), ...rows.map((i) => tableBlock.rows[i])];
  return lines.map((line) => line.map(quoted).join(",") + "\n").join("");
}

function drawChooser() {
  const groups = new Map();
  tableBlock.columns.forEach((column, j) => groups.set(column.stage, [...(groups.get(column.stage) || []), j]));
  const chooser = document.getElementById("column-chooser");
  for (const [stage, members] of groups) {
    const group = element("fieldset");
    group.append(element("legend", stage.replaceAll("_", " ")));
    for (const j of members) {
      const label = element("label", undefined, { title: tableBlock.columns[j].meaning });
      const box = element("input", undefined, { type: "checkbox", "data-choose": tableBlock.columns[j].name });
      box.checked = state.columns.includes(j);
      box.addEventListener("change", () => {
        state.columns = box.checked ? [...state.columns, j] : state.columns.filter((k) => k !== j);
        delete state.filters[j];
        drawHead();
        drawBody();
      });
      label.append(box, ` ${tableBlock.columns[j].title}`);
      group.append(label);
    }
    chooser.append(group);
  }
}

if (document.getElementById("candidates")) {
  drawChooser();
  drawHead();
  drawBody();
  document.getElementById("search").addEventListener("input", (event) => {
    state.text = event.target.value;
    drawBody();
  });
  document.getElementById("kind").addEventListener("change", (event) => {
    state.kind = event.target.value;
    drawBody();
  });
  document.getElementById("more-rows").addEventListener("click", () => {
    state.rows += 4 * PAGE;
    drawBody();
  });
  document.getElementById("save-csv").addEventListener("click", () => saveText(csvOf(chosenRows()), "ranked_candidates.csv", "text/csv"));
}
