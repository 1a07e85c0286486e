// A made-up Evenkeel whose numbers move: what the dashboard is developed and checked against without a process. It has the
// fields of `GET /v1/state`, and takes orders for backends as the real one does. No clock and no chance: `step` is one second.

const EDGES = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, "inf"];
const START = Date.UTC(2026, 2, 1, 3, 0, 0);
const DAY = 86_400_000;

/** The same numbers in every run. */
function chance(seed) {
  let at = seed;
  return () => {
    at = (at + 0x6d2b79f5) | 0;
    let t = Math.imul(at ^ (at >>> 15), 1 | at);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const histogram = () => ({ count: 0, sum_ms: 0, p50_ms: null, p90_ms: null, p99_ms: null, buckets: EDGES.map(edge => [edge, 0]) });

function measured(into, many, middle, random) {
  for (let n = 0; n < Math.min(many, 40); n++) {
    const value = middle * Math.exp((random() + random() + random() - 1.5) * 1.6);
    const worth = Math.max(1, Math.round(many / 40));
    into.count += worth;
    into.sum_ms += value * worth;
    for (const bucket of into.buckets) if (bucket[0] === "inf" || value <= bucket[0]) bucket[1] += worth;
  }
}

const backend = (address, more = {}) => ({
  backend: address, state: "healthy", reason: null, operator: null, weight: 1, backup: false, open: 0, idle: 0,
  "connections-max": null, connections: 0, failures: 0, requests: 0, responses: { "2xx": 0 }, bytes_up: 0, bytes_down: 0, ejections: {},
  latency: { connect: histogram(), first_byte: histogram(), total: histogram() }, health: [], ...more,
});
const upstream = (name, listeners, backends, more = {}) => ({
  name, balance: "round-robin", retries: 0, queue: { waiting: 0, max: 100, refused: 0 }, listeners, backends, ...more,
});
const listener = (name, addresses, upstreams, more = {}) => ({
  name, kind: name.split(".")[0], addresses, tls: false, open: 0, accepted: 0, bytes_up: 0, bytes_down: 0, requests: {}, ended: {},
  handshakes: { done: 0, failed: {} }, upstreams, latency: { total: histogram() }, busy: 100, ...more,
});

function whole(listeners, upstreams, more = {}) {
  return {
    version: "0.1.0", pid: 4711, uptime_ms: 3 * DAY, now_at_ms: START, draining: false, confirm_within_ms: null, open: 0, accepted: 0,
    bytes_up: 0, bytes_down: 0, requests: { none: 0, "1xx": 0, "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0 },
    ended: { "client-finished": 812_345, "answered": 4_211_876, "client-reset": 213, "idle-timeout": 1_204 }, limits: { "limit-process": 0 },
    process: {
      descriptors: { open: 1_204, max: 65_536 }, memory: { used: 61_000_000, max: 2_000_000_000, by: { resident: 61_000_000, "kernel-buffers": 9_400_000 } },
      workers: [0, 1, 2, 3].map(number => ({ number, open: 0, busy: 0.2, delay_ms: { p50: 0.1, p99: 1.2, max: 3 } })),
      reloads: { done: 4, refused: 0, last_at_ms: START - 5_400_000 }, upgrades: { done: 1, failed: 0 }, panics: 0, stalls: 0,
    },
    listeners, upstreams, certificates: [], events: [], decisions: [], ...more,
  };
}

function shop({ broken }) {
  const state = whole([
    listener("http.web", ["0.0.0.0:80", "[::]:80"], ["app"], { busy: 240 }),
    listener("http.secure", ["0.0.0.0:443", "[::]:443"], ["app", "api"], { tls: true, busy: 900 }),
    listener("tcp.postgres", ["10.0.0.5:5432"], ["postgres"], { busy: 14 }),
    listener("tcp.redis", ["10.0.0.5:6379"], ["redis"], { busy: 60 }),
  ], [
    upstream("app", ["http.web", "http.secure"], [1, 2, 3, 4].map(n => backend(`10.0.1.${n}:8080`))),
    upstream("api", ["http.secure"], [1, 2, 3].map(n => backend(`10.0.2.${n}:9000`)), { balance: "least-connections" }),
    upstream("postgres", ["tcp.postgres"], [backend("10.0.3.1:5432", { "connections-max": 200 }), backend("10.0.3.2:5432", { backup: true })]),
    upstream("redis", ["tcp.redis"], [1, 2].map(n => backend(`10.0.4.${n}:6379`)), { balance: "hash" }),
  ]);
  state.certificates = [
    { listener: "http.secure", names: ["www.example.com", "example.com"], issuer: "CN=R11, O=Example Authority", not_after_at_ms: START + 61 * DAY },
    { listener: "http.secure", names: ["api.example.com"], issuer: "CN=R11, O=Example Authority", not_after_at_ms: START + (broken ? 5 : 40) * DAY },
  ];
  state.events.push({ at_ms: START - 5_400_000, level: "info", text: "the config was reloaded: 1 backend added to app" });
  if (!broken) return state;
  const [bad, ejected, drained] = [state.upstreams[0].backends[2], state.upstreams[1].backends[1], state.upstreams[3].backends[1]];
  Object.assign(bad, { state: "unhealthy", reason: "connect: connection refused, 3 times", fails: true });
  Object.assign(ejected, { state: "ejected", reason: "5 answers of 10 were 5xx; back in 24 s", ejections: { "5xx": 2 } });
  Object.assign(drained, { state: "drained", operator: "drained", open: 6 });
  state.events.push({ at_ms: START - 200_000, level: "warn", text: "app 10.0.1.3:8080 is unhealthy: connection refused 3 times" });
  state.events.push({ at_ms: START - 9_000, level: "error", text: "api 10.0.2.2:9000 is ejected for 30 s: 5 answers of 10 were 5xx" });
  return state;
}

function many() {
  const upstreams = [upstream("fleet", ["http.l0"], Array.from({ length: 200 }, (_, n) => backend(`10.1.${n >> 6}.${(n % 64) + 1}:8080`)))];
  for (let n = 1; n < 30; n++) {
    upstreams.push(upstream(`service-${n}`, [`http.l${n}`], [1, 2, 3].map(m => backend(`10.2.${n}.${m}:8080`))));
  }
  for (const n of [17, 44, 45, 98, 153, 171]) {
    Object.assign(upstreams[0].backends[n], { state: "unhealthy", reason: "GET /healthz: 503 3 times", fails: true });
  }
  Object.assign(upstreams[0].backends[60], { state: "drained", operator: "drained" });
  const listeners = Array.from({ length: 50 }, (_, n) =>
    listener(`http.l${n}`, [`0.0.0.0:${8000 + n}`], [n === 0 ? "fleet" : `service-${(n % 29) + 1}`], { busy: n === 0 ? 4000 : 30 }));
  return whole(listeners, upstreams);
}

export const EVIL = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>`;

function hostile() {
  const state = shop({ broken: true });
  const [evil, long] = [`${EVIL}"'&`, "n".repeat(300)];
  state.upstreams[0].name = evil;
  state.listeners[0].name = `http.${evil}`;
  for (const of of state.listeners) of.upstreams = of.upstreams.map(name => (name === "app" ? evil : name));
  Object.assign(state.upstreams[0].backends[0], { backend: evil, state: evil, reason: evil, operator: evil });
  Object.assign(state.upstreams[0].backends[1], { backend: long, reason: "\u202egnissim \u0000\u0007 line\nbreak" });
  state.upstreams[1].balance = evil;
  state.ended[evil] = 3;
  state.ended.__proto__evil = 3;
  state.limits.constructor = 2;
  state.certificates[0].names = [evil];
  state.certificates[0].issuer = evil;
  state.events.push({ at_ms: START, level: evil, text: evil });
  state.decisions.push({ at_ms: START, listener: evil, client: evil, upstream: evil, backend: evil, reason: evil, request: `GET /${evil}`, outcome: evil });
  delete state.process.descriptors;
  delete state.upstreams[2].queue;
  return state;
}

/** What an older process would say: nothing but what `status` knows. */
function bare() {
  const [name, address] = ["app", "10.0.1.1:8080"];
  return {
    version: "0.1.0", pid: 4711, uptime_ms: 1_000, open: 0, accepted: 0,
    listeners: [{ name: "http.web", addresses: [":80"], open: 0 }, { name: "tcp.old" }],
    upstreams: [{ name, backends: [{ backend: address, state: "healthy", weight: 1, open: 0 }, { backend: "10.0.1.2:8080", state: "resting" }] }, { name: "empty" }],
  };
}

const SCENARIOS = { bare: () => bare(), shop: () => shop({ broken: true }), fine: () => shop({ broken: false }), many, hostile };

export function fake(scenario) {
  const state = SCENARIOS[scenario]();
  const random = chance(7);
  let seconds = 0;
  const step = () => {
    if (scenario !== "bare") return second(state, random, seconds++);
    state.uptime_ms += 1000;
  };
  for (let n = 0; n < 30; n++) step();
  return { state, step, config: () => config(scenario), order: (path, what) => order(state, path, what) };
}

function second(state, random, seconds) {
  state.uptime_ms += 1000;
  state.now_at_ms += 1000;
  const wave = 1 + 0.3 * Math.sin(seconds / 17) + 0.1 * (random() - 0.5);
  state.open = 0;
  for (const of of state.listeners) listenerSecond(state, of, Math.round(of.busy * wave), random);
  if (state.upstreams.some(of => of.backends.some(one => one.fails))) {
    state.ended["connect-refused"] = (state.ended["connect-refused"] ?? 0) + (seconds % 7 === 0 ? 1 : 0);
  }
  state.process.workers.forEach(worker => {
    worker.open = Math.round(state.open / 4);
    worker.busy = Math.min(1, 0.25 * wave + 0.05 * random());
    worker.delay_ms.p99 = 0.8 + random();
  });
  for (const of of state.upstreams) for (const one of of.backends) {
    if (seconds % 5 !== 0) continue;
    one.health.push({ at_ms: state.now_at_ms, ok: !one.fails, said: one.fails ? "connection refused" : `200 in ${1 + Math.floor(random() * 4)} ms` });
    if (one.health.length > 30) one.health.shift();
  }
}

function listenerSecond(state, of, many, random) {
  const http = of.kind === "http";
  const upstreams = of.upstreams.map(name => state.upstreams.find(found => found.name === name)).filter(Boolean);
  of.open = Math.round(many * (http ? 0.4 : 12));
  state.open += of.open;
  const fresh = http ? Math.round(many / 8) : many;
  for (const to of [of, state]) to.accepted += fresh;
  measured(of.latency.total, many, http ? 18 : 300, random);
  upstreams.forEach(upstream => {
    const usable = upstream.backends.filter(one => one.state === "healthy" && !one.backup);
    const each = many / upstreams.length / Math.max(1, usable.length);
    for (const one of usable) backendSecond(state, of, one, Math.floor(each + random()), random);
  });
}

function backendSecond(state, of, one, n, random) {
  const http = of.kind === "http";
  const wrong = http && random() < 0.05 ? 1 : 0;
  one.open = Math.round(n * (http ? 0.3 : 10));
  one.idle = http ? Math.round(n * 0.2) : 0;
  one.connections += http ? Math.round(n / 20) : n;
  const [up, down] = [n * 640, n * (http ? 18_000 : 3_000)];
  for (const to of [one, of, state]) {
    to.bytes_up += up;
    to.bytes_down += down;
  }
  measured(one.latency.connect, Math.ceil(n / 20), 0.7, random);
  measured(one.latency.first_byte, n, 9, random);
  measured(one.latency.total, n, 14, random);
  if (!http) return;
  one.requests += n;
  const classes = { "2xx": n - wrong - Math.floor(n / 50), "4xx": Math.floor(n / 50), "5xx": wrong };
  for (const [name, count] of Object.entries(classes)) {
    for (const to of [one.responses, of.requests, state.requests]) to[name] = (to[name] ?? 0) + count;
  }
  if (n > 0 && random() < 0.2) decide(state, of, one, wrong, random);
}

function decide(state, of, one, wrong, random) {
  const upstream = state.upstreams.find(found => found.backends.includes(one));
  const path = ["/", "/cart", "/api/users", "/static/app.js", "/login"][Math.floor(random() * 5)];
  state.decisions.push({
    at_ms: state.now_at_ms, listener: of.name, client: `203.0.113.${1 + Math.floor(random() * 250)}`, upstream: upstream.name,
    backend: one.backend, reason: `${upstream.balance}, turn ${one.requests}`, request: `GET ${path}`, outcome: wrong ? "nobody-left" : "taken",
  });
  if (state.decisions.length > 100) state.decisions.shift();
}

function order(state, path, what) {
  const upstream = state.upstreams.find(of => of.name === what.upstream);
  const one = upstream?.backends.find(of => of.backend === what.backend);
  if (!one) return { status: 404, said: { kind: "unknown", error: `there is no backend "${what.backend}" in "${what.upstream}"`, problems: [] } };
  if (path === "/v1/weight") one.weight = what.weight ?? 1;
  else Object.assign(one, { drain: { state: "drained", operator: "drained" }, down: { state: "down", operator: "down" }, ready: { state: "healthy", operator: null } }[path.slice("/v1/".length)]);
  state.events.push({ at_ms: state.now_at_ms, level: "info", text: `${path.slice("/v1/".length)} ${what.upstream}/${what.backend} by uid 0` });
  return { status: 200, said: { backends: [{ upstream: upstream.name, ...one }] } };
}

function config(scenario) {
  const text = `[upstream.app]\nbackends = ["10.0.1.1:8080", "10.0.1.2:8080"]\nhealth   = { http = "/healthz", every = "5s" }\n\n[http.web]\nlisten   = ":80"\nupstream = "app"\n`;
  const said = scenario === "hostile" ? EVIL : "a response-timeout of 0 never ends";
  const problems = scenario === "fine" ? [] : [{ line: 3, column: 12, level: "warning", text: said, advice: scenario === "hostile" ? EVIL : "write \"off\" to have none" }];
  return { file: scenario === "hostile" ? EVIL : "evenkeel.toml", text: scenario === "hostile" ? `${text}# ${EVIL}\n` : text, problems };
}
