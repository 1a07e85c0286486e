// The page of the admin listener: takes each state that arrives and hands it to the parts that draw it. It holds no numbers of its
// own, loads nothing from anywhere else, and a part that fails leaves the others as they are.

import { findings, targetId, verdict } from "./attention.js";
import { backends } from "./backends.js";
import { lines } from "./charts.js";
import { attribute, el, keyed, say, sayState, shape } from "./elements.js";
import { bytes, count, duration, ms, rate } from "./format.js";
import { failures, History, requests, WHOLE } from "./history.js";
import * as lists from "./lists.js";
import { askToken, orders } from "./orders.js";
import { picture } from "./picture.js";
import { follow, read, tokenFromAddress } from "./stream.js";

const at = id => document.getElementById(id);
const SHAPE = { bad: "unhealthy", warn: "ejected", note: "drained", good: "healthy" };

const seen = new History();
let known = null;
let reloads = null;
let all = false;
const filter = () => at("filter").value.trim().toLowerCase();

const drawing = picture(at("flow"));
const groups = backends(at("upstream-list"), (upstream, backend) => dialog.open(upstream, backend));
const dialog = orders(at("order"), (name, address) => {
  const upstream = seen.now?.state.upstreams?.find(of => of.name === name);
  const backend = upstream?.backends?.find(of => of.backend === address);
  return backend ? { upstream, backend } : null;
}, words => say(at("said"), words));
const parts = Object.fromEntries(["listeners", "latencies", "errors", "decisions", "events", "certificates", "process"]
  .map(name => [name, lists[name](at(`${name}-place`))]));

const TILES = [
  ["Requests", "/s", "requests", history => [rate(history.rate(WHOLE, requests)), lists.classes(history).map(part => part.join(" ")).join("  ")]],
  ["Open connections", "", "open", history => [count(history.now.state.open), `${rate(history.rate(WHOLE, of => of.accepted))} new/s`]],
  ["Bytes out", "/s", "down", history => [bytes(history.rate(WHOLE, of => of.bytes_down)), `${bytes(history.rate(WHOLE, of => of.bytes_up))}/s in`]],
  ["Failures", "/s", "failures", history => [rate(history.rate(WHOLE, failures)), `${count(history.minute(WHOLE, failures))} in the last minute`]],
  ["Latency p99", "", "total p99", history => [ms(history.lines["total p99"]?.at(-1)), `p50 ${ms(history.lines["total p50"]?.at(-1))}, p90 ${ms(history.lines["total p90"]?.at(-1))}`]],
].map(([word, unit, line, read]) => tile(word, unit, line, read));

function tile(word, unit, line, read) {
  const [value, note, chart] = [el("span", { class: "value" }), el("p", { class: "note" }), lines([line.split(" ")[0]], { filled: true, least: 1 })];
  const element = el("div", { class: "tile" }, el("h3", {}, word), el("p", { class: "big" }, value, unit && el("span", { class: "unit" }, unit)), note, chart.element);
  at("tiles").append(element);
  return history => {
    const [now, more] = read(history);
    say(value, now);
    say(note, more);
    chart.show([history.lines[line] ?? []], `${word} over two minutes, now ${now}${unit}`);
  };
}

function alarms(history) {
  const found = findings(history, known);
  const { level, text } = verdict(found);
  if (at("verdict").dataset.text !== text) {
    at("verdict").dataset.text = text;
    sayState(at("verdict"), SHAPE[level], text);
    attribute(document.documentElement, "data-level", level);
    document.title = `${level === "good" ? "" : level === "bad" ? "✕ " : "▲ "}${text} · Evenkeel`;
  }
  const make = ({ level }) => el("li", { class: level }, shape(SHAPE[level]), el("p", {}, el("a"), el("span")));
  keyed(at("findings"), found, of => `${of.level} ${of.title}`, make, (element, of) => {
    const [title, detail] = element.lastChild.children;
    say(title, of.title);
    const id = targetId(history.now.state, of.target);
    attribute(title, "href", id ? `#${id}` : null);
    say(detail, of.detail);
  });
  at("findings").hidden = found.length === 0;
}

function who({ state }) {
  say(at("who"), `${state.version ?? ""} · process ${state.pid ?? "–"} · up ${duration(state.uptime_ms)}`);
}

/** Draws everything that is known; a part that fails is named, and the others are drawn. */
function draw() {
  if (!seen.now) return;
  const words = filter();
  const onlyBroken = at("only-broken").checked;
  const each = {
    who: () => who(seen.now),
    alarms: () => alarms(seen),
    tiles: () => TILES.forEach(show => show(seen)),
    picture: () => more(drawing.show(seen, words, all)),
    backends: () => {
      const shown = groups.show(seen, { filter: words, onlyBroken });
      say(at("shown"), shown.shown === shown.all ? `${count(shown.all)} backends` : `${count(shown.shown)} of ${count(shown.all)} backends`);
    },
    dialog: dialog.refresh,
    ...Object.fromEntries(Object.entries(parts).map(([name, show]) => [name, () => show(seen, words)])),
  };
  if (at("hold").checked) delete each.decisions;
  // Nobody looks: the title is enough.
  if (document.hidden) Object.keys(each).filter(name => name !== "alarms").forEach(name => delete each[name]);
  for (const [name, show] of Object.entries(each)) {
    try {
      show();
    } catch (error) {
      console.error(`${name} cannot be drawn:`, error);
    }
  }
  at("main").hidden = false;
  at("waiting").hidden = true;
}

function more(left) {
  at("show-all").hidden = left === 0 && !all;
  say(at("show-all"), all ? "Show fewer" : `Show ${count(left)} more listeners and upstreams`);
}

async function config() {
  try {
    known = await read("/v1/config");
    lists.config(at("config-place"), known);
  } catch (error) {
    say(at("config-place"), `The config cannot be shown: ${error.message}`);
  }
}

function heard(state) {
  attribute(document.documentElement, "data-line", "live");
  sayState(at("line"), "healthy", "Live");
  if (!seen.take(state)) return;
  const now = `${state.pid} ${state.process?.reloads?.done} ${state.process?.reloads?.last_at_ms}`;
  if (now !== reloads) config().then(draw);
  reloads = now;
  draw();
}

function lost(why) {
  if (document.documentElement.dataset.line === "lost") return;
  attribute(document.documentElement, "data-line", "lost");
  sayState(at("line"), "unhealthy", `Connection lost: ${why}`);
  document.title = "✕ Connection lost · Evenkeel";
  delete at("verdict").dataset.text;
}

for (const id of ["filter", "only-broken", "hold"]) at(id).addEventListener("input", draw);
at("show-all").addEventListener("click", () => {
  all = !all;
  draw();
});
// A link to what is folded up or left out opens it.
document.addEventListener("click", event => {
  const link = event.target.closest("#findings a[href], #flow a[href]");
  if (!link) return;
  const find = () => at(link.getAttribute("href").slice(1));
  if (!find()) {
    at("filter").value = "";
    at("only-broken").checked = false;
    draw();
  }
  find()?.querySelector("details:not([open]) > summary")?.click();
});
document.addEventListener("keydown", event => {
  if (event.key !== "/" || event.target.closest("input, textarea, dialog")) return;
  event.preventDefault();
  at("filter").focus();
});
document.addEventListener("visibilitychange", draw);
new ResizeObserver(draw).observe(at("flow").parentElement);
tokenFromAddress();
follow({ state: heard, lost, denied: () => askToken(at("sign-in")) });
