// A Chromium of the system on a profile that is thrown away, and pages that write down everything that goes wrong in them: errors,
// refusals of the Content-Security-Policy, requests to anywhere else.

import { strict as assert } from "node:assert";
import { createRequire } from "node:module";

const TOOLS = new URL("../../target/dashboard-tools/", import.meta.url);
const PATIENCE = 10_000;
/** A process that asks for a token gets this one, as somebody would bring it along in a link. */
const TOKEN = process.env.EVENKEEL_TOKEN ? `#token=${process.env.EVENKEEL_TOKEN}` : "";
const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad", "--no-proxy-server"];

function playwright() {
  try {
    return createRequire(TOOLS)("playwright-core");
  } catch {
    throw new Error("playwright-core is not installed: run tests/install.sh");
  }
}

/** Starts the browser; `page(base, how)` opens a page of it in a profile of its own. */
export async function browser() {
  const started = await playwright().chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGUMENTS });
  return { page: (base, how) => page(started, base, how), end: () => started.close() };
}

async function page(started, base, { width = 1440, height = 900, dark = false, still = false, hash = TOKEN, ready = true } = {}) {
  const context = await started.newContext({
    viewport: { width, height }, colorScheme: dark ? "dark" : "light", reducedMotion: still ? "reduce" : "no-preference",
  });
  context.setDefaultTimeout(PATIENCE);
  const opened = await context.newPage();
  opened.wrong = [];
  opened.sent = [];
  // A stream that breaks off is said by the browser itself as an error; whoever breaks it says so.
  opened.mayFail = null;
  const wrong = what => { if (!opened.mayFail?.test(what)) opened.wrong.push(what); };
  opened.on("console", said => { if (said.type() === "error" || said.type() === "warning") wrong(`console: ${said.text()}`); });
  opened.on("pageerror", error => wrong(`error: ${error.message}`));
  opened.on("request", request => {
    if (!request.url().startsWith(`${base}/`)) wrong(`a request to ${request.url()}`);
    if (request.method() !== "GET") opened.sent.push(request);
  });
  await opened.exposeFunction("refusedByPolicy", what => wrong(`policy: ${what}`));
  await opened.addInitScript(() => {
    addEventListener("securitypolicyviolation", event => window.refusedByPolicy(`${event.violatedDirective} ${event.blockedURI}`));
  });
  await opened.goto(`${base}/${hash}`);
  if (ready) await opened.waitForSelector("#main:not([hidden])");
  return opened;
}

/** Waits until `is` holds in the page; says how long that took. */
export async function until(opened, what, is, given, within = PATIENCE) {
  const begun = performance.now();
  try {
    await opened.waitForFunction(is, given, { timeout: within, polling: 20 });
  } catch {
    throw new Error(`not within ${within} ms: ${what}`);
  }
  return performance.now() - begun;
}

/** Loose ends that a check leaves are its failure. */
export async function fine(page) {
  assert.deepEqual(page.wrong, []);
  await page.context().close();
}
