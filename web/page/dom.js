// Small DOM helpers. Setting an unchanged value costs nothing, so callers may set
// everything each second.

const svgNames = new Set(['svg', 'path', 'circle', 'g', 'rect', 'line']);

// h creates an element. It leaves out attributes that are null or false. `class`, `dataset`
// and listeners (`onclick`) keep their names.
export function h(tag, attributes, ...children) {
  const node = svgNames.has(tag)
    ? document.createElementNS('http://www.w3.org/2000/svg', tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const texts = new WeakMap();

// setText sets the text of an element that contains only text.
export function setText(node, text) {
  if (texts.get(node) === text) return;
  texts.set(node, text);
  node.textContent = text;
}

const attributes = new WeakMap();

// setAttribute sets an attribute, or removes it if the value is null.
export function setAttribute(node, name, value) {
  let known = attributes.get(node);
  if (!known) attributes.set(node, known = {});
  if (known[name] === value) return;
  known[name] = value;
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? '' : value);
}

// setStyle sets a style property or a custom property.
export function setStyle(node, name, value) {
  const key = `style ${name}`;
  let known = attributes.get(node);
  if (!known) attributes.set(node, known = {});
  if (known[key] === value) return;
  known[key] = value;
  node.style.setProperty(name, value);
}

const still = matchMedia('(prefers-reduced-motion: reduce)');

// setPart fills a part of a bar, 0 to 1. It animates only large changes, which saves CPU
// time and draws the eye to traffic that moves.
export function setPart(node, part) {
  const before = parts.get(node);
  if (before === part) return;
  parts.set(node, part);
  node.style.transform = filledTo(part);
  if (before === undefined || Math.abs(before - part) < 0.03 || still.matches) return;
  node.animate([{ transform: filledTo(before) }, {}], glide);
}

// Move the bar instead of stretching it, which keeps its hatching.
const filledTo = (part) => `translateX(${((part - 1) * 100).toFixed(2)}%)`;
const parts = new WeakMap();
const glide = { duration: 800, easing: 'cubic-bezier(0.3, 0, 0.2, 1)' };

// rearrange changes the layout of elements in a row and animates them to their new places.
// Their first child stretches, the others move.
export function rearrange(nodes, change) {
  if (still.matches) {
    change();
    return;
  }
  const before = nodes.map((node) => node.getBoundingClientRect());
  change();
  const after = nodes.map((node) => node.getBoundingClientRect());
  nodes.forEach((node, i) => {
    const [from, to] = [before[i], after[i]];
    if (!to.width || from.left === to.left && from.width === to.width) return;
    const moved = `translateX(${from.left - to.left}px)`;
    for (const child of node.children) {
      child.animate([{ transform: child === node.firstChild ? `${moved} scaleX(${from.width / to.width})` : moved }, {}], glide);
    }
  });
}

// show shows or hides an element.
export function show(node, visible) { setAttribute(node, 'hidden', visible ? null : true); }

// Keyed keeps one part for each item of a list, in list order. make returns a part: an
// object with a `node` and an `update(item)`.
export class Keyed {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.parts = new Map();
  }

  update(items, keyOf) {
    const gone = new Set(this.parts.keys());
    let at = this.parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      gone.delete(key);
      let part = this.parts.get(key);
      if (!part) this.parts.set(key, part = this.make(item));
      if (part.node === at) at = at.nextElementSibling;
      else this.parent.insertBefore(part.node, at);
      part.update(item);
    }
    for (const key of gone) {
      const part = this.parts.get(key);
      this.parts.delete(key);
      part.remove?.();
      part.node.remove();
    }
  }

  * [Symbol.iterator]() { yield* this.parts.values(); }
}
