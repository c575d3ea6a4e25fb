/**
 * Making elements. Strings become text nodes and attributes, never markup: a document cannot smuggle an element in.
 *
 * The single exception is `sanitised`, for `answer_html`, which the service has already put through its sanitiser.
 */

import { Phrase, bind } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children. `on` holds listeners; a Phrase follows the language; null, false and
 * undefined are left out.
 */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (value instanceof Phrase) bind(node, value, (n, text) => n.setAttribute(name, text));
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter(present).map(asNode));
  return node;
}

const present = (child) => child !== null && child !== undefined && child !== false;

function asNode(child) {
  if (child instanceof Node) return child;
  const text = document.createTextNode("");
  bind(text, child, (node, value) => {
    node.data = value;
  });
  return text;
}

/** Replaces what an element holds. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter(present).map(asNode));
  return node;
}

/** A picture from icons.svg; it says nothing to a screen reader, its button does. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `web/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows only an icon: the label is its name and its tooltip. */
export function iconButton(name, label, onClick, attributes = {}) {
  return make(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: onClick }, ...attributes },
    icon(name),
  );
}

/** The children of HTML that the service sanitised. Nothing in it may load or run by itself: that is stripped again. */
export function sanitised(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const node of template.content.querySelectorAll("script,style,link,meta,base,iframe,object,embed,img,svg,form,input,video,audio")) {
    node.remove();
  }
  for (const link of template.content.querySelectorAll("a[href]")) {
    link.setAttribute("rel", "noopener noreferrer");
    if (!link.getAttribute("href").startsWith("#")) link.setAttribute("target", "_blank");
  }
  return template.content;
}

/** Marks what only a key with that role, or a greater one, may use: the page shows it to nobody else (page.css). */
export function needs(role, node) {
  node.dataset.needs = role;
  return node;
}

/** Announces a sentence to screen readers without moving the focus. */
export function announce(text) {
  let region = document.getElementById("announcements");
  if (!region) {
    region = make("p", { id: "announcements", class: "unseen", role: "status" });
    document.body.append(region);
  }
  fill(region, text);
}
