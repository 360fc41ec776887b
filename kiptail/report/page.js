"use strict";
document.documentElement.classList.add("script");

// A number of the matrix opens the pods behind it, and goes there.
const open = () => {
  const cell = /^#cell-[0-9]+$/.test(location.hash) && document.querySelector(location.hash);
  if (cell) {
    cell.open = true;
    cell.querySelector("summary").focus();
    cell.scrollIntoView({ block: "nearest" });
  }
};
addEventListener("hashchange", open);
for (const link of document.querySelectorAll(".matrix a")) {
  link.addEventListener("click", () => {
    if (link.hash === location.hash) open(); // which is no change
  });
}
open();

const valueOf = (row, at) => {
  const cell = row.cells[at];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};
const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      // Numbers begin with the most.
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const way = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      const sign = way === "ascending" ? 1 : -1;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => sign * order(valueOf(a, at), valueOf(b, at)));
      table.tBodies[0].append(...rows);
    });
  });
}

for (const input of document.querySelectorAll(".filter input")) {
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const shown = input.closest("p").querySelector("output");
  input.closest("p").hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let count = 0;
    rows.forEach((row, at) => {
      row.hidden = !words.every((word) => texts[at].includes(word));
      count += row.hidden ? 0 : 1;
    });
    shown.textContent = `${count} of ${rows.length} rows`;
  });
}
