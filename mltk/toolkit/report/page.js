"use strict";
(() => {
  const root = document.documentElement;

  // The theme: as the system has it, or as the reader chooses.
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const remembered = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("mltk-theme", value);
      return localStorage.getItem("mltk-theme");
    } catch { return null; }
  };
  const choose = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.querySelector("span").textContent = theme;
  };
  let theme = themes.includes(remembered()) ? remembered() : "auto";
  choose(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    remembered(theme);
    choose(theme);
  });

  // Tables are sorted by the buttons in their heads, with the mouse or the keyboard.
  const key = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent.trim();
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b
      : typeof a === "number" ? -1 : typeof b === "number" ? 1
      : a.localeCompare(b, undefined, { numeric: true });
  const sort = (table, heads, column) => {
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => compare(key(a, column), key(b, column)) * (up ? 1 : -1));
    body.append(...rows);
  };
  const prepare = () => {
    for (const table of document.querySelectorAll("table")) {
      if (table.tBodies[0].rows.length < 2 || table.closest(".failure")) continue;
      const heads = [...table.tHead.rows[0].cells];
      heads.forEach((head, column) => {
        if (!head.textContent) return;
        const clicked = document.createElement("button");
        clicked.type = "button";
        clicked.append(...head.childNodes);
        clicked.addEventListener("click", () => sort(table, heads, column));
        head.append(clicked);
      });
    }
  };
  prepare();

  // What is folded is printed, too.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));

  // A page that is served follows its runs.
  const status = document.getElementById("status");
  let shown = document.body.dataset.page;
  if (shown === undefined) return;
  const curves = new Map();
  const set = (what, name, told) => {
    for (const place of document.querySelectorAll("[data-live]")) {
      if (place.dataset.live !== `${what} ${name}`) continue;
      if (what !== "curve") place.textContent = told;
      else if (curves.get(name) !== told) place.innerHTML = told;
    }
    if (what === "curve") curves.set(name, told);
  };
  const replace = async () => {
    const text = await (await fetch("./")).text();
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const open = (each) => `${each.closest("section")?.id} ${each.querySelector("summary").textContent}`;
    const opened = new Set([...document.querySelectorAll("details[open]")].map(open));
    const focused = document.activeElement?.id;
    for (const part of ["nav", "main"]) document.querySelector(part).replaceWith(fresh.querySelector(part));
    document.querySelectorAll("details").forEach((each) => { each.open = opened.has(open(each)); });
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    shown = fresh.body.dataset.page;
    curves.clear();
    prepare();
  };
  const follow = async () => {
    try {
      const told = await (await fetch("./runs.json", { cache: "no-cache" })).json();
      if (told.page !== shown) await replace();
      for (const [name, run] of Object.entries(told.runs)) {
        for (const what of ["step", "curve", "loss"]) set(what, name, run[what]);
      }
      status.textContent = told.status;
    } catch {
      status.textContent = "The dashboard does not answer; this is what it showed last.";
    }
    setTimeout(follow, 2000);
  };
  follow();
})();
