// Makes elements and changes them in place. What the server says goes in as text and as attributes, never as markup: names and
// reasons come from the network. Elements are kept from second to second, so that focus, selection and readers stay where they are.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, and children that are elements or text. `on` has its listeners. */
export function el(tag, given = {}, ...children) {
  return filled(document.createElement(tag), given, children);
}

/** The same for SVG. */
export function svg(tag, given = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), given, children);
}

function filled(element, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (name === "on") {
      for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
    } else {
      attribute(element, name, value);
    }
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) element.append(child);
  return element;
}

/** Sets an attribute if it has another value; false and null remove it. */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Sets the text of an element if it is another one. */
export function say(element, text) {
  const said = String(text);
  if (element.textContent !== said) element.textContent = said;
}

const kept = new WeakMap();

/** Makes the children of `parent` those of `items`, in their order: new ones are made, known ones updated, others removed. */
export function keyed(parent, items, keyOf, make, update) {
  const before = kept.get(parent) ?? new Map();
  const after = new Map();
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (after.has(key)) continue;
    const element = before.get(key) ?? make(item);
    before.delete(key);
    after.set(key, element);
    update?.(element, item);
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  for (const element of before.values()) element.remove();
  kept.set(parent, after);
}

/** A row of a table: each column is `{ head, put(cell, item), row, number, wide, size }`; `row` makes it the row's heading,
 * `wide` leaves it out on a phone, `size` is a class. */
function row(columns) {
  const cells = columns.map(column => el(column.row ? "th" : "td", { scope: column.row && "row", class: kind(column) }));
  const element = el("tr", {}, cells);
  return { element, fill: item => columns.forEach((column, at) => column.put(cells[at], item)) };
}

const kind = column => [column.number && "number", column.wide && "wide", column.size].filter(Boolean).join(" ") || null;

/** A table with caption and headings; its method `show(items)` fills it. */
export function table(caption, columns, keyOf) {
  const body = el("tbody");
  const heads = columns.map(column => el("th", { scope: "col", class: kind(column) }, column.head));
  const element = el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), body);
  const fills = new WeakMap();
  const make = () => {
    const made = row(columns);
    fills.set(made.element, made.fill);
    return made.element;
  };
  return { element, body, show: items => keyed(body, items, keyOf, make, (line, item) => fills.get(line)(item)) };
}

/** A place that scrolls sideways, and can be scrolled by keys too. */
export function scrolling(name, element) {
  return el("div", { class: "scrolling", role: "region", "aria-label": name, tabindex: "0" }, element);
}

// Shapes of 12 by 12 units: whoever does not see colours sees these.
const SHAPES = {
  healthy: "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z",
  unhealthy: "M2.6.8 6 4.2 9.4.8l1.8 1.8L7.8 6l3.4 3.4-1.8 1.8L6 7.8l-3.4 3.4L.8 9.4 4.2 6 .8 2.6z",
  ejected: "M6 .6 11.6 11H.4z",
  drained: "M2 1h3v10H2zM7 1h3v10H7z",
  down: "M1 1h10v10H1zM3.4 3.4v5.2h5.2V3.4z",
};

/** The state's class and shape; one that this page does not know looks like `down`. */
export const known = state => (Object.hasOwn(SHAPES, state) ? state : "down");

/** The path of a state's shape. */
export function shapePath(state) {
  return svg("path", { d: SHAPES[known(state)], "fill-rule": "evenodd", class: `shape ${known(state)}` });
}

/** A shape to stand in a line of text; the word beside it says the same. */
export function shape(state) {
  return svg("svg", { class: "icon", viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, shapePath(state));
}

/** Makes what is in `cell` a shape and a word. */
export function sayState(cell, state, word = state) {
  if (cell.dataset.state === state && cell.dataset.word === word) return;
  cell.dataset.state = state;
  cell.dataset.word = word;
  cell.replaceChildren(shape(state), el("span", { class: `word ${known(state)}` }, word));
}
