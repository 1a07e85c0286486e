// The line to the process: a stream of states that is opened again whenever it breaks, and orders. It is read by fetch and not
// by EventSource, since that cannot send a token. The token is kept for this tab only, and is sent to where the page is from.

const STATES = "/v1/events";
/** No word for so long: the line is given up and opened anew. The server speaks each second. */
const SILENCE_MS = 5_000;
/** From when on people are told that it is lost. */
const LOST_MS = 2_500;
const AGAIN_MS = [200, 500, 1_000, 2_000, 4_000];
/** The longest event that is believed. */
const EVENT_MAX = 64 * 1024 * 1024;
const TOKEN = "evenkeel-token";

/** Takes a token out of the address, where it must not stay. */
export function tokenFromAddress() {
  const found = /^#token=([^&]+)$/.exec(location.hash);
  if (!found) return;
  setToken(decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname + location.search);
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token.trim());
}

function headers(more) {
  const token = sessionStorage.getItem(TOKEN);
  return { "X-Evenkeel": "dashboard", ...(token ? { Authorization: `Bearer ${token}` } : {}), ...more };
}

const ask = (path, given = {}) =>
  fetch(path, { cache: "no-store", redirect: "error", ...given, headers: headers(given.headers) });

/** What the process says of `path`; throws with its own words when it refuses. */
export async function read(path) {
  return understood(await ask(path));
}

/** Gives an order; throws with the refusal's own words. */
export async function order(path, what) {
  const body = JSON.stringify(what);
  return understood(await ask(path, { method: "POST", body, headers: { "Content-Type": "application/json" } }));
}

async function understood(answer) {
  const said = await answer.json().catch(() => null);
  if (answer.ok) return said;
  throw new Error(said?.error ?? `it was answered with ${answer.status}`);
}

/** Follows the states for as long as the page lives. Calls `state(state)`, `lost(why)`, and `denied()`, which it waits for. */
export async function follow({ state, lost, denied }) {
  let timer = null;
  let tries = 0;
  const expect = why => {
    clearTimeout(timer);
    timer = setTimeout(() => lost(why), LOST_MS);
  };
  const heard = said => {
    tries = 0;
    expect("it has stopped talking");
    state(said);
  };
  for (expect("it does not answer"); ; tries++) {
    try {
      await once(heard, denied);
    } catch (error) {
      console.info(`the stream of states broke off: ${error.message}`);
    }
    await new Promise(done => setTimeout(done, AGAIN_MS[Math.min(tries, AGAIN_MS.length - 1)]));
  }
}

async function once(heard, denied) {
  const stop = new AbortController();
  let silence = setTimeout(() => stop.abort(), SILENCE_MS);
  try {
    const answer = await ask(STATES, { headers: { Accept: "text/event-stream" }, signal: stop.signal });
    if (answer.status === 401) return await denied();
    if (!answer.ok) throw new Error(`answered with ${answer.status}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (const events = new Events(heard); ;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), SILENCE_MS);
      events.take(value);
    }
  } finally {
    clearTimeout(silence);
    stop.abort();
  }
}

/** Cuts a text/event-stream into its events and hands on those that hold a state. */
export class Events {
  constructor(heard) {
    this.heard = heard;
    this.rest = [];
    this.length = 0;
  }

  take(text) {
    text = text.replaceAll("\r", "");
    if (text === "") return;
    const parts = text.split("\n\n");
    // An end that lies across two pieces: only the last character of the one before can belong to it.
    if (text[0] === "\n" && this.rest.at(-1)?.endsWith("\n")) parts.unshift("");
    parts.forEach((part, at) => {
      this.rest.push(part);
      this.length += part.length;
      if (this.length > EVENT_MAX) throw new Error("an event is too long");
      if (at === parts.length - 1) return;
      this.event(this.rest.join(""));
      this.rest = [];
      this.length = 0;
    });
  }

  event(text) {
    const fields = text.split("\n").map(line => /^([^:]*): ?(.*)$/.exec(line)).filter(Boolean);
    const kind = fields.find(field => field[1] === "event")?.[2] ?? "message";
    const data = fields.filter(field => field[1] === "data").map(field => field[2]).join("\n");
    if (kind === "state" && data) this.heard(JSON.parse(data));
  }
}
