// Every upstream with its backends, as tables. An upstream opens by itself when something in it is broken, and stays as the
// reader has left it; rows of one that is closed are not made. Large ones show their first rows, broken ones before others.

import { broken, upstreamId } from "./attention.js";
import { checks } from "./charts.js";
import { attribute, el, keyed, known, say, sayState, scrolling, table } from "./elements.js";
import { bytes, count, ms, rate, several } from "./format.js";
import { backendKey, total } from "./history.js";
import { isMuch } from "./lists.js";
import { backendFlow, sumFlow } from "./picture.js";

/** So many rows of an upstream are shown until somebody asks for all. */
const ROWS_MAX = 25;
/** With more upstreams than these, only those with something broken are open at first. */
const OPEN_MAX = 6;

/** `place` takes the upstreams; `change(upstream, backend)` is called for a backend that somebody wants to change. */
export function backends(place, change) {
  const groups = new WeakMap();
  let now;
  const make = upstream => {
    const made = group(upstream.name, change);
    groups.set(made.element, made);
    return made.element;
  };
  const show = (history, { filter, onlyBroken }) => {
    const { state } = history.now;
    now = state.upstreams ?? [];
    const has = text => text.toLowerCase().includes(filter);
    const wanted = [];
    for (const upstream of now) {
      const all = upstream.backends ?? [];
      const byName = !filter || has(upstream.name);
      const shown = all.filter(of => (byName || has(of.backend)) && (!onlyBroken || of.state !== "healthy"));
      if (shown.length > 0 || (byName && !onlyBroken)) wanted.push({ upstream, shown });
    }
    keyed(place, wanted, item => item.upstream.name, item => make(item.upstream), (element, { upstream, shown }) =>
      groups.get(element).show(history, upstream, shown, {
        id: upstreamId(state, upstream.name),
        open: Boolean(filter) || onlyBroken || now.length <= OPEN_MAX || (upstream.backends ?? []).some(broken),
      }));
    return { shown: wanted.reduce((sum, item) => sum + item.shown.length, 0), all: now.reduce((sum, of) => sum + (of.backends ?? []).length, 0) };
  };
  return { show };
}

function group(name, change) {
  let decided = false;
  let everything = false;
  let seen;
  const [mark, facts, numbers] = [el("span", { class: "mark" }), el("span", { class: "facts" }), el("span", { class: "numbers" })];
  const rows = table(`Backends of ${name}`, columnsOf(() => seen, change), item => item.backend);
  rows.element.classList.add("fixed");
  const more = el("button", { type: "button", class: "more", on: { click: () => { everything = true; seen.again(); } } });
  const summary = el("summary", { on: { click: () => { decided = true; } } }, el("h3", {}, name), mark, facts, numbers);
  const details = el("details", {}, summary, scrolling(`Backends of ${name}`, rows.element), more);
  const element = el("section", { class: "upstream", "aria-label": `Upstream ${name}` }, details);
  details.addEventListener("toggle", () => seen?.again());
  const show = (history, upstream, shown, { id, open }) => {
    seen = { history, upstream, again: () => show(history, upstream, shown, { id, open }) };
    attribute(element, "id", id);
    head(history, upstream, mark, facts, numbers);
    if (!decided && details.open !== open) details.open = open;
    if (!details.open) return;
    const cut = !everything && shown.length > ROWS_MAX;
    rows.show(cut ? [...shown.filter(broken), ...shown.filter(of => !broken(of))].slice(0, ROWS_MAX) : shown);
    more.hidden = !cut;
    say(more, cut ? `Show all ${shown.length} backends of ${name}` : "");
  };
  return { element, show };
}

function head(history, upstream, mark, facts, numbers) {
  const all = upstream.backends ?? [];
  const usable = all.filter(of => of.state === "healthy").length;
  const level = usable === 0 ? "unhealthy" : all.some(broken) ? "ejected" : "healthy";
  sayState(mark, level, `${usable} of ${all.length} usable`);
  const parts = [upstream.balance, upstream.retries > 0 && several(upstream.retries, "retry", "retries")];
  const { queue } = upstream;
  if (queue?.waiting > 0 || queue?.refused > 0) parts.push(`${count(queue.waiting)} waiting, ${count(queue.refused)} refused`);
  say(facts, parts.filter(Boolean).join(" · "));
  const flow = sumFlow(history, upstream, all);
  const open = all.reduce((sum, of) => sum + (of.open ?? 0), 0);
  say(numbers, `${rate(flow.perSecond)} ${flow.unit} · ${bytes(flow.bytes)}/s · ${count(open)} open`);
}

function columnsOf(seen, change) {
  const key = of => backendKey(seen().upstream, of);
  const latency = of => seen().history.quantiles(key(of), now => now?.latency?.total);
  const traffic = part => of => seen().history.rate(key(of), now => now[part] ?? 0);
  return [
    { head: "Backend", row: true, put: backendCell },
    { head: "Checks", size: "c-checks", wide: true, put: (cell, of) => strip(cell, of.health) },
    { head: "Weight", size: "c-small", number: true, wide: true, put: (cell, of) => say(cell, `${count(of.weight)}${of.backup ? " backup" : ""}`) },
    { head: "Open", size: "c-open", number: true, put: (cell, of) => say(cell, count(of.open) + (of["connections-max"] ? ` / ${count(of["connections-max"])}` : "")) },
    { head: "Kept", size: "c-small", number: true, wide: true, put: (cell, of) => say(cell, count(of.idle)) },
    { head: "Rate", size: "c-rate", number: true, wide: true, put: (cell, of) => { const now = backendFlow(seen().history, seen().upstream, of); say(cell, `${rate(now.perSecond)} ${now.unit}`); } },
    { head: "In", size: "c-bytes", number: true, wide: true, put: (cell, of) => say(cell, `${bytes(traffic("bytes_up")(of))}/s`) },
    { head: "Out", size: "c-bytes", number: true, wide: true, put: (cell, of) => say(cell, `${bytes(traffic("bytes_down")(of))}/s`) },
    { head: "p50", size: "c-small", number: true, wide: true, put: (cell, of) => say(cell, ms(latency(of).p50)) },
    { head: "p99", size: "c-small", number: true, wide: true, put: (cell, of) => say(cell, ms(latency(of).p99)) },
    { head: "Failed/min", size: "c-small", number: true, wide: true, put: (cell, of) => failed(cell, seen().history, key(of)) },
    { head: "5xx/min", size: "c-small", number: true, wide: true, put: (cell, of) => wrong(cell, seen().history, key(of)) },
    { head: "Change", size: "c-change", put: (cell, of) => changeCell(cell, seen().upstream, of, change) },
  ];
}

function backendCell(cell, of) {
  if (!cell.firstChild) cell.append(el("span", { class: "who" }), el("span", { class: "state" }), el("span", { class: "reason" }));
  const [who, state, reason] = cell.children;
  say(who, of.backend);
  sayState(state, of.state);
  say(reason, [of.state !== "healthy" && of.reason, of.operator && `an operator said: ${of.operator}`].filter(Boolean).join("; "));
  attribute(cell.parentElement, "class", known(of.state));
}

function strip(cell, health) {
  const last = health?.at(-1);
  const mark = last ? `${last.at_ms} ${health.length}` : "none";
  if (cell.dataset.mark === mark) return;
  cell.dataset.mark = mark;
  cell.replaceChildren(last ? checks(health) : el("span", { class: "faint" }, "none"));
}

function tally(cell, n, is) {
  say(cell, count(n));
  cell.classList.toggle("raised", is);
}

function failed(cell, history, key) {
  const n = history.minute(key, of => of.failures) + history.minute(key, of => total(of.ejections));
  tally(cell, n, n > 0);
}

function wrong(cell, history, key) {
  const n = history.minute(key, of => of.responses?.["5xx"]);
  tally(cell, n, isMuch(n, history.minute(key, of => total(of.responses))));
}

function changeCell(cell, upstream, of, change) {
  if (cell.firstChild) return;
  const open = () => change(upstream.name, of.backend);
  cell.append(el("button", { type: "button", "aria-label": `Change ${of.backend} of ${upstream.name}`, on: { click: open } }, "Change"));
}
