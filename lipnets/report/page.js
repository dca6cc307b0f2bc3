"use strict";
// Tables of the class "sortable" are sorted by a click on a heading; without this they are read as they are.
for (const table of document.querySelectorAll("table.sortable")) {
  const head = table.rows[0];
  for (const cell of head.cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => sort(table, cell));
  }
}

function sort(table, cell) {
  const down = cell.getAttribute("aria-sort") === "ascending";
  for (const other of cell.parentNode.cells) other.removeAttribute("aria-sort");
  cell.setAttribute("aria-sort", down ? "descending" : "ascending");
  const column = cell.cellIndex;
  const rows = [...table.rows].slice(1);
  rows.sort((a, b) => (down ? -1 : 1) * compare(a.cells[column], b.cells[column]));
  for (const row of rows) row.parentNode.append(row);
}

function compare(a, b) {
  const [x, y] = [a, b].map((cell) => cell.textContent.trim());
  const [u, v] = [x, y].map((text) => parseFloat(text.replace(/[\u202f\s<>]/g, "").replace("\u2212", "-")));
  if (isNaN(u) || isNaN(v)) return isNaN(u) === isNaN(v) ? x.localeCompare(y) : isNaN(u) - isNaN(v);
  return u - v;
}
