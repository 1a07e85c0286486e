// Opens the link that `evenkeel demo` prints, in a real Chromium, and watches one backend of it die and come back. `node
// tests/dashboard/demo.mjs http://127.0.0.1:1234/#token=… 127.0.0.1:9002` prints `watched` once the page has shown both.

import { strict as assert } from "node:assert";
import { browser, fine, until } from "./browser.mjs";

/** The demo takes its time until it stops a backend, and again until it starts it. */
const TURN_MS = 60_000;

/** Whether the page says that a backend is in this state, in words. */
const says = ({ backend, state }) => [...document.querySelectorAll("#upstream-list tr")].some(row =>
  row.querySelector(".who")?.textContent.includes(backend) && row.querySelector(".state")?.textContent.toLowerCase().includes(state));

const [link, backend] = process.argv.slice(2);
const [base, hash] = link.split("/#");
const chromium = await browser();
const opened = await chromium.page(base, { hash: `#${hash}` });
console.log("opened");
// Whoever reads the address over somebody's shoulder, or in a history, has no token.
assert.equal(await opened.evaluate(() => location.hash), "");
await until(opened, "it is shown as unhealthy", says, { backend, state: "unhealthy" }, TURN_MS);
console.log("it has died");
await until(opened, "it is shown as healthy again", ({ backend }) =>
  [...document.querySelectorAll("#upstream-list tr.healthy")].some(row => row.textContent.includes(backend)), { backend }, TURN_MS);
await fine(opened);
await chromium.end();
console.log("watched");
