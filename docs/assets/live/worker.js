// Python in a worker: Pyodide, NumPy, and mltk's wheel, which the site serves. One message, one answer.
let python = null;

async function load({ pyodide }) {
  const told = (text) => postMessage({ progress: text });
  told("Loading Python …");
  const { loadPyodide } = await import(`${pyodide}pyodide.mjs`);
  const found = await loadPyodide({ indexURL: pyodide });
  told("Loading NumPy …");
  await found.loadPackage("numpy", { messageCallback: () => {}, errorCallback: () => {} });
  told("Loading mltk …");
  const bytes = async (name) => {
    const answer = await fetch(new URL(name, import.meta.url));
    if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
    return answer.arrayBuffer();
  };
  const { packages, files } = await (await fetch(new URL("packages.json", import.meta.url))).json();
  const place = found.runPython("import site; site.getsitepackages()[0]");
  for (const name of packages) found.unpackArchive(await bytes(name), "zip", { extractDir: place });
  for (const name of files) found.FS.writeFile(`/home/pyodide/${name}`, new Uint8Array(await bytes(name)));
  told("Importing mltk …");
  found.runPython("import importlib; importlib.invalidate_caches(); import figures");
  python = found.pyimport("figures");
  return JSON.parse(python.call("about", "{}"));
}

onmessage = async ({ data: { id, name, given } }) => {
  try {
    const answer = name === "load" ? await load(given) : JSON.parse(python.call(name, JSON.stringify(given)));
    postMessage({ id, answer });
  } catch (error) {
    const lines = String(error.message ?? error).trim().split("\n");
    postMessage({ id, error: lines[lines.length - 1] });
  }
};
