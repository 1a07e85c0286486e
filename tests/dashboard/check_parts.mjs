// The sums behind the page, called in the page itself: percentiles, rates, the cutting of a stream into events. Each answer was
// worked out by hand.

import { strict as assert } from "node:assert";
import { readFile } from "node:fs/promises";

const once = async (page, base, sum) => {
  const opened = await page(base);
  const found = await opened.evaluate(sum);
  await opened.context().close();
  return found;
};

export const ofParts = {
  async "every reason of the docs has the side there is"({ page, base }) {
    const docs = await readFile(new URL("../../docs/why-did-it-end.md", import.meta.url), "utf8");
    const told = Object.fromEntries([...docs.matchAll(/^### `([a-z-]+)` \(([a-z]+)\)$/gm)].map(([, why, side]) => [why, side]));
    assert.ok(Object.keys(told).length > 40, "the docs name the reasons");
    const found = await once(page, base, async () => {
      const { REASONS, side } = await import(new URL("reasons.js", location));
      return Object.fromEntries(REASONS.map(why => [why, side(why)]));
    });
    assert.deepEqual(found, told);
  },
  async "percentiles of a stretch of time come out of histograms that only grow"({ page, base }) {
    const found = await once(page, base, async () => {
      const { grown, merged, percentile } = await import(new URL("latency.js", location));
      const [before, after] = [{ buckets: [[1, 10], [2, 10], [4, 10], ["inf", 10]] }, { buckets: [[1, 10], [2, 60], [4, 110], ["inf", 110]] }];
      const now = grown(before, after);
      return {
        now, half: percentile(now, 0.5), most: percentile(now, 0.75), none: percentile(grown(after, after), 0.5), unknown: percentile(grown(null, {}), 0.5),
        beyond: percentile([[1, 0], [2, 1], ["inf", 100]], 0.99), both: merged([[[1, 1], ["inf", 2]], [[1, 3], [5, 4], ["inf", 4]]]),
      };
    });
    assert.deepEqual(found, {
      now: [[1, 0], [2, 50], [4, 100], ["inf", 100]], half: 2, most: 3, none: null, unknown: null, beyond: 2, both: [[1, 4], [5, 4], ["inf", 6]],
    });
  },
  async "rates are those of the last seconds, and a new process or a new backend begins anew"({ page, base }) {
    const found = await once(page, base, async () => {
      const { History, WHOLE } = await import(new URL("history.js", location));
      const seen = new History();
      const rate = () => seen.rate(WHOLE, of => of.accepted);
      const take = (uptime_ms, accepted, more = {}) => seen.take({ pid: 1, uptime_ms, accepted, ...more });
      const said = [take(1_000, 100), rate(), take(2_000, 110), rate(), take(2_000, 110)];
      for (let n = 3; n < 100; n++) take(n * 1_000, 110 + (n - 2) * 50);
      said.push(rate(), seen.minute(WHOLE, of => of.accepted), seen.recent.length, seen.steps.length, seen.lines.accepted.length);
      const upstreams = [{ name: "u", backends: [{ backend: "b", connections: 1_000 }] }];
      take(100_000, 5_010, { upstreams });
      said.push(seen.rate("b u b", of => of.connections));
      take(101_000, 5_060, { upstreams: [{ name: "u", backends: [{ backend: "b", connections: 1_020 }] }] });
      said.push(seen.rate("b u b", of => of.connections), take(500, 3), rate(), seen.lines.accepted.length);
      for (let n = 1; n < 1_000; n++) take(500 + n * 1_000, n);
      return [...said, seen.lines.accepted.length];
    });
    // Readings are kept at 1, 11, ... 91 s; of those not older than 65 s at 99 s, the first is of 41 s: 58 s of 50 each.
    assert.deepEqual(found, [true, null, true, 10, false, 50, 2_900, 6, 6, 99, null, 20, true, null, 1, 300]);
  },
  async "a stream is cut into events wherever its pieces end"({ page, base }) {
    const found = await once(page, base, async () => {
      const { Events } = await import(new URL("stream.js", location));
      const text = ": hello\n\nevent: state\ndata: {\"a\":\ndata: 1}\n\nevent: other\ndata: {}\n\nevent: state\r\ndata: {\"b\":\"x: y\"}\r\n\r\nevent: state\ndata: {\"c\":3}";
      const all = [];
      for (let size = 1; size <= text.length; size++) {
        const heard = [];
        const events = new Events(state => heard.push(state));
        for (let at = 0; at < text.length; at += size) events.take(text.slice(at, at + size));
        all.push(JSON.stringify(heard));
      }
      return [...new Set(all)];
    });
    assert.deepEqual(found, ['[{"a":1},{"b":"x: y"}]']);
  },
};
