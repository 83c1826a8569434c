// MAML on sinusoids: meta-trains in the page; the support points are dragged, the fit follows.
import { Engine, Plot, begin, button, control, handle, latest, make, number, table } from "./live.js";

const CHUNK = 10; // steps of meta-training an answer

begin("sinusoid-maml", (root, data) => {
  let settings, task, fit, step, losses, running;
  const reset = () => {
    settings = { ...data.settings };
    task = structuredClone(data.task);
    ({ fit, step } = data);
    losses = [...data.losses];
    running = false;
  };
  reset();

  const engine = new Engine(root, {
    ready: () => engine.ask("sinusoid_start", { state: data.state }),
    stopped: () => {
      reset();
      showSettings();
      draw();
    },
  });

  const legend = make("p", { class: "legend" }, root);
  for (const [kind, text] of [["before", "before adaptation"], ["after", "after the inner steps"], ["truth", "the task's curve"]])
    make("span", { class: `key-${kind}` }, legend, text);
  const plot = new Plot(root, { x: [-5, 5], y: [-6, 6], height: 280, label: "Fit before and after adaptation; the support points can be moved" });
  plot.ticks([-5, 0, 5], [-5, 0, 5]);
  const truth = make("polyline", { class: "truth" }, plot.back);
  const before = make("polyline", { class: "before" }, plot.back);
  const between = make("g", {}, plot.back);
  const after = make("polyline", { class: "after" }, plot.back);

  const said = make("p", { class: "said" }, root);
  const curve = new Plot(root, { x: [0, 3000], y: [0.05, 10], height: 130, log: true, label: "Meta-loss, means of ten steps" });
  curve.svg.setAttribute("role", "img");
  const loss = make("polyline", { class: "loss" }, curve.back);

  const first = make("div", { class: "bar" }, root);
  const train = button(first, "Meta-train", () => (running ? pause() : work()));
  button(first, "Start over", () => restart());
  button(first, "New task", () => anotherTask());
  const second = make("div", { class: "bar" }, root);
  const change = (name) => (value) => {
    settings[name] = value;
    refresh();
  };
  const rate = control(second, "Inner rate", {
    low: -3, high: -1, step: 0.05, value: Math.log10(settings.rate),
    said: (value) => (10 ** value).toPrecision(2),
    changed: (value) => change("rate")(Number((10 ** value).toPrecision(2))),
  });
  const steps = control(second, "Inner steps", { low: 1, high: 10, step: 1, value: settings.steps, changed: change("steps") });
  const order = control(second, "Meta-gradient", {
    choices: [["second", "second order (exact)"], ["first", "first order"]], value: "second",
    changed: (value) => change("first_order")(value === "first"),
  });
  const check = table(root, "Derivative of the query loss in three random directions", ["Direction", "exact", "central differences", "difference", "first order"]);

  let seed = data.seed;
  const handles = task.support_x.map((_, place) =>
    handle(plot, make("circle", { r: 6, class: "support" }, plot.front), `Support point ${place + 1}`, {
      get: () => [task.support_x[place], task.support_y[place]],
      moved: (x, y) => {
        [task.support_x[place], task.support_y[place]] = [x, y];
        refresh();
      },
    }));

  function showSettings() {
    rate.set(Math.log10(settings.rate));
    steps.set(settings.steps);
    order.set(settings.first_order ? "first" : "second");
    train.textContent = running ? "Pause" : "Meta-train";
  }

  function draw() {
    const last = fit.fits.length - 1;
    truth.setAttribute("points", plot.line(data.grid, task.curve));
    before.setAttribute("points", plot.line(data.grid, fit.fits[0]));
    after.setAttribute("points", plot.line(data.grid, fit.fits[last]));
    between.replaceChildren();
    for (const values of fit.fits.slice(1, -1)) make("polyline", { class: "step", points: plot.line(data.grid, values) }, between);
    handles?.forEach((each) => each.place());
    said.textContent =
      `After ${step} steps of meta-training: mean squared error on ten other points ` +
      `${number(fit.errors[0], 3)} before adaptation, ${number(fit.errors[last], 3)} after ${last} inner step${last > 1 ? "s" : ""}.`;
    check(fit.check.map((row, place) => [
      String(place + 1), number(row.exact, 9), number(row.central, 9),
      Math.abs(row.exact - row.central).toExponential(1).replace("-", "−"), number(row.first_order, 9),
    ]));
    root.dataset.step = step;
    root.dataset.agrees = Math.max(...fit.check.map((row) => Math.abs(row.exact - row.central)));
    drawLoss();
  }

  function drawLoss() {
    const right = Math.max(500, step);
    curve.x = [0, right];
    curve.ticks([0, Math.round(right / 2), right], [0.1, 1, 10]);
    loss.setAttribute("points", curve.line(losses.map((_, place) => (place + 1) * CHUNK), losses));
  }

  const refresh = latest(async () => {
    fit = await engine.call("sinusoid_fit", { task: { ...task, curve: undefined }, ...settings });
    draw();
  });

  async function work() {
    running = true;
    showSettings();
    try {
      await engine.start();
      while (running) {
        const found = await engine.call("sinusoid_train", { count: CHUNK, ...settings });
        step = found.step;
        losses.push(found.losses.reduce((sum, each) => sum + each) / CHUNK);
        root.dataset.last = found.losses[CHUNK - 1];
        if (losses.length % 5 === 0) await refresh();
        else drawLoss();
        root.dataset.step = step;
      }
    } catch {
      running = false; // the engine has told the reader
    }
    showSettings();
    if (engine.worker) await refresh();
  }

  function pause() {
    running = false;
    showSettings();
  }

  async function restart() {
    pause();
    try {
      await engine.call("sinusoid_start");
    } catch {
      return;
    }
    step = 0;
    losses = [];
    await refresh();
  }

  async function anotherTask() {
    try {
      task = await engine.call("sinusoid_task", { seed: ++seed });
    } catch {
      return;
    }
    await refresh();
  }

  plot.draw = draw;
  curve.draw = drawLoss;
  draw();
});
