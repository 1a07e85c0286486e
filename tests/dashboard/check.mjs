// Drives the dashboard in a real Chromium. `node tests/dashboard/check.mjs http://127.0.0.1:9900 target/dashboard` checks the page of
// a running process that has an upstream of two backends; `mock` in place of the address checks it on a made-up one, with more.

import { strict as assert } from "node:assert";
import { mkdir } from "node:fs/promises";
import { audit } from "./audit.mjs";
import { browser, fine, until } from "./browser.mjs";
import { onMock } from "./check_mock.mjs";
import { ofParts } from "./check_parts.mjs";
import { mock } from "./mock.mjs";

const PHONE = { width: 360, height: 740 };
/** Everything together must be done by then. */
const WHOLE_MS = 180_000;

const texts = (page, selector) => page.locator(selector).allTextContents();
/** The first backend of an upstream that has another one that is usable, as its button says it. */
async function spare(page) {
  const names = await page.$$eval("#upstream-list .upstream", all => all
    .filter(of => of.querySelectorAll("tr.healthy").length > 1).map(of => of.querySelector("tr.healthy button")?.getAttribute("aria-label")));
  assert.ok(names[0], "no upstream has two healthy backends");
  return names[0];
}

const button = (page, label) => page.getByRole("button", { name: label, exact: true });
const stateOf = (page, label) => page.locator("tr", { has: button(page, label) }).locator(".state");
const dialog = page => page.locator("#order");
const confirm = page => dialog(page).locator("[data-part=confirm]");

/** Opens the dialog, chooses and confirms. */
async function give(page, label, word) {
  await button(page, label).click();
  await dialog(page).getByRole("radio", { name: word, exact: true }).check();
  await confirm(page).click();
}

const CHECKS = {
  async "it loads, names the process, and nothing is refused or reported as an error"({ page, base }) {
    const opened = await page(base);
    assert.match(await opened.title(), /Evenkeel$/);
    await until(opened, "it is live", () => document.getElementById("line").textContent === "Live");
    assert.match((await texts(opened, "#who"))[0], /process \d+ · up /);
    assert.ok((await texts(opened, "#flow .node .name")).length >= 2, "the picture has nodes");
    assert.ok((await texts(opened, "#config-place code")).length > 1, "the config is drawn");
    await fine(opened);
  },
  async "what it shows is renewed each second"({ page, base }) {
    const opened = await page(base);
    const seen = await opened.evaluate(() => new Promise(done => {
      const seen = [];
      const watch = new MutationObserver(() => {
        seen.push(performance.now());
        if (seen.length === 6) done(seen);
      });
      watch.observe(document.querySelector("#tiles .chart path"), { attributes: true, attributeFilter: ["d"] });
    }));
    // The middle one of five: on a busy machine, one may be late.
    const gaps = seen.slice(1).map((at, n) => at - seen[n]).sort((a, b) => a - b);
    assert.ok(gaps[2] < 1_250, `${gaps.map(Math.round)} ms between two states`);
    await fine(opened);
  },
  async "a backend is drained only after it was confirmed, and made ready again"({ page, base }) {
    const opened = await page(base);
    const label = await spare(opened);
    await button(opened, label).click();
    await dialog(opened).getByRole("radio", { name: "Drain", exact: true }).check();
    assert.match(await dialog(opened).locator("[data-part=open]").textContent(), /^[\d,.kM]+ open connections?$/);
    assert.match(await dialog(opened).locator("[data-part=warning]").textContent(), /usable/);
    await dialog(opened).locator("[data-part=cancel]").click();
    await opened.waitForTimeout(300);
    assert.equal(opened.sent.length, 0, "nothing is sent before it is confirmed");
    await give(opened, label, "Drain");
    await stateOf(opened, label).getByText("drained").waitFor();
    const [sent] = opened.sent;
    assert.equal(new URL(sent.url()).pathname, "/v1/drain");
    assert.deepEqual(Object.keys(sent.postDataJSON()).sort(), ["backend", "upstream"]);
    assert.equal(sent.headers()["x-evenkeel"], "dashboard");
    assert.match(await opened.locator("#said").textContent(), /is drained/);
    await give(opened, label, "Make ready");
    await stateOf(opened, label).getByText("healthy").waitFor();
    await fine(opened);
  },
  async "a weight is changed, nonsense cannot be sent, and an empty one is the config's"({ page, base }) {
    const opened = await page(base);
    const label = await spare(opened);
    const weight = opened.locator("tr", { has: button(opened, label) }).locator("td:nth-of-type(2)");
    const before = await weight.textContent();
    await button(opened, label).click();
    await dialog(opened).getByRole("radio", { name: "Change weight" }).check();
    const field = dialog(opened).getByLabel(/^Weight/);
    for (const nonsense of ["-1", "1.5", "65536", "1e9"]) {
      await field.fill(nonsense);
      assert.ok(await confirm(opened).isDisabled(), `${nonsense} is no weight`);
    }
    await field.fill("7");
    await confirm(opened).click();
    await until(opened, "the new weight", ([label]) => document.querySelector(`[aria-label="${label}"]`).closest("tr").children[2].textContent.startsWith("7"), [label]);
    await button(opened, label).click();
    await dialog(opened).getByRole("radio", { name: "Change weight" }).check();
    await field.fill("");
    await confirm(opened).click();
    await until(opened, "the weight of the config", ([label, before]) => document.querySelector(`[aria-label="${label}"]`).closest("tr").children[2].textContent === before, [label, before]);
    assert.deepEqual(opened.sent.map(sent => sent.postDataJSON().weight), [7, undefined]);
    await fine(opened);
  },
  async "everything can be done with the keyboard alone"({ page, base }) {
    const opened = await page(base);
    const label = await spare(opened);
    await opened.keyboard.press("Tab");
    assert.equal(await opened.evaluate(() => document.activeElement.className), "skip");
    await opened.keyboard.press("Enter");
    assert.equal(await opened.evaluate(() => document.activeElement.id), "main");
    const outlines = await tabTo(opened, label);
    assert.deepEqual(outlines, [], "a focus that cannot be seen");
    await opened.keyboard.press("Enter");
    await dialog(opened).waitFor();
    await opened.keyboard.press("Escape");
    assert.equal(await opened.evaluate(() => document.activeElement.getAttribute("aria-label")), label, "the focus comes back");
    await opened.keyboard.press("Enter");
    await opened.keyboard.press("Space");
    assert.equal(await opened.evaluate(() => document.activeElement.value), "drain");
    for (const _ of [1, 2]) await opened.keyboard.press("Tab");
    assert.equal(await opened.evaluate(() => document.activeElement.dataset.part), "confirm");
    await opened.keyboard.press("Enter");
    await stateOf(opened, label).getByText("drained").waitFor();
    await give(opened, label, "Make ready");
    await stateOf(opened, label).getByText("healthy").waitFor();
    await opened.keyboard.press("/");
    await opened.keyboard.type("no such thing");
    await until(opened, "nothing matches", () => document.querySelectorAll("#upstream-list .upstream").length === 0);
    await fine(opened);
  },
  async "names, headings, tables and contrasts are as they must be, on a phone and a desk, by day and by night"({ page, base }) {
    for (const how of [{}, { dark: true }, PHONE, { ...PHONE, dark: true }]) {
      const opened = await page(base, how);
      assert.deepEqual(await opened.evaluate(audit), []);
      await button(opened, await spare(opened)).click();
      await dialog(opened).getByRole("radio", { name: "Drain", exact: true }).check();
      assert.deepEqual(await opened.evaluate(audit), [], "with the dialog");
      await fine(opened);
    }
  },
  async "nothing moves for those who asked for that"({ page, base }) {
    const opened = await page(base, { still: true });
    assert.deepEqual(await opened.evaluate(() => document.getAnimations().length), 0);
    await fine(opened);
  },
  async "screenshots are taken"({ page, base, folder }) {
    for (const [name, how] of [["desktop-light", {}], ["desktop-dark", { dark: true }], ["phone", PHONE]]) {
      const opened = await page(base, how);
      await opened.waitForTimeout(2_500);
      await opened.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
      await fine(opened);
    }
  },
};

/** Presses Tab until the button has the focus; gives back what had it on the way without showing it. */
async function tabTo(page, label) {
  const unseen = [];
  for (let n = 0; n < 200; n++) {
    await page.keyboard.press("Tab");
    const { name, seen, what } = await page.evaluate(() => {
      const at = document.activeElement;
      const style = getComputedStyle(at);
      const rect = at.querySelector?.(":scope > rect");
      const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2) || (rect && parseFloat(getComputedStyle(rect).strokeWidth) >= 2);
      return { name: at.getAttribute("aria-label"), seen: Boolean(seen), what: `${at.tagName} ${at.id} ${at.className}` };
    });
    if (!seen) unseen.push(what);
    if (name === label) return unseen;
  }
  throw new Error(`no way by Tab to ${label}`);
}

async function run([address, folder = "target/dashboard", only]) {
  if (!address) throw new Error("usage: node tests/dashboard/check.mjs ADDRESS|mock [FOLDER] [WORD]");
  await mkdir(folder, { recursive: true });
  const fake = address === "mock" ? await mock("shop") : null;
  const started = await browser();
  const given = { page: started.page, base: fake?.base ?? address.replace(/\/$/, ""), folder, fake };
  const checks = Object.entries({ ...CHECKS, ...ofParts, ...(fake ? onMock : {}) }).filter(([name]) => !only || name.includes(only));
  let failed = 0;
  for (const [name, check] of checks) {
    try {
      fake?.reset();
      await check(given);
      console.log(`ok      ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${name}\n${error.stack}`);
    }
  }
  await started.end();
  await fake?.end();
  console.log(`${checks.length - failed} of ${checks.length} checks passed`);
  return failed === 0 && checks.length > 0;
}

setTimeout(() => {
  console.log(`FAILED  not done after ${WHOLE_MS} ms`);
  process.exit(1);
}, WHOLE_MS).unref();
process.exitCode = (await run(process.argv.slice(2))) ? 0 : 1;
