// What is wrong, worst first: the part that is read at three in the morning. Each finding is one line with its cause; a level
// is `bad` (somebody is let down), `warn` (soon somebody will be) or `note` (somebody has done this on purpose).

import { listenerKey, requests, WHOLE } from "./history.js";
import { count, date, duration, ms, percent, several } from "./format.js";
import { isFailure } from "./reasons.js";

const DAY = 86_400_000;
const EXPIRES_SOON = 14 * DAY;
/** So many backends of one upstream are named; more become a number. */
const NAMED = 4;
const LEVELS = ["bad", "warn", "note"];

/** Everything that deserves a look. `config` is the last answer of `/v1/config`, if there was one. */
export function findings(history, config) {
  const { state } = history.now;
  const found = [];
  const add = (level, title, detail = "", target = null) => found.push({ level, title, detail, target });
  process(state, history, add);
  for (const upstream of state.upstreams ?? []) backends(upstream, state.now_at_ms, add);
  traffic(state, history, add);
  for (const certificate of state.certificates ?? []) expiry(certificate, state.now_at_ms, add);
  for (const problem of config?.problems ?? []) {
    add(problem.level === "error" ? "bad" : "note", `${config.file}, line ${problem.line}`, problem.text, "config");
  }
  return found.sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level));
}

function process(state, history, add) {
  const own = state.process ?? {};
  if (state.draining) add("warn", "This process is stopping", `${several(state.open, "connection")} still open`);
  if (state.confirm_within_ms !== null && state.confirm_within_ms !== undefined) {
    add("warn", "A new config waits to be confirmed", `it goes back in ${duration(state.confirm_within_ms)}`, "config");
  }
  const full = (what, part) => {
    if (!(part?.max > 0)) return;
    const share = part.used ?? part.open;
    const level = share > 0.95 * part.max ? "bad" : share > 0.8 * part.max ? "warn" : null;
    if (level) add(level, `${what} run out`, `${percent(share / part.max)} used`, "process");
  };
  full("Descriptors", own.descriptors);
  full("Bytes of memory", own.memory);
  for (const worker of own.workers ?? []) {
    const late = worker.delay_ms?.p99 > 100;
    if (worker.busy > 0.9 || late) {
      add("warn", `Worker ${worker.number} cannot keep up`, `${percent(worker.busy)} busy, ${ms(worker.delay_ms?.p99)} late (p99)`, "process");
    }
  }
  const more = (title, pick, level, detail) => {
    const n = history.minute(WHOLE, of => pick(of.process ?? {}));
    if (n > 0) add(level, title, detail, "events");
  };
  more("A config was refused", of => of.reloads?.refused ?? 0, "warn", "the one before stays in force");
  more("An upgrade has failed", of => of.upgrades?.failed ?? 0, "warn", "this process goes on");
  more("A worker stood still", of => of.stalls ?? 0, "bad", "see the log");
  more("A fault in Evenkeel", of => of.panics ?? 0, "bad", "the log has the place; please report it");
}

export const broken = backend => backend.state === "unhealthy" || backend.state === "ejected";

function backends(upstream, now, add) {
  const all = upstream.backends ?? [];
  const bad = all.filter(broken);
  const off = all.filter(backend => backend.state === "drained" || backend.state === "down");
  const target = `upstream ${upstream.name}`;
  if (!all.some(backend => backend.state === "healthy")) {
    add("bad", `${upstream.name} has no usable backend`, all.length === 0 ? "it has none at all" : "whoever needs it is turned away", target);
  }
  if (bad.length > NAMED) {
    const reasons = [...new Set(bad.map(backend => backend.reason).filter(Boolean))].slice(0, 2).join("; ");
    add("bad", `${bad.length} of ${all.length} backends of ${upstream.name} are broken`, reasons, target);
  } else {
    for (const backend of bad) {
      const since = lastly(backend.health, now);
      add("bad", `${upstream.name} ${backend.backend} is ${backend.state}`, [backend.reason, since].filter(Boolean).join(", "), target);
    }
  }
  if (off.length > NAMED) add("note", `${off.length} backends of ${upstream.name} are taken out`, "by an operator", target);
  else for (const backend of off) add("note", `${upstream.name} ${backend.backend} is ${backend.state}`,
    `${backend.operator ? "by an operator" : "by its weight"}, ${count(backend.open)} open`, target);
  const { queue } = upstream;
  if (queue?.waiting > 0) {
    const level = queue.max > 0 && queue.waiting > 0.8 * queue.max ? "bad" : "warn";
    add(level, `${count(queue.waiting)} wait for a place at ${upstream.name}`, `its queue has room for ${count(queue.max)}`, target);
  }
}

/** Since when the checks fail without a pause. */
function lastly(health, now) {
  const passed = (health ?? []).findLastIndex(check => check.ok);
  const first = health?.[passed + 1];
  return first ? `checks fail for ${passed < 0 ? "at least " : ""}${duration(now - first.at_ms)}` : "";
}

function traffic(state, history, add) {
  for (const listener of state.listeners ?? []) {
    const key = listenerKey(listener);
    const [all, wrong] = [history.minute(key, requests), history.minute(key, of => of.requests?.["5xx"])];
    if (all >= 20 && wrong > 0.05 * all) {
      add("bad", `${percent(wrong / all)} of answers on ${listener.name} are 5xx`, `${count(wrong)} of ${count(all)} in the last minute`, "listeners");
    }
  }
  for (const why of Object.keys(state.ended ?? {})) {
    const n = history.minute(WHOLE, of => of.ended?.[why]);
    if (n > 0 && isFailure(why)) add("warn", `Ended: ${why}`, `${several(n, "time")} in the last minute`, "errors");
  }
  for (const name of Object.keys(state.limits ?? {})) {
    const n = history.minute(WHOLE, of => of.limits?.[name]);
    if (n > 0 && !Object.hasOwn(state.ended ?? {}, name)) add("warn", `Limit: ${name}`, `${several(n, "time")} in the last minute`, "errors");
  }
}

function expiry(certificate, now, add) {
  const left = certificate.not_after_at_ms - now;
  const name = `Certificate of ${certificate.names?.[0] ?? certificate.listener}`;
  if (left <= 0) add("bad", `${name} has expired`, `on ${date(certificate.not_after_at_ms)}`, "certificates");
  else if (left < EXPIRES_SOON) add("warn", `${name} expires in ${several(Math.floor(left / DAY), "day")}`, `on ${date(certificate.not_after_at_ms)}`, "certificates");
}

const brief = title => (title.length > 60 ? `${title.slice(0, 59)}…` : title);

/** The state of the whole in a few words. */
export function verdict(found) {
  const of = level => found.filter(finding => finding.level === level).length;
  const [bad, warn] = [of("bad"), of("warn")];
  if (bad > 0) return { level: "bad", text: bad === 1 ? brief(found[0].title) : `${bad} things are broken` };
  if (warn > 0) return { level: "warn", text: warn === 1 ? brief(found[0].title) : `${warn} things need a look` };
  return { level: "good", text: "All is well" };
}

/** The id of an upstream's section; names may hold anything, so it is made of its place. */
export const upstreamId = (state, name) => `upstream-${(state.upstreams ?? []).findIndex(upstream => upstream.name === name)}`;
/** The element that a finding is about. */
export const targetId = (state, target) =>
  target?.startsWith("upstream ") ? upstreamId(state, target.slice("upstream ".length)) : target;
