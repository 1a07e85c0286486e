// Why connections and requests end, and whose doing that is: the closed list of docs/why-did-it-end.md, with the sides it has
// there. A reason that is not in it is shown all the same, without a side.

const SIDES = {
  client: "client-finished client-reset denied proxy-header bad-packet tls-failed misdirected bad-request no-file no-route " +
    "client-gone unauthorized",
  backend: "backend-finished backend-reset connect-refused connect-timeout connect-unreachable backend-tls no-backend answered " +
    "bad-response backend-gone",
  limit: "limit-process limit-memory limit-listener limit-client limit-client-rate queue-full limit-rate limit-route limit-body " +
    "limit-frames",
  timeout: "queue-timeout head-timeout response-timeout file-late request-timeout idle-timeout max-duration",
  us: "replied drain-cut closed-by-operator out-of-resources file-broken internal-error",
};

const SIDE = new Map(Object.entries(SIDES).flatMap(([side, all]) => all.split(" ").map(why => [why, side])));
/** How connections and requests should end. */
const NORMAL = new Set(["client-finished", "backend-finished", "answered", "replied"]);
/** Times that end what nobody used: no fault. */
const QUIET = new Set(["idle-timeout", "max-duration", "head-timeout"]);

export const REASONS = [...SIDE.keys()];
export const side = why => SIDE.get(why) ?? "";
export const isNormal = why => NORMAL.has(why);
/** Whether somebody was let down, and it was not the client's own doing. */
export const isFailure = why => !isNormal(why) && !QUIET.has(why) && side(why) !== "client";
