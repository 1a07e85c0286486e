// Everything that is a list: listeners, latencies, errors by cause, decisions, events, certificates, the process and its config.
// Each takes the place it fills and gives a function that fills it; lists are cut to what a person reads.

import { lines } from "./charts.js";
import { el, keyed, say, sayState, scrolling, table } from "./elements.js";
import { bytes, clock, count, date, duration, ms, percent, rate, several } from "./format.js";
import { failures, listenerKey, PHASES, QUANTILES, requests, total, WHOLE } from "./history.js";
import { isNormal, side } from "./reasons.js";

const DECISIONS = 40;
const EVENTS = 60;
const DAY = 86_400_000;
const CLASSES = ["1xx", "2xx", "3xx", "4xx", "5xx"];

const matches = (filter, ...texts) => !filter || texts.some(text => String(text ?? "").toLowerCase().includes(filter));
/** A line in place of a table without rows. */
function orNothing(place, made, words) {
  const nothing = el("p", { class: "nothing" }, words);
  const scroll = scrolling(made.element.caption.textContent, made.element);
  place.append(scroll, nothing);
  return items => {
    made.show(items);
    scroll.hidden = items.length === 0;
    nothing.hidden = items.length > 0;
  };
}

export function listeners(place) {
  let history;
  const minute = (of, pick) => history.minute(listenerKey(of), pick);
  const perSecond = (of, pick) => rate(history.rate(listenerKey(of), pick));
  const flow = (of, part) => `${bytes(history.rate(listenerKey(of), now => now[part] ?? 0))}/s`;
  const latency = of => history.quantiles(listenerKey(of), now => now?.latency?.total);
  const show = orNothing(place, table("Listeners", [
    { head: "Listener", row: true, put: (cell, of) => say(cell, of.name) },
    { head: "Addresses", wide: true, put: (cell, of) => say(cell, (of.addresses ?? []).join(" ") + (of.tls ? " tls" : "")) },
    { head: "Open", number: true, put: (cell, of) => say(cell, count(of.open)) },
    { head: "New/s", number: true, wide: true, put: (cell, of) => say(cell, perSecond(of, now => now.accepted ?? 0)) },
    { head: "Req/s", number: true, put: (cell, of) => say(cell, of.kind === "http" ? perSecond(of, requests) : "–") },
    { head: "4xx/min", number: true, wide: true, put: (cell, of) => say(cell, of.kind === "http" ? count(minute(of, now => now.requests?.["4xx"])) : "–") },
    { head: "5xx/min", number: true, put: (cell, of) => { const n = minute(of, now => now.requests?.["5xx"]); raised(cell, isMuch(n, minute(of, requests)), of.kind === "http" ? count(n) : "–"); } },
    { head: "In", number: true, wide: true, put: (cell, of) => say(cell, flow(of, "bytes_up")) },
    { head: "Out", number: true, wide: true, put: (cell, of) => say(cell, flow(of, "bytes_down")) },
    { head: "p99", number: true, wide: true, put: (cell, of) => say(cell, ms(latency(of).p99)) },
    { head: "Failed/min", number: true, put: (cell, of) => { const n = minute(of, failures); raised(cell, n, count(n)); } },
    { head: "Handshakes failed", number: true, wide: true, put: (cell, of) => say(cell, of.tls ? count(total(of.handshakes?.failed)) : "–") },
  ], of => of.name), "No listener matches.");
  return (now, filter) => {
    history = now;
    show((now.now.state.listeners ?? []).filter(of => matches(filter, of.name, ...(of.addresses ?? []), ...(of.upstreams ?? []))));
  };
}

function raised(cell, is, text) {
  say(cell, text);
  cell.classList.toggle("raised", is > 0);
}

/** Whether so many 5xx of so many answers deserve a colour. */
export const isMuch = (wrong, all) => wrong > 0.01 * all;

export function latencies(place) {
  let history;
  let values;
  const made = table("Latency, the last minute", [
    { head: "Until", row: true, put: (cell, [, word]) => say(cell, word) },
    ...QUANTILES.map(([name]) => ({ head: name, number: true, put: (cell, [phase]) => say(cell, ms(values[phase][name])) })),
    { head: "Two minutes", put: (cell, [phase, word]) => trend(cell, phase, word) },
  ], ([phase]) => phase);
  const charts = new Map();
  const trend = (cell, phase, word) => {
    if (!charts.has(phase)) {
      charts.set(phase, lines(["p99", "p90", "p50"]));
      cell.append(charts.get(phase).element);
    }
    const of = values[phase];
    charts.get(phase).show([..."p99 p90 p50".split(" ")].map(name => history.lines[`${phase} ${name}`] ?? []),
      `${word} over two minutes; now p50 ${ms(of.p50)}, p90 ${ms(of.p90)}, p99 ${ms(of.p99)}`);
  };
  place.append(scrolling("Latency", made.element));
  return now => {
    history = now;
    values = Object.fromEntries(PHASES.map(([phase]) => [phase, now.overall(phase, now.steps[0], now.now)]));
    made.show(PHASES);
  };
}

export function errors(place) {
  let most = 1;
  const show = orNothing(place, table("Ends that are not normal, and limits", [
    { head: "Cause", row: true, put: (cell, of) => say(cell, of.why) },
    { head: "Whose", put: (cell, of) => say(cell, of.side || "–") },
    { head: "Last min", number: true, put: (cell, of) => raised(cell, of.minute, count(of.minute)) },
    { head: "Since start", number: true, put: (cell, of) => say(cell, count(of.total)) },
    { head: "Share", wide: true, put: (cell, of) => {
      if (!cell.firstChild) cell.append(el("meter", { min: 0, max: 1, "aria-label": `Share of ${of.why}` }));
      cell.firstChild.value = of.total / most;
    } },
  ], of => of.why), "Nothing has ended in any other way than it should.");
  return (history, filter) => {
    const { state } = history.now;
    const all = { ...state.limits, ...state.ended };
    const part = why => (Object.hasOwn(state.ended ?? {}, why) ? "ended" : "limits");
    const found = Object.entries(all).filter(([why, n]) => n > 0 && !isNormal(why) && matches(filter, why, side(why)))
      .map(([why, n]) => ({ why, side: side(why), total: n, minute: history.minute(WHOLE, of => of[part(why)]?.[why]) }));
    most = Math.max(1, ...found.map(of => of.total));
    show(found.sort((a, b) => b.minute - a.minute || b.total - a.total || (a.why < b.why ? -1 : 1)));
  };
}

export function decisions(place) {
  let now;
  const show = orNothing(place, table("Recent decisions", [
    { head: "Time", put: (cell, of) => say(cell, clock(of.at_ms, now)) },
    { head: "Request", row: true, put: (cell, of) => say(cell, of.request || "connection") },
    { head: "Client", wide: true, put: (cell, of) => say(cell, of.client ?? "–") },
    { head: "Listener", wide: true, put: (cell, of) => say(cell, of.listener ?? "–") },
    { head: "Went to", put: (cell, of) => say(cell, [of.upstream, of.backend].filter(Boolean).join(" ") || "–") },
    { head: "Because", wide: true, put: (cell, of) => say(cell, of.reason ?? "–") },
    { head: "Outcome", put: (cell, of) => raised(cell, (of.outcome ?? "taken") !== "taken", of.outcome ?? "–") },
  ], of => of.key), "No decision yet.");
  return (history, filter) => {
    const { state } = history.now;
    now = state.now_at_ms;
    const newest = [...(state.decisions ?? [])].sort((a, b) => b.at_ms - a.at_ms)
      .filter(of => matches(filter, of.request, of.client, of.listener, of.upstream, of.backend, of.reason, of.outcome));
    const times = new Map();
    show(newest.slice(0, DECISIONS).map(of => {
      const key = [of.worker, of.position, of.at_ms, of.client, of.request, of.backend].join(" ");
      times.set(key, (times.get(key) ?? 0) + 1);
      return { ...of, key: `${key} ${times.get(key)}` };
    }));
  };
}

const LEVEL = { error: "unhealthy", warn: "ejected", warning: "ejected", info: "healthy" };

export function events(place) {
  const list = el("ol", { class: "events" });
  const nothing = el("p", { class: "nothing" }, "Nothing has happened yet.");
  place.append(list, nothing);
  const make = of => {
    const level = el("span", { class: "level" });
    sayState(level, LEVEL[of.level] ?? "drained", of.level ?? "");
    return el("li", {}, el("time", {}, clock(of.at_ms, Date.now())), level, el("span", { class: "text" }, of.text ?? ""));
  };
  return (history, filter) => {
    const all = (history.now.state.events ?? []).filter(of => matches(filter, of.text, of.level));
    const newest = all.sort((a, b) => b.at_ms - a.at_ms).slice(0, EVENTS);
    keyed(list, newest, of => `${of.at_ms} ${of.text}`, make);
    nothing.hidden = newest.length > 0;
  };
}

export function certificates(place) {
  let now;
  const left = of => of.not_after_at_ms - now;
  const state = of => (left(of) <= 0 ? "unhealthy" : left(of) < 14 * DAY ? "ejected" : "healthy");
  const word = of => (left(of) <= 0 ? "expired" : several(Math.floor(left(of) / DAY), "day left", "days left"));
  const show = orNothing(place, table("Certificates", [
    { head: "Names", row: true, put: (cell, of) => say(cell, (of.names ?? []).join(", ") || "–") },
    { head: "Expires", size: "date", put: (cell, of) => sayState(cell, state(of), word(of)) },
    { head: "On", wide: true, size: "date", put: (cell, of) => say(cell, date(of.not_after_at_ms)) },
    { head: "Listener", put: (cell, of) => say(cell, of.listener ?? "–") },
    { head: "Issuer", wide: true, put: (cell, of) => say(cell, of.issuer ?? "–") },
  ], of => `${of.listener} ${(of.names ?? []).join()} ${of.not_after_at_ms}`), "No listener has a certificate.");
  return (history, filter) => {
    now = history.now.state.now_at_ms;
    const all = (history.now.state.certificates ?? []).filter(of => matches(filter, of.listener, of.issuer, ...(of.names ?? [])));
    show(all.sort((a, b) => a.not_after_at_ms - b.not_after_at_ms));
  };
}

export function process(place) {
  const facts = el("dl", { class: "facts" });
  const make = ([word]) => el("div", {}, el("dt", {}, word), el("dd"));
  const workers = table("Workers", [
    { head: "Worker", row: true, put: (cell, of) => say(cell, of.number) },
    { head: "Open", number: true, put: (cell, of) => say(cell, count(of.open)) },
    { head: "Busy", number: true, put: (cell, of) => raised(cell, of.busy > 0.9, percent(of.busy)) },
    { head: "Delay p50", number: true, wide: true, put: (cell, of) => say(cell, ms(of.delay_ms?.p50)) },
    { head: "Delay p99", number: true, put: (cell, of) => raised(cell, of.delay_ms?.p99 > 100, ms(of.delay_ms?.p99)) },
    { head: "Delay max", number: true, put: (cell, of) => say(cell, ms(of.delay_ms?.max)) },
  ], of => of.number);
  place.append(facts, scrolling("Workers", workers.element));
  return history => {
    const { state } = history.now;
    const own = state.process ?? {};
    const part = (value, max, write) => `${write(value)}${max ? ` of ${write(max)}` : ""}`;
    const memory = Object.entries(own.memory?.by ?? {}).map(([name, value]) => [`Memory: ${name}`, bytes(value)]);
    const all = [
      ["Version", state.version ?? "–"], ["Process", state.pid ?? "–"], ["Up", duration(state.uptime_ms)],
      ["Descriptors", part(own.descriptors?.open, own.descriptors?.max, count)],
      ["Memory", part(own.memory?.used, own.memory?.max, bytes)], ...memory,
      ["Reloads", `${count(own.reloads?.done)} done, ${count(own.reloads?.refused)} refused`],
      ["Last reload", own.reloads?.last_at_ms ? clock(own.reloads.last_at_ms, state.now_at_ms) : "none"],
      ["Upgrades", `${count(own.upgrades?.done)} done, ${count(own.upgrades?.failed)} failed`],
      ["Panics, stalls", `${count(own.panics)}, ${count(own.stalls)}`],
    ];
    keyed(facts, all, ([word]) => word, make, (element, [, value]) => say(element.lastChild, value));
    workers.show(own.workers ?? []);
  };
}

/** Requests by class, in words; a class that nobody has got is left out. */
export function classes(history) {
  const of = history.now.state.requests ?? {};
  return CLASSES.filter(name => of[name] > 0 || name === "2xx" || name === "5xx")
    .map(name => [name, rate(history.rate(WHOLE, now => now.requests?.[name] ?? 0))]);
}

/** Lines of a config that are shown at most; of a longer one, only those around its problems. */
const LINES_MAX = 2_000;
const AROUND = 4;

/** Draws a config with its problems under the lines they are about. */
export function config(place, { file, text, problems }) {
  const by = new Map();
  for (const problem of problems ?? []) by.set(problem.line, [...(by.get(problem.line) ?? []), problem]);
  const all = (text ?? "").split("\n");
  const near = line => [...by.keys()].some(at => Math.abs(at - line) <= AROUND);
  const rows = [];
  for (let line = 1; line <= all.length && rows.length < LINES_MAX; line++) {
    if (all.length > LINES_MAX && !near(line)) continue;
    const marked = by.has(line);
    rows.push(el("li", { value: line, class: marked && "marked" }, el("code", {}, all[line - 1]),
      (by.get(line) ?? []).map(problem => drawn(problem))));
  }
  const elsewhere = [...by].filter(([line]) => !(line >= 1 && line <= all.length)).flatMap(([, found]) => found.map(drawn));
  place.replaceChildren(el("p", {}, el("code", {}, file ?? ""), `, ${several(all.length, "line")}, ` +
    `${problems?.length ? several(problems.length, "problem") : "no problem"}`), ...elsewhere,
  scrolling("The config", el("ol", { class: "config" }, rows)));
}

function drawn(problem) {
  const level = el("span", { class: "level" });
  sayState(level, LEVEL[problem.level] ?? "drained", problem.level ?? "problem");
  return el("div", { class: "problem" }, el("code", { class: "caret", "aria-hidden": "true" }, `${" ".repeat(Math.min(200, Math.max(0, (problem.column ?? 1) - 1)))}^`),
    el("p", {}, level, " ", problem.text ?? "", problem.advice ? ` → ${problem.advice}` : ""));
}
