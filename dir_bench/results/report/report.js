"use strict";
// Sorting, filtering and copying, for a page whose tables are whole without it.

const NUMBER = /^[-+]?\d+(\.\d+)?( ± [\d.]+)?( \(n=\d+\))?†?$/;
const ABSENT = ["–", "n/a"];

// A <tbody> is a row with what belongs below it: they are sorted and hidden together.
function sortable(table) {
  const heads = [...table.querySelectorAll("thead th[scope=col]")];
  const original = [...table.tBodies];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    const name = head.abbr || head.textContent;
    const firstDown = name.includes("↑"); // more is better: the best comes first
    button.type = "button";
    button.textContent = head.textContent;
    button.setAttribute("aria-label", `${name}, sort`);
    button.addEventListener("click", () => {
      const steps = firstDown ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
      const next = steps[(steps.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", next);
      table.append(...(next === "none" ? original : sorted(original, column, next === "descending")));
      if (table.tFoot) table.append(table.tFoot);
    });
    head.setAttribute("aria-sort", "none");
    head.replaceChildren(button);
  });
}

function sorted(bodies, column, down) {
  const keys = new Map(bodies.map((body) => [body, key(body.rows[0].cells[column])]));
  const there = bodies.filter((body) => !ABSENT.includes(keys.get(body)));
  const numeric = there.every((body) => NUMBER.test(keys.get(body)));
  const compare = (a, b) => numeric
    ? parseFloat(keys.get(a)) - parseFloat(keys.get(b))
    : keys.get(a).localeCompare(keys.get(b), "en");
  there.sort((a, b) => (down ? compare(b, a) : compare(a, b)));
  return [...there, ...bodies.filter((body) => ABSENT.includes(keys.get(body)))];
}

function key(cell) {
  return cell.dataset.sort ?? cell.textContent.trim();
}

function filterable(table) {
  const tools = document.createElement("div");
  const label = document.createElement("label");
  const input = document.createElement("input");
  const shown = document.createElement("output");
  const bodies = [...table.tBodies];
  const text = new Map(bodies.map((body) => [body, words(body)]));
  tools.className = "tools";
  input.type = "search";
  label.append(`Filter ${table.dataset.rows}`, input);
  const apply = () => {
    const asked = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    bodies.forEach((body) => {
      body.hidden = !asked.every((word) => text.get(body).includes(word));
      count += !body.hidden;
    });
    shown.textContent = `${count} of ${bodies.length} ${table.dataset.rows}`;
  };
  input.addEventListener("input", apply);
  tools.append(label, shown);
  table.parentElement.before(tools);
  apply();
}

function words(body) {
  const rows = [...body.rows].filter((row) => !row.matches(".more"));
  const reason = body.querySelector(".reason");
  const cells = rows.flatMap((row) => [...row.cells].map((cell) => cell.textContent));
  return [...cells, reason ? reason.textContent : ""].join(" ").toLowerCase();
}

function copyable(block) {
  const button = document.createElement("button");
  const said = document.createElement("span");
  button.type = "button";
  button.className = "copy";
  button.textContent = `Copy ${block.dataset.name}`;
  said.className = "said";
  said.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(block.textContent);
      said.textContent = "copied";
    } catch { // a page from a file may be refused the clipboard, or have none
      getSelection().selectAllChildren(block);
      said.textContent = "selected: Ctrl+C (or ⌘C) copies it";
    }
  });
  block.before(button, said);
}

document.querySelectorAll("table.sortable").forEach((table) => {
  filterable(table);
  sortable(table);
});
document.querySelectorAll("pre[data-name]").forEach(copyable);
