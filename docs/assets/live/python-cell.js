// A cell of Python in the page.
import { Engine, begin, button, make } from "./live.js";

begin("python-cell", (root, data) => {
  const engine = new Engine(root, { ready: () => {}, stopped: () => {} });
  const label = make("label", { class: "code" }, root, "Python with mltk and NumPy");
  const code = make("textarea", { rows: data.code.split("\n").length + 1, spellcheck: "false", autocapitalize: "off" }, label);
  code.value = data.code;
  const bar = make("div", { class: "bar" }, root);
  const output = make("pre", { tabindex: 0, "aria-label": "Output", "aria-live": "polite" }, root, data.output);
  button(bar, "Run the code", async () => {
    output.textContent = "";
    try {
      await engine.start();
      output.textContent = "running …";
      output.textContent = await engine.call("cell", { code: code.value });
    } catch {
      output.textContent = engine.worker ? "" : data.output;
    }
  });
});
