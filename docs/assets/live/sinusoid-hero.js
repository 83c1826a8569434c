// The moving picture of the landing page: recorded fits of a meta-trained network, task after task.
const SVG = "http://www.w3.org/2000/svg";
const PAUSE = 900, STEP = 450, HOLD = 2000; // milliseconds: before the first step, for a step, after the last

const made = (name, attributes, parent) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
};

async function start(figure) {
  const image = figure.querySelector("img");
  const { grid, tasks } = await (await fetch(new URL("sinusoid-hero.json", import.meta.url))).json();
  const x = (value) => (360 + 68 * value).toFixed(1);
  const y = (value) => (150 - 26 * value).toFixed(1);
  const steps = tasks[0].fits.length - 1;
  const length = PAUSE + steps * STEP + HOLD;

  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 720 300");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", image.alt);
  made("path", { d: "M20 150H700", class: "axis" }, svg);
  const before = made("polyline", { class: "before" }, svg);
  const after = made("polyline", { class: "after" }, svg);
  const points = tasks[0].x.map(() => made("circle", { r: 5.5, class: "support" }, svg));

  const bar = document.createElement("div");
  bar.className = "bar";
  const said = document.createElement("p");
  const legend = document.createElement("p");
  legend.innerHTML = '<span class="key-before">before adaptation</span> <span class="key-after">adapted</span>';
  const button = document.createElement("button");
  button.type = "button";
  bar.append(legend, said, button);

  const line = (fit) => grid.map((at, place) => `${x(at)},${y(fit[place])}`).join(" ");
  let shown = -1;
  function draw(at) {
    const number = Math.floor(at / length) % tasks.length;
    const task = tasks[number];
    if (number !== shown) {
      shown = number;
      before.setAttribute("points", line(task.fits[0]));
      points.forEach((point, place) => {
        point.setAttribute("cx", x(task.x[place]));
        point.setAttribute("cy", y(task.y[place]));
      });
    }
    const along = Math.min(Math.max((at % length - PAUSE) / STEP, 0), steps);
    const step = Math.min(Math.floor(along), steps - 1);
    const part = along - step, eased = part * part * (3 - 2 * part);
    const [from, to] = [task.fits[step], task.fits[step + 1]];
    after.setAttribute("points", line(from.map((value, place) => value + eased * (to[place] - value))));
    const done = Math.floor(along);
    said.textContent =
      `Task ${number + 1} of ${tasks.length}, ${done} of ${steps} gradient steps: ` +
      `mean squared error ${task.errors[done].toFixed(2)} on new points`;
  }

  let time = 0, last = null, wanted = false, visible = true, frame = null;
  function tick(now) {
    if (last !== null) time += Math.min(now - last, 100);
    last = now;
    draw(time);
    frame = wanted && visible ? requestAnimationFrame(tick) : null;
  }
  function play(wish) {
    wanted = wish;
    button.textContent = wanted ? "Pause" : "Play";
    last = null;
    if (wanted && visible && frame === null) frame = requestAnimationFrame(tick);
  }
  button.addEventListener("click", () => play(!wanted));
  new IntersectionObserver(([seen]) => {
    visible = seen.isIntersecting;
    play(wanted);
  }).observe(figure);

  const still = matchMedia("(prefers-reduced-motion: reduce)");
  still.addEventListener("change", () => play(!still.matches));
  time = still.matches ? length - 1 : 0;
  draw(time);
  play(!still.matches);
  image.replaceWith(svg, bar);
  figure.dataset.ready = "";
}

for (const figure of document.querySelectorAll('[data-live="sinusoid-hero"]')) {
  start(figure).catch(() => {}); // the picture stays
}
