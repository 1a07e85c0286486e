// Serves the dashboard's files as the admin listener does, over a made-up process. By hand: `node tests/dashboard/mock.mjs 9900
// many`, and look at it; the checks start it in their own process, and have its levers.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { fake } from "./fake.mjs";

const FILES = fileURLToPath(new URL("../../src/admin/dashboard/", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml" };
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const GUARDS = { "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store" };
const ORDERS = ["/v1/drain", "/v1/ready", "/v1/down", "/v1/weight"];

/** Starts one on `port`, 0 for any. `levers` are what a check may change while it runs. */
export async function mock(scenario, port = 0) {
  const levers = { process: fake(scenario), past: 0, token: null, refuse: null, orders: [], silent: false, mute: false };
  const readers = new Set();
  const state = () => `event: state\ndata: ${JSON.stringify(levers.process.state)}\n\n`;

  const events = response => {
    response.writeHead(200, { ...GUARDS, "Content-Type": "text/event-stream" });
    for (let n = 0; n < levers.past; n++) {
      levers.process.step();
      response.write(state());
    }
    if (!levers.mute) response.write(state());
    readers.add(response);
    response.on("close", () => readers.delete(response));
  };

  const answer = async (request, response) => {
    const path = new URL(request.url, "http://any").pathname;
    const json = (status, said) => response.writeHead(status, { ...GUARDS, "Content-Type": "application/json" }).end(JSON.stringify(said));
    if (path.startsWith("/v1/")) {
      if (levers.token && request.headers.authorization !== `Bearer ${levers.token}`) return json(401, { kind: "refused", error: "a token is needed" });
      if (request.method === "GET" && path === "/v1/events") return levers.silent ? request.socket.destroy() : events(response);
      if (request.method === "GET" && path === "/v1/config") return json(200, levers.process.config());
      if (request.method === "POST" && ORDERS.includes(path)) return json(...(await ordered(levers, request, path)));
      return json(404, { kind: "unknown", error: "there is nothing here" });
    }
    const name = path === "/" ? "index.html" : path.slice(1);
    if (!/^[a-z]+\.[a-z]+$/.test(name)) return json(404, { kind: "unknown", error: "there is no such file" });
    const text = await readFile(FILES + name).catch(() => null);
    if (text === null) return json(404, { kind: "unknown", error: "there is no such file" });
    response.writeHead(200, { ...GUARDS, "Content-Type": TYPES[extname(name)] }).end(text);
  };

  const server = createServer((request, response) => answer(request, response).catch(error => response.destroy(error)));
  await new Promise(done => server.listen(port, "127.0.0.1", done));
  const ticking = setInterval(() => {
    levers.process.step();
    if (!levers.mute) for (const reader of readers) reader.write(state());
  }, 1000);
  return {
    base: `http://127.0.0.1:${server.address().port}`,
    levers,
    become(name) {
      Object.assign(levers, { process: fake(name), orders: [] });
      levers.process.state.pid += 1;
    },
    /** As it was in the beginning. */
    reset() {
      Object.assign(levers, { process: fake(scenario), past: 0, token: null, refuse: null, orders: [], silent: false, mute: false });
    },
    /** As if the process had gone: every stream breaks off, and new ones are refused until it is back. */
    away(is) {
      levers.silent = is;
      if (is) for (const reader of readers) reader.destroy();
    },
    end() {
      clearInterval(ticking);
      server.closeAllConnections();
      return new Promise(done => server.close(done));
    },
  };
}

async function ordered(levers, request, path) {
  let text = "";
  for await (const piece of request) text += piece;
  const own = `http://${request.headers.host}`;
  const isOurs = request.headers.origin === own && request.headers["sec-fetch-site"] === "same-origin" &&
    request.headers["x-evenkeel"] === "dashboard" && request.headers["content-type"] === "application/json";
  if (!isOurs) return [403, { kind: "refused", error: "this comes from another site" }];
  levers.orders.push({ path, what: JSON.parse(text) });
  if (levers.refuse) return [409, { kind: "refused", error: levers.refuse, problems: [] }];
  const { status, said } = levers.process.order(path, JSON.parse(text));
  return [status, said];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { base } = await mock(process.argv[3] ?? "shop", Number(process.argv[2] ?? 0));
  console.log(base);
}
