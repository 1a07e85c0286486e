// Numbers and times as people read them. Nothing here may throw for what is missing: it says "–".

const GROUPED = new Intl.NumberFormat("en");
const NONE = "–";
const is = value => typeof value === "number" && Number.isFinite(value);

/** 0, 7, 12.3k, 4.5M. */
export function count(value) {
  if (!is(value)) return NONE;
  if (value < 10_000) return GROUPED.format(Math.round(value));
  const [size, unit] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([size]) => value >= size);
  return `${short(value / size)}${unit}`;
}

/** Per second: one digit behind the point while it is small. */
export function rate(value) {
  if (!is(value)) return NONE;
  return value > 0 && value < 10 ? (value < 0.05 ? "<0.1" : value.toFixed(1)) : count(value);
}

/** 512 B, 1.5 MB, by thousands. */
export function bytes(value) {
  if (!is(value)) return NONE;
  const found = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([size]) => value >= size);
  return found ? `${short(value / found[0])} ${found[1]}` : `${Math.round(value)} B`;
}

const short = value => (value < 99.95 ? value.toFixed(1) : Math.round(value));

/** 0.3 ms, 12 ms, 1.5 s. */
export function ms(value) {
  if (!is(value)) return NONE;
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** 0.31 as 31 %. */
export const percent = value => (is(value) ? `${Math.round(value * 100)} %` : NONE);

/** How long: 12 s, 5 min, 3 h 20 min, 12 d 4 h. */
export function duration(value) {
  if (!is(value)) return NONE;
  const seconds = Math.max(0, Math.round(value / 1000));
  if (seconds < 100) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The time of day of a unix time; the date too when it is not today. */
export function clock(at, now) {
  if (!is(at)) return NONE;
  const [time, today] = [new Date(at), new Date(now)];
  if (Number.isNaN(time.getTime())) return NONE;
  const two = number => String(number).padStart(2, "0");
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} `;
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  return time.toDateString() === today.toDateString() ? clock : day + clock;
}

/** A date. */
export function date(at) {
  const time = new Date(at);
  return is(at) && !Number.isNaN(time.getTime()) ? time.toISOString().slice(0, 10) : NONE;
}

/** `1 backend`, `3 backends`. */
export const several = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
