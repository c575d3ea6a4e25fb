/**
 * The one place that knows which language is spoken; the words are in words/.
 *
 * A `phrase("key", values)` is handed around instead of a string; `bind` writes it into the page and writes it again
 * when the reader changes the language, so that no view has to be drawn anew. Both tables have the same keys (tested).
 */

import { en } from "./words/en.js";
import { zh } from "./words/zh.js";

export const words = { en, zh };

const KEY = "lorebase.language";

function remembered() {
  try {
    const stored = localStorage.getItem(KEY);
    if (stored in words) return stored;
  } catch {
    // Storage is forbidden here: the browser's language rules.
  }
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

let language = remembered();

/** The reader's own kind of the language (en-GB, zh-TW), for numbers and dates. */
const locale = () => navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? language;

/** Words written into the page: weak, so that what leaves the page is forgotten. */
const bound = new Set();

/** A thing to say, not yet in any language. */
export class Phrase {
  constructor(key, values) {
    this.key = key;
    this.values = values;
  }
}

export const phrase = (key, values = {}) => new Phrase(key, values);

/** The phrase in the language of now; a plain string stays what it is. */
export function say(text) {
  if (!(text instanceof Phrase)) return String(text);
  const entry = words[language][text.key];
  if (entry === undefined) throw new Error(`no words for ${text.key}`);
  return typeof entry === "function" ? entry(text.values) : entry;
}

say.number = (n) => new Intl.NumberFormat(locale()).format(n);
say.percent = (share) => new Intl.NumberFormat(locale(), { style: "percent" }).format(share);
say.seconds = (ms) =>
  `${new Intl.NumberFormat(locale(), { maximumFractionDigits: ms < 1000 ? 2 : 1 }).format(ms / 1000)} ${language === "zh" ? "秒" : "s"}`;
say.megabytes = (bytes) =>
  new Intl.NumberFormat(locale(), { style: "unit", unit: "megabyte", maximumFractionDigits: bytes < 1e7 ? 1 : 0 }).format(bytes / 1e6);
say.score = (value) => new Intl.NumberFormat(locale(), { maximumFractionDigits: 3 }).format(value);
say.date = (iso) => {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : new Intl.DateTimeFormat(locale(), { dateStyle: "medium" }).format(date);
};

/** Whether there are words for this key (for codes that come from the service). */
export const known = (key) => key in words.en;

/** Calls `write(node, string)` now and at every change of language, for as long as the node lives. */
export function bind(node, text, write) {
  write(node, say(text));
  if (text instanceof Phrase) bound.add({ node: new WeakRef(node), text, write });
}

export const currentLanguage = () => language;

/** Changes the language and says everything on the page again. */
export function setLanguage(next) {
  language = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // The choice lasts as long as the page.
  }
  applyLanguage();
}

/** Tells the document its language and rewrites what is bound. */
export function applyLanguage() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const entry of bound) {
    const node = entry.node.deref();
    if (node) entry.write(node, say(entry.text));
    else bound.delete(entry);
  }
  document.dispatchEvent(new Event("languagechange"));
}
