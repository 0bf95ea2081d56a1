// Functions that several parts of the page use.

export const $ = (id) => document.getElementById(id);

// Creates an element with properties and children. Texts are never interpreted as HTML.
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Makes `items` the children of `parent`. Unchanged children stay, with their focus.
export function keyed(parent, items, keyOf, make) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const key = String(keyOf(item));
    const content = JSON.stringify(item);
    const before = old.get(key);
    if (before && before.dataset.content === content) return before;
    const element = make(item);
    element.dataset.key = key;
    element.dataset.content = content;
    return element;
  });
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((element, index) => {
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] || null);
  });
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const finest = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

// Formats a number with its significant digits; a dash if it is unknown.
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) || value >= 100) return whole.format(value);
  return (value >= 10 ? fine : finest).format(value);
}

export function time(text) {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  const clock = at.toLocaleTimeString("en-GB");
  return today ? clock : `${at.toLocaleDateString("en-CA")} ${clock}`;
}

export function timeElement(text) {
  return el("time", { dateTime: text, title: text, textContent: time(text) });
}

export const chip = (state) =>
  el("span", { className: `chip ${state}`, textContent: state.replace("_", " ") });
