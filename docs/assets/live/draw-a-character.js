// Draw three characters and a fourth: a prototypical network says which of the three it is.
import { Engine, Plot, begin, button, control, latest, make, number, table } from "./live.js";

const SIDE = 28, LARGE = 280; // pixels of an image, and of a pad's canvas
const NAMES = ["A", "B", "C"];
const OWN = "own";

begin("draw-a-character", (root, data) => {
  let pads, decision, seed;
  const engine = new Engine(root, { ready: () => {}, stopped: () => reset() });

  const row = make("div", { class: "pads" }, root);
  pads = [...NAMES.map((name) => `Class ${name}`), "Query"].map((name, place) => pad(name, place));
  const bar = make("div", { class: "bar" }, root);
  button(bar, "Fill with examples", () => fill());
  const query = control(bar, "Query", {
    choices: [...NAMES.map((name, place) => [String(place), `another drawing of ${name}`]), [OWN, "my own drawing"]],
    value: "0",
    changed: (value) => (value === OWN ? clear(pads[3]) : example(Number(value))),
  });
  const said = make("p", { class: "said", "aria-live": "polite" }, root);
  const plot = new Plot(root, { x: [-5, 5], y: [-3, 3], height: 300, label: "The plane through the three prototypes, and the query" });
  plot.svg.setAttribute("role", "img");
  Object.assign(plot.margin, { left: 8, bottom: 8 });
  const rows = table(root, "What the network says of the query", ["Class", "squared distance", "probability"]);
  make("p", { class: "said" }, root, `On tasks of three characters that it was not trained on: ${data.accuracy}.`);

  function pad(name, place) {
    const box = make("div", { class: `pad class-${place}` }, row);
    make("p", {}, box, name);
    const canvas = make("canvas", { width: LARGE, height: LARGE, role: "img" }, box);
    const own = { name, place, canvas, strokes: [], image: null };
    button(box, "Clear", () => clear(own)).setAttribute("aria-label", `Clear ${name}`);
    const at = (event) => {
      const bounds = canvas.getBoundingClientRect();
      return [((event.clientX - bounds.left) / bounds.width) * LARGE, ((event.clientY - bounds.top) / bounds.height) * LARGE];
    };
    canvas.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      if (own.strokes.length === 0) own.image = null;
      own.strokes.push([at(event)]);
      const follow = (moving) => {
        own.strokes[own.strokes.length - 1].push(at(moving));
        show(own);
      };
      show(own);
      canvas.addEventListener("pointermove", follow);
      const end = () => {
        canvas.removeEventListener("pointermove", follow);
        drawn(own);
      };
      canvas.addEventListener("pointerup", end, { once: true });
      canvas.addEventListener("pointercancel", end, { once: true });
    });
    return own;
  }

  function show(own) {
    const ink = getComputedStyle(root).getPropertyValue("--live-ink");
    const context = own.canvas.getContext("2d");
    context.clearRect(0, 0, LARGE, LARGE);
    context.fillStyle = context.strokeStyle = ink;
    const size = LARGE / SIDE;
    if (own.strokes.length > 0) {
      Object.assign(context, { lineWidth: 1.5 * size, lineCap: "round", lineJoin: "round" });
      for (const stroke of own.strokes) {
        context.beginPath();
        context.moveTo(...stroke[0]);
        for (const point of [...stroke.slice(1), stroke[stroke.length - 1]]) context.lineTo(...point);
        context.stroke();
      }
    } else {
      (own.image ?? []).forEach((value, place) => {
        context.globalAlpha = value / 255;
        context.fillRect((place % SIDE) * size, Math.floor(place / SIDE) * size, size, size);
      });
      context.globalAlpha = 1;
    }
    const what = own.strokes.length > 0 ? "your drawing" : own.image ? "an example" : "empty";
    own.canvas.setAttribute("aria-label", `${own.name}: ${what}`);
  }

  async function drawn(own) {
    if (own.place === 3) query.set(OWN);
    decide(); // which says what is empty still
    const { strokes } = own;
    try {
      const image = await engine.call("character_ink", { strokes });
      if (own.strokes !== strokes) return; // cleared or filled in since
      own.image = image;
    } catch {
      return;
    }
    await decide();
  }

  function clear(own) {
    own.strokes = [];
    own.image = null;
    if (own.place === 3) query.set(OWN);
    show(own);
    decide();
  }

  function put(own, image) {
    own.strokes = [];
    own.image = image;
    show(own);
  }

  function example(place) {
    put(pads[3], examples.queries[place]);
    decide();
  }

  async function fill() {
    try {
      examples = await engine.call("character_examples", { seed: ++seed });
    } catch {
      return;
    }
    examples.support.forEach((image, place) => put(pads[place], image));
    query.set(String(seed % 3));
    example(seed % 3);
  }

  const decide = latest(async () => {
    const missing = pads.filter((own) => own.image === null);
    decision = null;
    if (missing.length === 0) {
      decision = await engine.call("character_decide", { support: pads.slice(0, 3).map((own) => own.image), query: pads[3].image });
    }
    draw(missing);
  });

  function draw(missing = []) {
    plot.back.replaceChildren();
    plot.front.replaceChildren();
    if (decision === null) {
      rows(NAMES.map((name) => [name, "–", "–"]));
      const empty = missing.filter((own) => own.strokes.length === 0).map((own) => own.name);
      said.textContent = empty.length ? `Still empty: ${empty.join(", ")}.` : "";
      delete root.dataset.answer;
      return;
    }
    const { prototypes, query: asked, distances, probabilities, height } = decision;
    scale([...prototypes, asked]);
    prototypes.forEach((own, place) => {
      const cell = nearest(own, prototypes.filter((other) => other !== own));
      const points = cell.map(([x, y]) => `${plot.px(x).toFixed(1)},${plot.py(y).toFixed(1)}`).join(" ");
      make("polygon", { points, class: `cell class-${place}` }, plot.back);
    });
    prototypes.forEach(([x, y], place) => {
      make("path", { d: `M${plot.px(x)} ${plot.py(y)}L${plot.px(asked[0])} ${plot.py(asked[1])}`, class: "axis" }, plot.front);
      make("circle", { cx: plot.px(x), cy: plot.py(y), r: 12, class: `prototype class-${place}` }, plot.front);
      make("text", { x: plot.px(x), y: plot.py(y) + 5, "text-anchor": "middle", class: "on" }, plot.front, NAMES[place]);
    });
    const [x, y] = [plot.px(asked[0]), plot.py(asked[1])];
    make("path", { d: `M${x} ${y - 9}L${x + 9} ${y}L${x} ${y + 9}L${x - 9} ${y}Z`, class: "query" }, plot.front);
    rows(NAMES.map((name, place) => [name, number(distances[place], 2), `${number(100 * probabilities[place], 1)} %`]));
    const most = Math.max(...probabilities);
    const best = NAMES.filter((_, place) => probabilities[place] > most - 5e-4); // one, unless the figures shown tie
    root.dataset.answer = best.join("");
    const classes = best.length > 1 ? `to the classes ${best.join(", ")} alike` : `to class ${best[0]}`;
    said.textContent =
      `The query is nearest ${classes}: probability ${number(100 * most, 1)} %${best.length > 1 ? " each" : ""}. ` +
      `It lies ${number(height, 2)} above or below the plane of the picture, equally far for all three classes.`;
    plot.svg.setAttribute("aria-label", `The plane through the three prototypes; the query is nearest ${classes}`);
  }

  /** Ranges with equal units on both axes that hold all points. */
  function scale(points) {
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
    const middle = [xs, ys].map((values) => (Math.max(...values) + Math.min(...values)) / 2);
    const [wide, tall] = [plot.width - 16, plot.tall - 16];
    const need = Math.max((Math.max(...xs) - Math.min(...xs)) / wide, (Math.max(...ys) - Math.min(...ys)) / tall, 1e-6) * 1.5;
    plot.x = [middle[0] - (need * wide) / 2, middle[0] + (need * wide) / 2];
    plot.y = [middle[1] - (need * tall) / 2, middle[1] + (need * tall) / 2];
  }

  /** The part of the plot that is nearer to a point than to the others: a polygon, cut by bisectors. */
  function nearest(own, others) {
    let polygon = [[plot.x[0], plot.y[0]], [plot.x[1], plot.y[0]], [plot.x[1], plot.y[1]], [plot.x[0], plot.y[1]]];
    for (const other of others) {
      const side = ([x, y]) =>
        (x - own[0]) ** 2 + (y - own[1]) ** 2 - (x - other[0]) ** 2 - (y - other[1]) ** 2;
      polygon = polygon.flatMap((point, place) => {
        const next = polygon[(place + 1) % polygon.length];
        const [here, there] = [side(point), side(next)];
        const kept = here <= 0 ? [point] : [];
        if (here * there < 0) {
          const share = here / (here - there);
          kept.push([point[0] + share * (next[0] - point[0]), point[1] + share * (next[1] - point[1])]);
        }
        return kept;
      });
    }
    return polygon;
  }

  let examples;
  function reset() {
    ({ examples, seed } = structuredClone(data));
    examples.support.forEach((image, place) => put(pads[place], image));
    put(pads[3], examples.queries[0]);
    query.set("0");
    decision = data.decision;
    draw();
  }
  plot.draw = () => draw();
  new MutationObserver(() => pads.forEach(show)).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
  reset();
});
