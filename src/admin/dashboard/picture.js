// The picture: listeners, upstreams, backends, and what flows between them. Only what changes is touched each second; it is laid
// out anew when names, states or the width have changed. Large upstreams become a field of shapes, so that it stays readable.

import { broken, upstreamId } from "./attention.js";
import { attribute, known, say, shapePath, svg } from "./elements.js";
import { bytes, rate } from "./format.js";
import { backendKey, listenerKey, requests, upstreamKey } from "./history.js";

/** An upstream with more backends becomes a field; earlier, if there are many upstreams. Of broken ones, so many have a name. */
const ROWS_MAX = 8;
const [MANY_UPSTREAMS, ROWS_THEN] = [7, 1];
const NAMED_MAX = 4;
/** So many listeners and upstreams are drawn until somebody asks for all. */
const NODES_MAX = 14;
const [ROW, CELL, BLOCK_GAP, NODE] = [26, 14, 18, 44];

/** `place` is the <svg>. Its method `show(history, filter, all)` draws, and says how many nodes were left out. */
export function picture(place) {
  let drawn = "";
  let live = [];
  let left = 0;
  const show = (history, filter, all) => {
    const { state } = history.now;
    const width = Math.max(300, Math.floor(place.parentElement.clientWidth));
    const chosen = choose(state, filter, all);
    const signature = JSON.stringify([width, chosen.listeners.map(l => [l.name, l.kind, l.upstreams]), chosen.upstreams.map(u =>
      [u.name, upstreamId(state, u.name), (u.backends ?? []).map(b => [b.backend, b.state])])]);
    if (signature !== drawn) {
      const focus = document.activeElement?.getAttribute?.("href");
      live = layout(place, state, chosen, width);
      if (focus && !place.contains(document.activeElement)) place.querySelector(`a[href="${CSS.escape(focus)}"]`)?.focus();
      drawn = signature;
      left = chosen.left;
    }
    for (const update of live) update(history);
    return left;
  };
  return { show };
}

function choose(state, filter, all) {
  const has = text => text.toLowerCase().includes(filter);
  const hit = u => !filter || has(u.name) || (u.backends ?? []).some(b => has(b.backend)) || (u.listeners ?? []).some(has);
  const isBroken = u => (u.backends ?? []).some(broken);
  const every = (state.upstreams ?? []).filter(hit);
  const sorted = all ? every : [...every.filter(isBroken), ...every.filter(u => !isBroken(u))].slice(0, NODES_MAX);
  const inOrder = every.filter(u => sorted.includes(u));
  const names = new Set(inOrder.map(u => u.name));
  const leads = l => (l.upstreams ?? []).some(name => names.has(name));
  const listeners = (state.listeners ?? []).filter(l => !filter || has(l.name) || leads(l));
  const shown = all ? listeners : [...listeners.filter(leads), ...listeners.filter(l => !leads(l))].slice(0, NODES_MAX);
  return { upstreams: inOrder, listeners: shown, left: every.length - inOrder.length + listeners.length - shown.length };
}

/** Where the columns stand. */
function columns(width) {
  const narrow = width < 640;
  const [first, second, third] = narrow ? [0.25, 0.22, 0.4].map(part => part * width) : [200, 200, Math.min(340, width * 0.34)];
  return { narrow, listener: [1, first], upstream: [first + (width - first - second - third) / 2, second], backend: [width - third - 1, third] };
}

function layout(place, state, { upstreams, listeners }, width) {
  const at = columns(width);
  const [links, nodes, live] = [svg("g", { class: "links" }), svg("g"), []];
  const put = { at, links, nodes, live, rows: upstreams.length > MANY_UPSTREAMS ? ROWS_THEN : ROWS_MAX };
  let y = 6;
  const middles = new Map();
  for (const upstream of upstreams) {
    const height = Math.max(NODE, blockHeight(put, upstream));
    const middle = y + height / 2;
    middles.set(upstream.name, middle);
    upstreamNode(put, state, upstream, middle);
    block(put, upstream, y + (height - blockHeight(put, upstream)) / 2, middle);
    y += height + BLOCK_GAP;
  }
  const below = placeListeners(put, state, listeners, middles, y);
  const height = Math.max(y, below, 60);
  for (const [name, value] of [["width", width], ["height", height], ["viewBox", `0 0 ${width} ${height}`]]) attribute(place, name, value);
  place.replaceChildren(links, nodes);
  return live;
}

/** Each as near to the middle of what it leads to as the others allow. */
function placeListeners(put, state, listeners, middles, height) {
  const wish = listener => {
    const all = (listener.upstreams ?? []).map(name => middles.get(name)).filter(Number.isFinite);
    return all.length ? all.reduce((a, b) => a + b, 0) / all.length : height;
  };
  const size = listeners.length * (NODE + 10);
  let next = 6;
  let room = Math.max(height, size + 6) - size;
  for (const [listener, wished] of listeners.map(l => [l, wish(l)]).sort((a, b) => a[1] - b[1])) {
    const free = Math.min(room, Math.max(0, wished - NODE / 2 - next));
    room -= free;
    next += free;
    listenerNode(put, listener, next + NODE / 2, middles);
    next += NODE + 10;
  }
  return next;
}

/** As much of a name as fits; the whole of it is its title. Of an address, the end says more. */
function fitting(text, width, each, { end = false } = {}) {
  const most = Math.max(4, Math.floor(width / each));
  if (text.length <= most) return text;
  return end ? `…${text.slice(1 - most)}` : `${text.slice(0, most - 1)}…`;
}

function node(put, column, middle, { name, href, className, words }) {
  const [x, width] = put.at[column];
  const pad = put.at.narrow ? 7 : 12;
  const note = svg("text", { class: "note", x: x + pad, y: middle + 14 });
  const title = svg("title", {}, words);
  const group = svg("a", { href, class: `node ${className}` }, title,
    svg("rect", { x, y: middle - NODE / 2, width, height: NODE, rx: 8 }),
    svg("text", { class: "name", x: x + pad, y: middle - 3 }, fitting(name, width - 2 * pad, put.at.narrow ? 6.8 : 7.4)), note);
  put.nodes.append(group);
  return text => say(note, fitting(text, width - 2 * pad, put.at.narrow ? 5.6 : 6));
}

const flow = (history, key, isAsked, asked, connected) => ({
  perSecond: history.rate(key, isAsked ? asked : connected),
  bytes: history.rate(key, now => (now.bytes_up ?? 0) + (now.bytes_down ?? 0)),
  unit: isAsked ? "req/s" : "conn/s",
});

const listenerFlow = (history, of) =>
  flow(history, listenerKey(of), of.kind === "http", requests, now => now.accepted ?? 0);

/** Requests where an upstream has any, else connections. */
export const backendFlow = (history, upstream, of) =>
  flow(history, backendKey(upstream, of), isAsked(upstream), now => now.requests ?? 0, now => now.connections ?? 0);

const asks = new WeakMap();
function isAsked(upstream) {
  if (!asks.has(upstream)) asks.set(upstream, (upstream.backends ?? []).some(of => of.requests > 0));
  return asks.get(upstream);
}

/** What flows through several backends together. */
export function sumFlow(history, upstream, backends) {
  const all = backends.map(of => backendFlow(history, upstream, of));
  const sum = part => all.reduce((total, one) => total + (one[part] ?? 0), 0);
  return { perSecond: sum("perSecond"), bytes: sum("bytes"), unit: isAsked(upstream) ? "req/s" : "conn/s" };
}

function listenerNode(put, listener, middle, middles) {
  const words = `${listener.name}, ${(listener.addresses ?? []).join(", ")}`;
  const note = node(put, "listener", middle, { name: listener.name, href: "#listeners", className: "listener", words });
  const key = listenerKey(listener);
  const leads = (listener.upstreams ?? []).filter(name => middles.has(name));
  const draws = leads.map(name => link(put, "listener", middle, "upstream", middles.get(name)));
  // Who goes where is counted by nobody: a line is as wide as its traffic only where one of its ends has no other line.
  const alone = (listener.upstreams ?? []).length === 1;
  put.live.push(history => {
    const of = history.now.index.get(key);
    if (!of) return;
    const now = listenerFlow(history, of);
    note(put.at.narrow ? `${rate(now.perSecond)}/s` : `${rate(now.perSecond)} ${now.unit} · ${rate(of.open)} open`);
    leads.forEach((name, at) => {
      const upstream = history.now.index.get(upstreamKey({ name }));
      const only = (upstream?.listeners ?? []).length === 1;
      draws[at](alone ? now : only && upstream ? sumFlow(history, upstream, upstream.backends ?? []) : { perSecond: null, bytes: null }, "healthy");
    });
  });
}

function upstreamNode(put, state, upstream, middle) {
  const all = upstream.backends ?? [];
  const usable = all.filter(backend => backend.state === "healthy").length;
  const className = `upstream ${usable === 0 ? "bad" : all.some(broken) ? "warn" : "fine"}`;
  const words = `${upstream.name}: ${usable} of ${all.length} usable, ${upstream.balance ?? ""}`;
  const note = node(put, "upstream", middle, { name: upstream.name, href: `#${upstreamId(state, upstream.name)}`, className, words });
  note(put.at.narrow ? `${usable}/${all.length} up` : `${usable} of ${all.length} usable`);
}

const isField = (put, upstream) => (upstream.backends ?? []).length > put.rows;
const named = (put, upstream) => (isField(put, upstream) ? upstream.backends.filter(broken).slice(0, NAMED_MAX) : upstream.backends ?? []);
const perLine = width => Math.max(1, Math.floor((width - 12) / CELL));

function blockHeight(put, upstream) {
  const rows = named(put, upstream).length * ROW;
  return isField(put, upstream) ? rows + 32 + Math.ceil(upstream.backends.length / perLine(put.at.backend[1])) * CELL : rows;
}

function block(put, upstream, top, middle) {
  let y = top;
  for (const backend of named(put, upstream)) {
    backendRow(put, upstream, backend, y + ROW / 2, middle);
    y += ROW;
  }
  if (isField(put, upstream)) field(put, upstream, y, middle);
}

function backendRow(put, upstream, backend, y, middle) {
  const [x, width] = put.at.backend;
  const key = backendKey(upstream, backend);
  const value = svg("text", { class: "value", x: x + width - 8, y: y + 4, "text-anchor": "end" });
  const isUp = backend.state === "healthy";
  const room = width - 32 - (put.at.narrow ? (isUp ? 34 : 0) : 84);
  put.nodes.append(svg("g", { class: `backend ${known(backend.state)}` },
    svg("title", {}, `${backend.backend} is ${backend.state}${backend.reason ? `: ${backend.reason}` : ""}`),
    svg("rect", { x, y: y - ROW / 2 + 2, width, height: ROW - 4, rx: 6 }),
    svg("g", { transform: `translate(${x + 7} ${y - 6})` }, shapePath(backend.state)),
    svg("text", { class: "address", x: x + 25, y: y + 4 }, fitting(backend.backend, room, put.at.narrow ? 6.1 : 7, { end: true })), value));
  const draw = link(put, "upstream", middle, "backend", y);
  put.live.push(history => {
    const of = history.now.index.get(key);
    if (!of) return;
    const now = backendFlow(history, history.now.index.get(upstreamKey(upstream)), of);
    const flows = put.at.narrow ? `${rate(now.perSecond)}/s` : `${rate(now.perSecond)} ${now.unit}`;
    say(value, isUp ? flows : put.at.narrow ? "" : now.perSecond > 0 ? flows : fitting(of.state, 78, 6.2));
    draw(now, of.state);
  });
}

/** A shape for each backend, in the order of the config. */
function field(put, upstream, top, middle) {
  const [x, width] = put.at.backend;
  const all = upstream.backends;
  const line = perLine(width);
  const lines = Math.ceil(all.length / line);
  const label = svg("text", { class: "note", x: x + 8, y: top + 16 });
  const group = svg("g", { class: "field" },
    svg("rect", { x, y: top + 2, width, height: 28 + lines * CELL, rx: 8 }), label);
  all.forEach((backend, at) => {
    const [left, y] = [x + 8 + (at % line) * CELL, top + 24 + Math.floor(at / line) * CELL];
    group.append(svg("g", { transform: `translate(${left} ${y}) scale(.8)` },
      svg("title", {}, `${backend.backend} is ${backend.state}`), shapePath(backend.state)));
  });
  put.nodes.append(group);
  const draw = link(put, "upstream", middle, "backend", top + 16 + (lines * CELL) / 2);
  const usable = all.filter(backend => backend.state === "healthy").length;
  put.live.push(history => {
    const of = history.now.index.get(upstreamKey(upstream));
    if (!of) return;
    const now = sumFlow(history, of, of.backends ?? []);
    const words = put.at.narrow ? `${usable}/${all.length} · ${rate(now.perSecond)}/s`
      : `${usable} of ${all.length} usable · ${rate(now.perSecond)} ${now.unit} · ${bytes(now.bytes)}/s`;
    say(label, fitting(words, width - 16, 5.8));
    draw(now, usable > 0 ? "healthy" : "unhealthy");
  });
}

/** A line from one column to the next. The wider, the more bytes; the faster, the more requests or connections. */
function link(put, from, y1, to, y2) {
  const [start, end] = [put.at[from][0] + put.at[from][1], put.at[to][0]];
  const bend = (end - start) * 0.5;
  const d = `M${start} ${y1}C${start + bend} ${y1} ${end - bend} ${y2} ${end} ${y2}`;
  const [pipe, drops] = [svg("path", { class: "pipe", d }), svg("path", { class: "drops", d })];
  put.links.append(pipe, drops);
  return (now, state) => {
    const wide = now.bytes > 0 ? Math.min(11, 1.5 + Math.max(0, Math.log10(now.bytes) - 2) * 1.5) : 1.5;
    const speed = now.perSecond > 0 || now.bytes > 0 ? Math.min(5, 1 + Math.floor(Math.log10(1 + (now.perSecond ?? 0)) * 1.6)) : 0;
    attribute(pipe, "class", `pipe ${known(state)}${now.bytes === null && now.perSecond === null ? " unknown" : ""}`);
    attribute(pipe, "stroke-width", wide.toFixed(1));
    attribute(drops, "stroke-width", Math.max(1.5, wide * 0.5).toFixed(1));
    attribute(drops, "data-speed", speed || null);
  };
}
