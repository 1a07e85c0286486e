// Percentiles of a stretch of time, out of histograms that only grow. A histogram is a list of `[edge in ms, count up to it]`,
// the last edge "inf"; nothing is made up where nothing was measured: it is null.

/** What was counted in `later` and not yet in `earlier`. */
export function grown(earlier, later) {
  if (!later?.buckets?.length) return null;
  const before = new Map(earlier?.buckets ?? []);
  return later.buckets.map(([edge, count]) => [edge, Math.max(0, count - (before.get(edge) ?? 0))]);
}

/** Several as one. */
export function merged(all) {
  const sum = new Map();
  for (const buckets of all) for (const [edge, count] of buckets ?? []) sum.set(edge, (sum.get(edge) ?? 0) + count);
  const number = edge => (edge === "inf" ? Infinity : edge);
  return [...sum].sort((a, b) => number(a[0]) - number(b[0]));
}

/** The value that the part `q` lies below, in ms; in the last bucket its lower edge. */
export function percentile(buckets, q) {
  const total = buckets?.at(-1)?.[1] ?? 0;
  if (total === 0) return null;
  const wanted = q * total;
  let [low, below] = [0, 0];
  for (const [edge, count] of buckets) {
    if (count >= wanted && count > below) {
      return edge === "inf" ? low : low + ((edge - low) * (wanted - below)) / (count - below);
    }
    [low, below] = [edge === "inf" ? low : edge, count];
  }
  return low;
}
