// What the page remembers: a few readings of the last minute, and five minutes of the numbers that are drawn. Counters only
// grow, so two readings make a rate. It keeps a bounded number of readings, and forgets all of them with a new process.

import { grown, merged, percentile } from "./latency.js";
import { isFailure } from "./reasons.js";

/** Rates are those of so long. */
const RATE_MS = 5_000;
/** A reading is kept each so long, for a minute. */
const STEP_MS = 10_000;
const MINUTE_MS = 65_000;
/** Points of a line. */
const POINTS = 300;

export const QUANTILES = [["p50", 0.5], ["p90", 0.9], ["p99", 0.99]];
export const PHASES = [["connect", "Connect"], ["first_byte", "First byte"], ["total", "Total"]];

export const listenerKey = listener => `l ${listener.name}`;
export const upstreamKey = upstream => `u ${upstream.name}`;
export const backendKey = (upstream, backend) => `b ${upstream.name} ${backend.backend}`;
/** The key of the process as a whole. */
export const WHOLE = "";

function indexed(state) {
  const index = new Map([[WHOLE, state]]);
  for (const listener of state.listeners ?? []) index.set(listenerKey(listener), listener);
  for (const upstream of state.upstreams ?? []) {
    index.set(upstreamKey(upstream), upstream);
    for (const backend of upstream.backends ?? []) index.set(backendKey(upstream, backend), backend);
  }
  return index;
}

export const total = counts => Object.values(counts ?? {}).reduce((sum, value) => sum + value, 0);
export const failures = of => Object.entries(of.ended ?? {}).reduce((sum, [why, n]) => sum + (isFailure(why) ? n : 0), 0);
/** Requests that were answered, of whatever class. */
export const requests = of => total(of.requests);

export class History {
  constructor() {
    this.forget();
  }

  forget() {
    this.recent = [];
    this.steps = [];
    this.lines = {};
  }

  /** Takes a reading; says whether it was a new one. */
  take(state) {
    const last = this.recent.at(-1);
    if (last && (last.state.pid !== state.pid || state.uptime_ms < last.at)) this.forget();
    else if (last && state.uptime_ms === last.at) return false;
    const reading = { at: state.uptime_ms, state, index: indexed(state) };
    this.recent.push(reading);
    while (this.recent.length > 2 && reading.at - this.recent[1].at >= RATE_MS) this.recent.shift();
    if (this.steps.length === 0 || reading.at - this.steps.at(-1).at >= STEP_MS) this.steps.push(reading);
    while (this.steps.length > 1 && reading.at - this.steps[0].at > MINUTE_MS) this.steps.shift();
    this.draw();
    return true;
  }

  get now() {
    return this.recent.at(-1);
  }

  /** How much a counter grows in a second; null if it is not known for long enough. */
  rate(key, pick) {
    const first = this.recent.find(reading => reading.index.has(key));
    const seconds = first && (this.now.at - first.at) / 1000;
    const of = this.now.index.get(key);
    return seconds > 0 && of ? Math.max(0, pick(of) - pick(first.index.get(key))) / seconds : null;
  }

  /** How much a counter has grown within the last minute, or since the page was opened if that is less. */
  minute(key, pick) {
    const [before, of] = [this.steps[0]?.index.get(key), this.now.index.get(key)];
    return before && of ? Math.max(0, (pick(of) ?? 0) - (pick(before) ?? 0)) : 0;
  }

  /** Percentiles of the last minute of one histogram; of its whole life, if nobody has counted in buckets. */
  quantiles(key, pick) {
    const now = pick(this.now.index.get(key));
    const before = this.steps[0]?.index.get(key);
    const buckets = grown(before && pick(before), now);
    return Object.fromEntries(
      QUANTILES.map(([name, q]) => [name, buckets ? percentile(buckets, q) : now?.[`${name}_ms`] ?? null]));
  }

  /** Percentiles of everything between two readings. */
  overall(phase, from, to) {
    const each = [];
    const take = (key, of) => {
      const buckets = grown(from.index.get(key)?.latency?.[phase], of.latency?.[phase]);
      if (buckets) each.push(buckets);
    };
    if (phase === "total") for (const listener of to.state.listeners ?? []) take(listenerKey(listener), listener);
    else for (const [key, of] of to.index) if (key.startsWith("b ")) take(key, of);
    const buckets = merged(each);
    return Object.fromEntries(QUANTILES.map(([name, q]) => [name, percentile(buckets, q)]));
  }

  /** The next point of every line. */
  draw() {
    const put = (name, value) => {
      const line = (this.lines[name] ??= []);
      line.push(value);
      if (line.length > POINTS) line.shift();
    };
    const { state } = this.now;
    put("open", state.open);
    put("accepted", this.rate(WHOLE, of => of.accepted));
    put("requests", this.rate(WHOLE, requests));
    put("up", this.rate(WHOLE, of => of.bytes_up));
    put("down", this.rate(WHOLE, of => of.bytes_down));
    put("failures", this.rate(WHOLE, failures));
    if (this.recent.length < 2) return;
    for (const [phase] of PHASES) {
      const found = this.overall(phase, this.recent[0], this.now);
      for (const [name] of QUANTILES) put(`${phase} ${name}`, found[name]);
    }
  }
}
