// The dialogs: what somebody wants of a backend, and the token where one is asked for. Nothing is sent before it was confirmed in
// a dialog that says what it does and whom it touches; what the process answers, or why it refuses, is shown as it said it.

import { attribute, el, say, sayState } from "./elements.js";
import { count, several } from "./format.js";
import { order, setToken } from "./stream.js";

const CHOICES = [
  ["drain", "Drain", "It takes nothing new; what is open goes on to its end. Sessions of a sticky cookie go on there. Checks go on."],
  ["down", "Take down", "As if it had failed: all that is new goes elsewhere, sticky sessions too, and its checks are not believed. What is open goes on to its end."],
  ["ready", "Make ready", "Takes back “drain” and “down”. With slow-start, it begins slowly. A weight stays as it is."],
  ["weight", "Change weight", "Its share against the others; 0 is the same as drain. Left empty, it is the one of the config."],
];
const WEIGHT_MAX = 65_535;

/** Takes the page's <dialog>; `find(upstream, backend)` is what is known of a backend now. */
export function orders(dialog, find, announce) {
  const part = name => dialog.querySelector(`[data-part="${name}"]`);
  let of = null;
  let sending = false;
  const chosen = () => dialog.querySelector("input[type=radio]:checked")?.value;
  const weight = part("weight");
  const radios = CHOICES.map(([value, word, says]) => choice(value, word, says, value === "weight" ? weight.parentElement : null));
  part("choices").append(...radios);

  /** What is written in it follows the backend for as long as it is open. */
  const refresh = () => {
    if (!dialog.open) return;
    const now = find(...of);
    say(part("title"), `Change ${of[1]} of ${of[0]}`);
    sayState(part("state"), now?.backend.state ?? "down", now ? now.backend.state : "gone");
    say(part("open"), now ? several(now.backend.open, "open connection") : "It is not there any more.");
    const choice = chosen();
    const word = CHOICES.find(([value]) => value === choice)?.[1];
    const valid = choice !== "weight" || (weight.value.trim() === "" ? !weight.validity.badInput : isWeight(weight.value));
    say(part("confirm"), word ? `${word}: ${of[1]}` : "Choose what to do");
    part("confirm").disabled = sending || !now || !word || !valid;
    say(part("warning"), now ? warning(now, choice, weight.value) : "");
    weight.disabled = choice !== "weight";
  };

  const send = async () => {
    const [upstream, backend] = of;
    const choice = chosen();
    const what = { upstream, backend };
    if (choice === "weight" && weight.value.trim() !== "") what.weight = Number(weight.value);
    sending = true;
    say(part("answer"), "");
    refresh();
    try {
      const said = await order(`/v1/${choice}`, what);
      const now = said?.backends?.[0];
      announce(now ? `${backend} of ${upstream} is ${now.state}, weight ${count(now.weight)}, ${several(now.open, "open connection")}.` : "Done.");
      dialog.close();
    } catch (error) {
      say(part("answer"), `Nothing was changed: ${error.message}`);
    } finally {
      sending = false;
      refresh();
    }
  };

  dialog.addEventListener("input", refresh);
  part("cancel").addEventListener("click", () => dialog.close());
  part("confirm").addEventListener("click", send);
  weight.addEventListener("keydown", event => {
    if (event.key === "Enter" && !part("confirm").disabled) send();
  });
  const open = (upstream, backend) => {
    of = [upstream, backend];
    for (const radio of dialog.querySelectorAll("input[type=radio]")) radio.checked = false;
    weight.value = find(upstream, backend)?.backend.weight ?? "";
    say(part("answer"), "");
    dialog.showModal();
    refresh();
  };
  return { open, refresh };
}

const isWeight = text => /^\d+$/.test(text.trim()) && Number(text) <= WEIGHT_MAX;

function choice(value, word, says, extra) {
  const radio = el("input", { type: "radio", name: "order", value, id: `order-${value}`, "aria-describedby": `says-${value}` });
  return el("div", { class: "choice" }, radio, el("div", {},
    el("label", { for: radio.id }, word), el("p", { id: `says-${value}` }, says), extra));
}

/** What somebody should know before they confirm. */
function warning({ upstream, backend }, choice, weight) {
  const takesOut = choice === "drain" || choice === "down" || (choice === "weight" && weight.trim() === "0");
  if (!takesOut) return "";
  const others = (upstream.backends ?? []).filter(other => other.backend !== backend.backend && other.state === "healthy");
  if (others.length === 0) return `No other backend of ${upstream.name} is usable: whoever needs it will be turned away.`;
  const open = backend.open > 0 ? `${several(backend.open, "connection")} stay until they end; ` : "";
  return `${open}${several(others.length, "other backend is", "other backends are")} usable.`;
}

/** Asks for the token; resolves when the dialog was closed, with one or without. */
export function askToken(dialog) {
  const [field, refused] = [dialog.querySelector("input"), dialog.querySelector(".answer")];
  say(refused, dialog.dataset.given ? "That token was refused." : "");
  dialog.showModal();
  const closed = done => {
    if (field.value.trim()) setToken(field.value);
    attribute(dialog, "data-given", field.value.trim() ? "yes" : null);
    field.value = "";
    done();
  };
  return new Promise(done => dialog.addEventListener("close", () => closed(done), { once: true }));
}
