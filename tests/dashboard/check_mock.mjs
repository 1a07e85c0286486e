// Checks that need levers no real process has: a line that is cut, names from an enemy, hundreds of backends, refusals, a token.

import { strict as assert } from "node:assert";
import { audit } from "./audit.mjs";
import { fine, until } from "./browser.mjs";
import { EVIL } from "./fake.mjs";

const CUT = /ERR_|Failed to load resource/;
const change = page => page.getByRole("button", { name: "Change 10.0.1.1:8080 of app" });
const drain = async page => {
  await change(page).click();
  await page.getByRole("radio", { name: "Drain", exact: true }).check();
  await page.locator("#order [data-part=confirm]").click();
};

export const onMock = {
  async "a change is on the page within a second of its happening"({ page, base, fake }) {
    const opened = await page(base);
    fake.levers.process.state.upstreams[0].backends[0].reason = "a word for the test";
    Object.assign(fake.levers.process.state.upstreams[0].backends[0], { state: "unhealthy" });
    const took = await until(opened, "the new reason", () => document.getElementById("findings").textContent.includes("a word for the test"));
    assert.ok(took < 1_500, `it took ${took} ms; states are sent each 1000 ms`);
    assert.match(await opened.title(), /^✕ 3 things are broken/);
    await fine(opened);
  },
  async "what is broken is said first, worst before the rest, with its cause"({ page, base }) {
    const opened = await page(base);
    const found = await opened.locator("#findings li").allTextContents();
    assert.match(found[0], /app 10\.0\.1\.3:8080 is unhealthy.*connection refused/);
    assert.match(found[1], /api 10\.0\.2\.2:9000 is ejected.*5xx/);
    assert.ok(found.some(line => /Certificate of api\.example\.com expires in 4 days/.test(line)), "the certificate");
    assert.ok(!found.some(line => /www\.example\.com/.test(line)), "one that lasts is no finding");
    await opened.locator("#findings a", { hasText: "10.0.2.2:9000" }).click();
    assert.match(opened.url(), /#upstream-1$/);
    await fine(opened);
  },
  async "a process without a fault is said to be well"({ page, base, fake }) {
    fake.become("fine");
    const opened = await page(base);
    await opened.locator("#verdict", { hasText: "All is well" }).waitFor();
    assert.equal(await opened.locator("#findings li").count(), 0);
    assert.equal(await opened.locator("#flow .shape.unhealthy").count(), 0);
    await fine(opened);
  },
  async "a lost connection is seen, and it comes back by itself"({ page, base, fake }) {
    const opened = await page(base);
    opened.mayFail = CUT;
    fake.away(true);
    const took = await until(opened, "it is said to be lost", () => document.getElementById("line").textContent.startsWith("Connection lost"));
    assert.ok(took < 4_000, `it took ${took} ms`);
    assert.match(await opened.title(), /Connection lost/);
    fake.away(false);
    await until(opened, "it is live again", () => document.getElementById("line").textContent === "Live");
    await until(opened, "the title is the verdict again", () => document.title.startsWith("✕ 2 things"));
    await fine(opened);
  },
  async "a stream that says nothing is lost too, and a short break is not shown"({ page, base, fake }) {
    const opened = await page(base);
    opened.mayFail = CUT;
    await opened.evaluate(() => {
      window.said = [];
      new MutationObserver(() => window.said.push(document.getElementById("line").textContent))
        .observe(document.getElementById("line"), { childList: true, subtree: true });
    });
    fake.away(true);
    fake.away(false);
    await opened.waitForTimeout(3_500);
    assert.deepEqual(await opened.evaluate(() => window.said.filter(text => text !== "Live")), []);
    fake.levers.mute = true;
    await until(opened, "silence is a loss", () => document.getElementById("line").textContent.startsWith("Connection lost"));
    fake.levers.mute = false;
    await until(opened, "it is live again", () => document.getElementById("line").textContent === "Live");
    await fine(opened);
  },
  async "a new process in its place begins its numbers anew"({ page, base, fake }) {
    const opened = await page(base);
    await opened.waitForTimeout(1_500);
    fake.become("fine");
    await until(opened, "the new process", () => document.getElementById("who").textContent.includes("process 4712"));
    await until(opened, "everything is well there", () => document.getElementById("verdict").textContent === "All is well");
    const rates = await opened.locator("#tiles .value").allTextContents();
    assert.ok(rates.every(text => !text.startsWith("-")), rates.join());
    await fine(opened);
  },
  async "a refusal is shown in the process's own words, and the dialog stays"({ page, base, fake }) {
    const opened = await page(base);
    opened.mayFail = CUT;
    fake.levers.refuse = "it is stopping";
    await drain(opened);
    await opened.locator("#order [role=alert]", { hasText: "Nothing was changed: it is stopping" }).waitFor();
    assert.equal(fake.levers.orders.length, 1);
    await opened.keyboard.press("Escape");
    await fine(opened);
  },
  async "taking out the last usable backend is warned of"({ page, base }) {
    const opened = await page(base);
    await opened.getByRole("button", { name: "Change 10.0.4.1:6379 of redis" }).click();
    await opened.getByRole("radio", { name: "Take down" }).check();
    assert.match(await opened.locator("#order [data-part=warning]").textContent(), /No other backend of redis is usable/);
    await fine(opened);
  },
  async "names from an enemy are text everywhere"({ page, base, fake }) {
    fake.become("hostile");
    const opened = await page(base);
    await opened.waitForTimeout(1_500);
    assert.equal(await opened.evaluate(() => window.hacked), undefined);
    assert.equal(await opened.locator("main img, main script, dialog img, dialog script, svg script").count(), 0);
    const places = ["#findings", "#flow", "#upstream-list", "#listeners-place", "#errors-place", "#decisions-place", "#events-place", "#certificates-place", "#config-place"];
    for (const place of places) assert.ok((await opened.locator(place).textContent()).includes(EVIL), `${place} shows it as text`);
    assert.deepEqual(await opened.evaluate(audit), []);
    await opened.locator("#upstream-0 tbody button").first().click();
    assert.ok((await opened.locator("#order-title").textContent()).includes(EVIL));
    await fine(opened);
  },
  async "what a process does not say is left out, and nothing fails for it"({ page, base, fake }) {
    fake.become("bare");
    const opened = await page(base);
    await opened.waitForTimeout(2_500);
    assert.match(await opened.locator("#upstream-0").textContent(), /10\.0\.1\.2:8080resting/);
    assert.doesNotMatch(await opened.locator("main").innerText(), /NaN|undefined|null|Infinity|\[object/);
    assert.deepEqual(await opened.evaluate(audit), []);
    await fine(opened);
  },
  async "two hundred backends and fifty listeners stay quick, and can be filtered"({ page, base, fake, folder }) {
    fake.become("many");
    const opened = await page(base);
    await opened.evaluate(() => {
      window.long = [];
      new PerformanceObserver(list => window.long.push(...list.getEntries().map(entry => entry.duration))).observe({ type: "longtask" });
    });
    await opened.waitForTimeout(5_000);
    const long = await opened.evaluate(() => window.long);
    // All but one: on a busy machine, one may be late.
    assert.ok(long.filter(ms => ms > 250).length <= 1, `states blocked the page for ${long.map(Math.round)} ms`);
    console.log(`        longest block of the page with 287 backends: ${Math.round(Math.max(0, ...long))} ms (0: below 50)`);
    assert.ok(await opened.locator("#upstream-0 tbody tr").count() <= 30, "a large upstream shows its first rows");
    assert.match(await opened.locator("#upstream-0 tbody tr").first().textContent(), /unhealthy/);
    assert.ok((await opened.locator("#flow").boundingBox()).height < 1_400, "the picture fits");
    await opened.screenshot({ path: `${folder}/many.png` });
    await opened.locator("#filter").fill("10.2.7.");
    await until(opened, "one upstream is left", () => document.querySelectorAll("#upstream-list .upstream").length === 1);
    assert.equal(await opened.locator("#flow .upstream").count(), 1);
    await opened.locator("#filter").fill("");
    await opened.getByLabel("Only those not healthy").check();
    await until(opened, "seven are not healthy", () => document.getElementById("shown").textContent === "7 of 287 backends");
    await opened.locator("#flow a", { hasText: "service-1:" }).focus();
    await opened.keyboard.press("Enter");
    await opened.locator("#upstream-1 tbody").waitFor();
    assert.ok(!(await opened.getByLabel("Only those not healthy").isChecked()), "a link brings back what was left out");
    await opened.getByRole("button", { name: /^Show \d+ more/ }).click();
    await until(opened, "all listeners are drawn", () => document.querySelectorAll("#flow .listener").length === 50);
    assert.deepEqual(await opened.evaluate(audit), []);
    await fine(opened);
  },
  async "a token is asked for, sent with everything, and stands nowhere in the address"({ page, base, fake }) {
    fake.levers.token = "correct horse";
    const opened = await page(base, { ready: false });
    opened.mayFail = CUT;
    opened.wrong.length = 0;
    const field = opened.getByRole("textbox", { name: "Token" });
    await field.fill("wrong");
    await opened.keyboard.press("Enter");
    await opened.getByText("That token was refused.").waitFor();
    await field.fill("correct horse");
    await opened.getByRole("button", { name: "Go on" }).click();
    await opened.waitForSelector("#main:not([hidden])");
    await drain(opened);
    await until(opened, "it is drained", () => document.getElementById("said").textContent.includes("is drained"));
    await fine(opened);
    const linked = await page(base, { hash: "#token=correct%20horse" });
    assert.equal(linked.url(), `${base}/`);
    await fine(linked);
  },
  async "screenshots with a past, and of the dialog"({ page, base, fake, folder }) {
    for (const [name, how] of [["desktop-light", {}], ["desktop-dark", { dark: true }], ["phone", { width: 360, height: 740 }]]) {
      fake.levers.past = 130;
      const opened = await page(base, how);
      fake.levers.past = 0;
      await opened.waitForTimeout(1_500);
      await opened.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
      await change(opened).click();
      await opened.getByRole("radio", { name: "Drain", exact: true }).check();
      await opened.screenshot({ path: `${folder}/${name}-dialog.png` });
      await fine(opened);
    }
  },
};
