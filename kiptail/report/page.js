"use strict";
const root = document.documentElement;
root.classList.add("script");
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const numberIn = (element) => Number(element.textContent.replaceAll(",", ""));
const written = (number) => number.toLocaleString("en-US");

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
for (const link of all(".matrix a")) {
  link.addEventListener("click", () => {
    if (link.hash === location.hash) open(); // which is no change
  });
}
open();

// Tables are sorted by the column that was chosen; until then by their packets, the most first.
const sorts = all("table.sortable").map((table) => {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const packets = (row) => all("[data-when]", row).reduce((sum, cell) => sum + numberIn(cell), 0);
  const sort = () => {
    const at = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    const isNumber = at < 0 || heads[at].classList.contains("number");
    const key = at < 0 ? packets : (row) => (isNumber ? numberIn(row.cells[at]) : row.cells[at].textContent);
    const sign = at >= 0 && heads[at].getAttribute("aria-sort") === "ascending" ? 1 : -1;
    const order = (a, b) => sign * (isNumber ? a - b : a.localeCompare(b, "en", { numeric: true }));
    const keyed = rows.map((row) => [key(row), row]).sort(([a], [b]) => order(a, b));
    body.append(...keyed.map(([, row]) => row));
  };
  heads.forEach((head) => {
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
      sort();
    });
  });
  return sort;
});

const filters = all(".filter input").map((input) => {
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const shown = input.closest("p").querySelector("output");
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    const there = rows.filter((row) => !row.classList.contains("none"));
    rows.forEach((row, at) => {
      row.hidden = !words.every((word) => texts[at].includes(word));
    });
    const count = there.filter((row) => !row.hidden).length;
    shown.textContent = input.value ? `${written(count)} of ${written(there.length)} rows` : "";
  };
  input.closest("p").hidden = false;
  input.addEventListener("input", filter);
  return filter;
});

// A part of the time: everything with data-when shows what it has in the bars from one edge to another.
const [begin, end] = ["part-begin", "part-end"].map((id) => document.getElementById(id));

// How many packets there are before each edge; kiptail/report/timeline.py says how it is written.
const sumsOf = (text, bars) => {
  const sums = [0];
  for (const word of text.split(" ")) {
    const number = parseInt(word, 36);
    const sum = sums.at(-1);
    if (number < 0) sums.push(...Array(-number).fill(sum));
    else if (number > 0) sums.push(sum + number);
  }
  while (sums.length <= bars) sums.push(sums.at(-1));
  return sums;
};

const brush = () => {
  const bars = Number(end.max);
  const plot = begin.closest(".timeline").querySelector("svg");
  const band = plot.querySelector(".band");
  const choice = document.getElementById("choice");
  const reset = choice.nextElementSibling;
  const period = document.getElementById("period");
  const whole = { period: period.textContent, choice: choice.textContent };
  const total = document.querySelector(".totals [data-when]");
  const packets = total.textContent;
  let numbers; // what has another value in a part, once one was chosen
  let waiting;

  const timeAt = (edge) => {
    const seconds = Number(begin.dataset.start) + edge * Number(begin.dataset.step);
    return new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ");
  };
  const isPart = () => Number(begin.value) > 0 || Number(end.value) < bars;

  const showNumbers = () => {
    const part = isPart();
    if (!part && !numbers) return;
    numbers ??= all("[data-when]").map((element) => [element, sumsOf(element.dataset.when, bars)]);
    root.classList.toggle("part", part);
    for (const [element, sums] of numbers) {
      element.textContent = written(sums[end.value] - sums[begin.value]);
    }
    for (const row of all(".rows tbody tr")) {
      row.classList.toggle("none", part && all("[data-when]", row).every((cell) => cell.textContent === "0"));
    }
    const cells = all(".matrix a");
    const digits = (cell) => numberIn(cell).toString(2).length;
    const most = Math.max(...cells.map(digits));
    for (const cell of cells) {
      const none = cell.textContent === "0";
      cell.hidden = none;
      // As kiptail/report/view.py shades them.
      cell.parentElement.className = none ? "" : `shade-${Math.max(1, 5 - Math.trunc((most - digits(cell)) / 2))}`;
      const label = cell.getAttribute("aria-label").replace(/[0-9,]+ packets$/, `${cell.textContent} packets`);
      cell.setAttribute("aria-label", label);
      document.querySelector(cell.hash).classList.toggle("none", none);
    }
    [...sorts, ...filters].forEach((update) => update());
    const [from, to] = [timeAt(begin.value), timeAt(end.value)];
    const times = `${from} to ${from.slice(0, 10) === to.slice(0, 10) ? to.slice(11) : to} UTC`;
    period.textContent = part ? `${times}, a part of ${whole.period}` : whole.period;
    choice.textContent = part ? `Only ${times} is shown: ${total.textContent} of ${packets} packets.` : whole.choice;
    if (!part && document.activeElement === reset) begin.focus();
    reset.hidden = !part;
  };

  const show = () => {
    for (const handle of [begin, end]) handle.setAttribute("aria-valuetext", `${timeAt(handle.value)} UTC`);
    const width = plot.viewBox.baseVal.width / bars;
    band.setAttribute("x", begin.value * width);
    band.setAttribute("width", (end.value - begin.value) * width);
    for (const bar of all("[data-at]", plot)) {
      const at = Number(bar.dataset.at);
      bar.classList.toggle("out", at < begin.value || at >= end.value);
    }
    // The numbers follow when the hand rests, which is also when a screen reader hears of them.
    clearTimeout(waiting);
    waiting = setTimeout(showNumbers, 100);
  };
  const choose = (from, to) => {
    begin.value = Math.max(0, Math.min(from, bars - 1));
    end.value = Math.max(Number(begin.value) + 1, Math.min(to, bars));
    show();
  };

  // A handle takes the other one along.
  begin.addEventListener("input", () => choose(Number(begin.value), Math.max(end.value, Number(begin.value) + 1)));
  end.addEventListener("input", () => choose(Math.min(begin.value, Math.max(end.value, 1) - 1), Number(end.value)));

  let drag;
  const edgeAt = (event) => {
    const box = plot.getBoundingClientRect();
    return Math.max(0, Math.min(((event.clientX - box.left) / box.width) * bars, bars - 0.001));
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    drag = { from: edgeAt(event), before: [Number(begin.value), Number(end.value)] };
    plot.setPointerCapture(event.pointerId);
    event.preventDefault(); // or the text around would be selected
  });
  const move = (event) => {
    if (!drag) return;
    const at = edgeAt(event);
    choose(Math.floor(Math.min(drag.from, at)), Math.floor(Math.max(drag.from, at)) + 1);
  };
  plot.addEventListener("pointermove", move);
  plot.addEventListener("pointerup", (event) => {
    move(event);
    drag = undefined;
  });
  // It was the page that was moved.
  plot.addEventListener("pointercancel", () => {
    if (drag) choose(...drag.before);
    drag = undefined;
  });

  reset.addEventListener("click", () => choose(0, bars));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isPart() && !event.target.closest?.("input[type=search]")?.value) choose(0, bars);
  });
  for (const each of [begin, end, choice.parentElement]) each.hidden = false;
  show();
};
if (begin) brush();
