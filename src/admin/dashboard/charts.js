// Small pictures beside numbers: lines over the last minutes, and the strip of health checks. Each says in words what it shows,
// for those who do not see it; none of them has a scale of its own that the number beside it does not give.

import { attribute, say, svg } from "./elements.js";
import { several } from "./format.js";

const [WIDTH, HEIGHT] = [160, 36];

/** A chart of lines over time; `classes` has one class for each, and values up to `least` never fill it. Its method `show(lines, words)` draws them on one scale. */
export function lines(classes, { filled = false, least = 1e-9 } = {}) {
  const area = filled ? svg("path", { class: `area ${classes[0]}` }) : null;
  const paths = classes.map(name => svg("path", { class: `line ${name}`, "vector-effect": "non-scaling-stroke" }));
  const title = svg("title");
  const element = svg("svg", {
    class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
  }, title, area, paths);
  const show = (all, words) => {
    const top = Math.max(...all.flatMap(line => line.filter(Number.isFinite)), least) * 1.08;
    all.forEach((line, at) => attribute(paths[at], "d", drawn(line, top).line));
    if (area) attribute(area, "d", drawn(all[0], top).area);
    say(title, words);
    attribute(element, "aria-label", words);
  };
  return { element, show };
}

/** The newest point at the right edge; where nothing was measured, the line has a gap. */
function drawn(line, top) {
  const step = WIDTH / 119;
  const shown = line.slice(-120);
  const begin = WIDTH - (shown.length - 1) * step;
  const runs = [];
  let run = null;
  shown.forEach((value, at) => {
    if (!Number.isFinite(value)) return void (run = null);
    if (!run) runs.push((run = []));
    run.push(`${(begin + at * step).toFixed(1)} ${(HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1)}`);
  });
  const edge = point => point.split(" ")[0];
  return {
    line: runs.map(points => `M${points.join("L")}${points.length === 1 ? "h.1" : ""}`).join(""),
    area: runs.map(points => `M${edge(points[0])} ${HEIGHT}L${points.join("L")}L${edge(points.at(-1))} ${HEIGHT}Z`).join(""),
  };
}

const CHECKS = 24;

/** The last checks of a backend: low and calm if it passed, tall if it failed. */
export function checks(health) {
  const shown = (health ?? []).slice(-CHECKS);
  const failed = shown.filter(check => !check.ok).length;
  const words = shown.length === 0
    ? "no checks"
    : `${several(shown.length, "check")}, ${failed === 0 ? "all passed" : `${failed} failed`}; the last said: ${shown.at(-1).said}`;
  const bars = shown.map((check, at) => svg("rect", {
    class: check.ok ? "passed" : "failed",
    x: (CHECKS - shown.length + at) * 4, width: 3, y: check.ok ? 9 : 1, height: check.ok ? 5 : 13, rx: 1,
  }));
  return svg("svg", { class: "checks", viewBox: `0 0 ${CHECKS * 4} 15`, role: "img", "aria-label": words },
    svg("title", {}, words), bars);
}
