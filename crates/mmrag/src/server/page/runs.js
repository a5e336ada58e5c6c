// Training runs with their curves, live, and reports.

import { get } from "./api.js";
import { el, fill, svg } from "./dom.js";

const EVERY_MS = 2000;

export async function runsPage(main, _, [id]) {
  const { data, folder } = await get("/v1/runs");
  if (!folder || data.length === 0) {
    fill(main, el("h1", {}, "Runs"), el("p", { class: "quiet" }, folder
      ? `There is no run in ${folder} yet.` : "Start the server with --runs DIR to see training runs and reports here."));
    return;
  }
  const chosen = data.find((run) => run.id === id);
  fill(main, el("h1", {}, chosen ? `Run ${chosen.id}` : "Runs"),
    el("nav", { "aria-label": "Runs", class: "row" }, data.map((run) => el("a", {
      class: "button", href: `#/runs/${encodeURIComponent(run.id)}`,
      "aria-current": run === chosen ? "page" : undefined,
    }, run.id))));
  if (!chosen) return;
  if (chosen.metrics) curves(main, chosen.id);
  if (chosen.report) {
    main.append(el("p", {}, el("a", {
      href: `/v1/runs/report?id=${encodeURIComponent(chosen.id)}`, target: "_blank", rel: "noopener",
    }, "Open the report")));
  }
}

async function curves(main, id) {
  const plots = el("div", { class: "plots", "aria-live": "off" });
  const said = el("p", { class: "quiet", role: "status" });
  main.append(said, plots);
  const series = new Map();
  let from = 0;
  while (plots.isConnected) {
    const { data, next } = await get(`/v1/runs/metrics?id=${encodeURIComponent(id)}&from=${from}`);
    const grew = next > from;
    from = next;
    for (const line of data) {
      for (const [name, value] of Object.entries(line)) {
        if (name === "step" || typeof value !== "number") continue;
        if (!series.has(name)) series.set(name, []);
        series.get(name).push([line.step ?? series.get(name).length, value]);
      }
    }
    if (grew) fill(plots, [...series].filter(([, points]) => points.length > 1).map(plot));
    said.textContent = `${from} lines so far; looked at every ${EVERY_MS / 1000} s.`;
    if (data.length === 0) await new Promise((go) => setTimeout(go, EVERY_MS));
  }
}

const WIDTH = 320;
const HEIGHT = 120;

function plot([name, points]) {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const x = (value) => WIDTH * (value - left) / (right - left || 1);
  const y = (value) => HEIGHT - 4 - (HEIGHT - 8) * (value - low) / (high - low || 1);
  const path = points.map(([a, b], at) => `${at ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const last = ys[ys.length - 1];
  const shown = (value) => Number(value.toPrecision(4)).toString();
  return el("figure", { class: "card" },
    el("figcaption", {}, `${name}: ${shown(last)}`),
    svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": `${name} from step ${left} to ${right}: from ${shown(low)} to ${shown(high)}, now ${shown(last)}`,
    }, svg("path", { d: path, fill: "none", class: "curve" })),
    el("p", { class: "quiet" }, `${shown(low)} to ${shown(high)}, steps ${left} to ${right}`));
}
