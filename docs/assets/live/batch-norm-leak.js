// What a batch norm does to one query when other queries are changed: statistics "batch" against "support".
import { Engine, Plot, begin, button, control, handle, latest, make, number, table } from "./live.js";

const KINDS = ["batch", "support"];

begin("batch-norm-leak", (root, data) => {
  let task, queries, others, shift, found, start, seed;
  const reset = () => {
    ({ task, found, seed } = structuredClone(data));
    queries = structuredClone(task.queries);
    [others, shift] = [queries.length - 1, 0];
    start = KINDS.map((kind) => found[kind].queries[0]);
  };
  reset();
  const engine = new Engine(root, {
    ready: () => {},
    stopped: () => {
      reset();
      showControls();
      draw();
    },
  });

  const asked = () => [queries[0], ...queries.slice(1, 1 + others).map(([x, y]) => [x + shift, y])];
  const sides = make("div", { class: "sides" }, root);
  const panels = KINDS.map((kind) => {
    const side = make("div", {}, sides);
    make("p", {}, side).innerHTML = `<code>statistics="${kind}"</code>`;
    const plot = new Plot(side, { x: [-6, 6], y: [-6, 6], square: true, label: `The plane as the network with ${kind} statistics sees it; the queries can be moved` });
    plot.ticks([-5, 0, 5], [-5, 0, 5]);
    const size = data.grid.length;
    const squares = Array.from({ length: size * size }, () => make("rect", {}, plot.back));
    const support = task.support.map((_, place) => make("g", {}, plot.front));
    const handles = queries.map((_, place) => {
      const shape = place === 0
        ? make("path", { d: "M0 -10L10 0L0 10L-10 0Z", class: "query" }, plot.front)
        : make("circle", { r: 6, class: "other" }, plot.front);
      return handle(plot, shape, place === 0 ? "The query" : `Other query ${place}`, {
        get: () => (place === 0 ? queries[0] : [queries[place][0] + shift, queries[place][1]]),
        moved: (x, y) => {
          queries[place] = place === 0 ? [x, y] : [x - shift, y];
          if (place === 0) start = null; // another query: its change starts from here
          refresh();
        },
      });
    });
    plot.front.append(handles[0].group); // on top of the others
    return { kind, plot, squares, support, handles };
  });
  const legend = make("p", { class: "legend" }, root);
  for (const [kind, text] of [["class-0", "class 0"], ["class-1", "class 1"], ["query", "the query"], ["other", "other queries"]])
    make("span", { class: `dot ${kind}` }, legend, text);

  const bar = make("div", { class: "bar" }, root);
  const count = control(bar, "Other queries", { low: 0, high: queries.length - 1, step: 1, value: others, changed: (value) => ((others = value), refresh()) });
  const right = control(bar, "Move them right by", { low: -4, high: 4, step: 0.25, value: 0, said: (value) => number(value, 2), changed: (value) => ((shift = value), refresh()) });
  button(bar, "New task", () => anotherTask());
  const rows = table(root, "The probability of class 1 for the query", ["Statistics", "now", "at first", "change", "accuracy on new tasks", "if all queries are of one class", "found by evaluate"]);

  function showControls() {
    count.set(others);
    right.set(shift);
  }

  function draw() {
    for (const { kind, plot, squares, support, handles } of panels) {
      const wide = plot.px(data.grid[1]) - plot.px(data.grid[0]);
      squares.forEach((square, place) => {
        const [x, y] = [data.grid[place % data.grid.length], data.grid[Math.floor(place / data.grid.length)]];
        const p = found[kind].plane[place];
        square.setAttribute("x", plot.px(x) - wide / 2);
        square.setAttribute("y", plot.py(y) - wide / 2);
        square.setAttribute("width", wide);
        square.setAttribute("height", wide);
        square.setAttribute("class", p > 0.5 ? "class-1" : "class-0");
        square.setAttribute("fill-opacity", (0.65 * Math.abs(p - 0.5)).toFixed(3));
      });
      task.support.forEach(([x, y], place) => {
        const side = task.labels[place];
        support[place].replaceChildren();
        const at = { class: `example class-${side}` };
        if (side) make("rect", { x: plot.px(x) - 5.5, y: plot.py(y) - 5.5, width: 11, height: 11, ...at }, support[place]);
        else make("circle", { cx: plot.px(x), cy: plot.py(y), r: 6, ...at }, support[place]);
      });
      handles.forEach(({ group, place }, number) => {
        place();
        group.style.display = number > others ? "none" : "";
      });
    }
    const now = KINDS.map((kind) => found[kind].queries[0]);
    start ??= now;
    rows(KINDS.map((kind, place) => [
      kind, number(now[place], 4), number(start[place], 4), number(now[place] - start[place], 4),
      data.evaluated[kind].accuracy, data.evaluated[kind].one_class, data.evaluated[kind].transductive ? "transductive" : "inductive",
    ]));
    KINDS.forEach((kind, place) => (root.dataset[kind] = now[place]));
  }

  const refresh = latest(async () => {
    panels.forEach(({ handles }) => handles.forEach(({ place }) => place()));
    found = await engine.call("leak_predict", { task, queries: asked(), meta: data.meta });
    draw();
  });

  async function anotherTask() {
    try {
      task = await engine.call("leak_task", { seed: ++seed });
    } catch {
      return;
    }
    queries = structuredClone(task.queries);
    [others, shift, start] = [queries.length - 1, 0, null];
    showControls();
    await refresh();
  }

  for (const { plot } of panels) plot.draw = () => panels.length === 2 && draw();
  draw();
});
