// What the live figures share: Python in a worker, its button and status, plots, points that are dragged.
const SVG = "http://www.w3.org/2000/svg";
const PYODIDE = "https://cdn.jsdelivr.net/pyodide/v0.27.7/full/";
const INVITED = "Run it live (about 9 MB, once)";
const FAILED =
  "Python could not be loaded, so this figure shows what was recorded when the site was built. " +
  "It needs a connection to cdn.jsdelivr.net.";

/** An element of HTML or, with a parent that is an SVG, of SVG. */
export function make(name, attributes = {}, parent = null, text = null) {
  const drawn = name === "svg" || parent instanceof SVGElement;
  const element = drawn ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  parent?.append(element);
  return element;
}

export const recorded = async (name) => (await fetch(new URL(`${name}.json`, import.meta.url))).json();

/** Where Pyodide is: its CDN, or what the figure or the query of the page says, on this site alone. */
function address(root) {
  const told = root.dataset.pyodide ?? new URLSearchParams(location.search).get("pyodide");
  if (told === null) return PYODIDE;
  const url = new URL(told, location.href);
  return url.origin === location.origin ? url.href : PYODIDE;
}

export class Stopped extends Error {}

/** Python behind a button. `ready` is called once it is there, `stopped` when it is not any more. */
export class Engine {
  constructor(root, { ready, stopped }) {
    Object.assign(this, { root, ready, stopped, worker: null, loading: null, waiting: new Map(), last: 0 });
    const bar = make("div", { class: "bar" }, root);
    this.button = make("button", { type: "button", class: "run" }, bar, INVITED);
    this.status = make("p", { role: "status" }, bar, "Recorded when the site was built.");
    this.button.addEventListener("click", () => (this.worker ? this.stop() : this.start().catch(() => {})));
    this.show("recorded");
  }

  show(state, text = null) {
    this.root.dataset.state = state;
    this.button.textContent = state === "recorded" ? INVITED : "Stop";
    if (text !== null) this.status.textContent = text;
  }

  /** Load Python unless it is there. */
  start() {
    this.loading ??= this.load();
    return this.loading;
  }

  async load() {
    this.show("loading", "Loading Python …");
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = () => this.end(FAILED);
    try {
      const about = await this.ask("load", { pyodide: address(this.root) });
      await this.ready(this);
      this.about = `mltk ${about.mltk} on NumPy ${about.numpy} and Python ${about.python}, in this page.`;
      this.show("live", this.about);
    } catch (error) {
      if (!(error instanceof Stopped)) this.end(FAILED);
      throw error;
    }
  }

  hear({ id, answer, error, progress }) {
    if (progress !== undefined) return this.show("loading", progress);
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (error === undefined) resolve(answer);
    else reject(new Error(error));
  }

  ask(name, given = {}) {
    if (this.worker === null) return Promise.reject(new Stopped());
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, name, given });
    });
  }

  /** Ask once Python is there; what goes wrong is told to the reader, until something goes right. */
  async call(name, given = {}) {
    await this.start();
    try {
      const answer = await this.ask(name, given);
      this.status.textContent = this.about;
      return answer;
    } catch (error) {
      if (!(error instanceof Stopped)) this.status.textContent = error.message;
      throw error;
    }
  }

  stop() {
    this.end("Stopped. The figure shows what was recorded when the site was built.");
  }

  end(text) {
    this.worker?.terminate();
    this.worker = this.loading = null;
    for (const { reject } of this.waiting.values()) reject(new Stopped());
    this.waiting.clear();
    this.show("recorded", text);
    this.stopped();
  }
}

/** A function that runs one at a time; calls in the meantime become one more call at its end. */
export function latest(work) {
  let running = false, again = false;
  return async () => {
    if (running) return void (again = true);
    running = true;
    try {
      do {
        again = false;
        await work();
      } while (again);
    } catch {
      // the engine has told the reader
    } finally {
      running = false;
    }
  };
}

/** A plot as wide as its place, whose text keeps its size. */
export class Plot {
  constructor(parent, { x, y, height, label, square = false, log = false }) {
    Object.assign(this, { x, y, height, square, log, margin: { left: 34, right: 18, top: 8, bottom: 22 } });
    this.svg = make("svg", { role: "group", "aria-label": label }, parent);
    this.axes = make("g", {}, this.svg);
    this.back = make("g", {}, this.svg);
    this.front = make("g", {}, this.svg);
    this.draw = () => {};
    new ResizeObserver(() => this.resize()).observe(this.svg);
    this.resize();
  }

  resize() {
    const width = Math.max(this.svg.clientWidth || 600, 200);
    const { left, right, top, bottom } = this.margin;
    const height = this.square ? width - left - right + top + bottom : this.height;
    if (width === this.width && height === this.tall) return;
    this.width = width;
    this.tall = height;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.ticks();
    this.draw();
  }

  along(value, [low, high], from, to) {
    return from + ((value - low) / (high - low)) * (to - from);
  }

  px(x) {
    return this.along(x, this.x, this.margin.left, this.width - this.margin.right);
  }

  py(y) {
    const [value, range] = this.log ? [Math.log10(Math.max(y, 1e-9)), this.y.map(Math.log10)] : [y, this.y];
    return this.along(value, range, this.tall - this.margin.bottom, this.margin.top);
  }

  /** The point of the plot under a pointer. */
  at(event) {
    const box = this.svg.getBoundingClientRect();
    const scale = this.width / box.width;
    const [left, right] = [this.margin.left, this.width - this.margin.right];
    const [low, high] = [this.tall - this.margin.bottom, this.margin.top];
    const x = this.along((event.clientX - box.left) * scale, [left, right], ...this.x);
    const y = this.along((event.clientY - box.top) * scale, [low, high], ...this.y);
    return [x, y];
  }

  ticks(xs = this.xs ?? [], ys = this.ys ?? []) {
    [this.xs, this.ys] = [xs, ys];
    this.axes.replaceChildren();
    const [left, right] = [this.margin.left, this.width - this.margin.right];
    const bottom = this.tall - this.margin.bottom;
    for (const y of ys) {
      make("path", { d: `M${left} ${this.py(y)}H${right}`, class: "axis" }, this.axes);
      make("text", { x: left - 6, y: this.py(y) + 4, "text-anchor": "end" }, this.axes, number(y, y % 1 ? 1 : 0));
    }
    for (const x of xs) {
      make("path", { d: `M${this.px(x)} ${bottom}v4`, class: "axis" }, this.axes);
      make("text", { x: this.px(x), y: bottom + 16, "text-anchor": "middle" }, this.axes, number(x, 0));
    }
  }

  line(xs, ys) {
    const [low, high] = [this.margin.top, this.tall - this.margin.bottom];
    const inside = (y) => Math.min(Math.max(this.py(y), low - 40), high + 40).toFixed(1);
    return xs.map((x, place) => `${this.px(x).toFixed(1)},${inside(ys[place])}`).join(" ");
  }
}

/** A point that is moved by pointer and by arrow keys. `moved(x, y)` is told, within the ranges of the plot. */
export function handle(plot, shape, name, { get, moved }) {
  const group = make("g", { class: "handle", tabindex: 0, role: "slider", "aria-label": name }, plot.front);
  make("circle", { r: 16, class: "reach" }, group);
  group.append(shape);
  const within = (value, [low, high]) => Math.min(Math.max(value, low), high);
  const move = (x, y) => {
    moved(within(x, plot.x), within(y, plot.y));
    place();
  };
  function place() {
    const [x, y] = get();
    group.setAttribute("transform", `translate(${plot.px(x).toFixed(1)} ${plot.py(y).toFixed(1)})`);
    group.setAttribute("aria-valuemin", plot.x[0]);
    group.setAttribute("aria-valuemax", plot.x[1]);
    group.setAttribute("aria-valuenow", x.toFixed(2));
    group.setAttribute("aria-valuetext", `x ${x.toFixed(1)}, y ${y.toFixed(1)}`);
  }
  group.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    group.focus({ preventScroll: true });
    group.setPointerCapture(event.pointerId);
    const follow = (moving) => move(...plot.at(moving));
    const leave = () => group.removeEventListener("pointermove", follow);
    group.addEventListener("pointermove", follow);
    group.addEventListener("pointerup", leave, { once: true });
    group.addEventListener("pointercancel", leave, { once: true });
  });
  group.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (way === undefined) return;
    event.preventDefault();
    const size = event.shiftKey ? 0.5 : 0.1;
    const [x, y] = get();
    move(x + size * way[0], y + size * way[1]);
  });
  place();
  return { group, place };
}

let labels = 0;

/** A slider or a choice with its label and what it says; `changed` is called with its value. */
export function control(bar, name, { choices = null, low, high, step, value, said = String, changed }) {
  const id = `live-${++labels}`;
  const box = make("span", { class: "control" }, bar);
  make("label", { for: id }, box, name);
  const range = { id, type: "range", min: low, max: high, step };
  const input = choices === null ? make("input", range, box) : make("select", { id }, box);
  for (const [key, text] of choices ?? []) make("option", { value: key }, input, text);
  const output = choices === null ? make("output", { for: id }, box) : null;
  const show = () => {
    if (output === null) return;
    output.textContent = said(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  const set = (to) => {
    input.value = to;
    show();
  };
  set(value);
  input.addEventListener("input", () => {
    show();
    changed(choices === null ? Number(input.value) : input.value);
  });
  return { input, set };
}

export function button(bar, text, pressed) {
  const element = make("button", { type: "button" }, bar, text);
  element.addEventListener("click", pressed);
  return element;
}

/** A table with a header of columns, whose rows are replaced. */
export function table(parent, caption, columns) {
  const scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, parent);
  const element = make("table", { class: "numbers" }, scroll);
  make("caption", {}, element, caption);
  const head = make("tr", {}, make("thead", {}, element));
  for (const name of columns) make("th", { scope: "col" }, head, name);
  const body = make("tbody", {}, element);
  return (rows) => {
    body.replaceChildren();
    for (const row of rows) {
      const line = make("tr", {}, body);
      row.forEach((text, place) => make(place ? "td" : "th", place ? {} : { scope: "row" }, line, text));
    }
  };
}

/** A number with a true minus. */
export const number = (value, digits) => value.toFixed(digits).replace("-", "−");

/** Start the figures of this name. */
export function begin(name, start) {
  for (const root of document.querySelectorAll(`[data-live="${name}"]`)) {
    recorded(name).then((data) => {
      root.querySelector("img")?.remove();
      start(root, data);
      root.dataset.ready = "";
    }, () => {}); // the picture stays
  }
}
