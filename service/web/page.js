/**
 * The frame of the page: tabs by hash routes, the switches for language and colours, and the one source panel.
 *
 * A view is a module with `create(shell)` that returns `{node, show, title}`. To add one: write the module, add it to
 * `VIEWS`, add its words to i18n.js.
 */

import * as api from "./api.js";
import * as askView from "./ask.js";
import * as classifyView from "./classify.js";
import * as compareView from "./compare.js";
import * as evaluateView from "./evaluate.js";
import * as libraryView from "./library.js";
import * as modelsView from "./models.js";
import { fill, icon, iconButton, make } from "./elements.js";
import { applyLanguage, bind, currentLanguage, phrase, say, setLanguage } from "./i18n.js";
import { SourcePanel } from "./source.js";
import * as trainView from "./train.js";

const VIEWS = {
  ask: askView,
  library: libraryView,
  compare: compareView,
  classify: classifyView,
  train: trainView,
  evaluate: evaluateView,
  models: modelsView,
};

/** The smallest role that can do what each view is for; a smaller one looks. */
const ROLES = ["reader", "editor", "admin"];
const VIEW_NEEDS = { library: "editor", classify: "editor", train: "admin", evaluate: "admin", models: "admin" };
/** Views of what belongs to no collection: not for keys that are held to some. */
const WHOLE = new Set(["train", "evaluate"]);

const main = document.getElementById("main");
const source = new SourcePanel();

/** What the views share: the collection in use, the panel, and a way to each other. */
const shell = {
  collection: "default",
  collections: [],
  models: [],
  model: null,
  mode: null,
  caller: null, // as `GET /whoami` tells it
  source,
  go: (name) => {
    location.hash = `#/${name}`;
  },

  /** Takes note of the collections there are, as `GET /collections` tells them (null: the same), and which is used. */
  shelve: (found, use = shell.collection) => {
    if (found) {
      const names = found.collections.map(({ name }) => name);
      shell.collections = names.includes(found.default) ? names : [found.default, ...names];
    }
    shell.collection = shell.collections.includes(use) || !found ? use : found.default;
    document.dispatchEvent(new Event("collectionschange"));
  },

  /** Takes note of the models there are, as `GET /models` tells them. */
  know: ({ models, adapters, default: usual }) => {
    shell.models = [
      ...models.map(({ name }) => name),
      ...adapters.filter(({ base, stale }) => base && !stale).map(({ base, name }) => `${base}+${name}`),
    ];
    shell.model = shell.models.includes(shell.model) ? shell.model : usual;
    document.dispatchEvent(new Event("modelschange"));
  },

  /** The model, and perhaps the mode, that the next question goes to. */
  choose: (model, mode = null) => {
    shell.model = model;
    shell.mode = mode;
    document.dispatchEvent(new Event("modelschange"));
  },
};

const views = {};
const tabs = {};

function build() {
  fill(
    document.getElementById("tabs"),
    Object.keys(VIEWS).map((name) => {
      tabs[name] = make("a", { href: `#/${name}` }, phrase(`tab.${name}`));
      return tabs[name];
    }),
  );
  bind(document.getElementById("tabs"), phrase("tabs"), (node, text) => node.setAttribute("aria-label", text));
  fill(document.getElementById("switches"), who, languageSwitch(), themeSwitch());
  const skip = document.getElementById("skip");
  fill(skip, phrase("skip"));
  skip.addEventListener("click", (event) => {
    event.preventDefault(); // the hash belongs to the routes
    main.focus();
  });
  document.body.append(source.node);
}

const who = make("span", { class: "who", hidden: true });
const lacking = make("p", { class: "lacking", role: "note", hidden: true });

/** Finds out whose key this is; what it may not do is hidden by its role. */
async function learnCaller() {
  try {
    shell.caller = await api.whoami();
  } catch {
    shell.caller = null; // the service will say no for itself
  }
  const { key, name, role } = shell.caller ?? {};
  if (role) document.documentElement.dataset.role = role;
  else delete document.documentElement.dataset.role;
  who.hidden = !key;
  if (!key) return;
  fill(who, phrase(`role.name.${role}`));
  bind(who, phrase("role.who", { name, role: phrase(`role.name.${role}`) }), (node, text) => (node.title = text));
}

/** Above a view that the key may only look at, or not even that: what it lacks. */
function sayLacking(view) {
  const { role, collections } = shell.caller ?? {};
  const needed = VIEW_NEEDS[view];
  const held = Boolean(collections) && WHOLE.has(view);
  lacking.hidden = !(held || (role && needed && ROLES.indexOf(role) < ROLES.indexOf(needed)));
  if (!lacking.hidden) {
    fill(lacking, held ? phrase("role.held") : phrase("role.lacking", { role: phrase(`role.name.${role}`), needed: phrase(`role.name.${needed}`) }));
  }
}

function languageSwitch() {
  const button = make("button", {
    type: "button",
    class: "text-button",
    title: phrase("language.switch"),
    on: { click: () => setLanguage(currentLanguage() === "en" ? "zh" : "en") },
  });
  bind(button, phrase("language.other"), (node, text) => {
    node.textContent = text;
    node.lang = currentLanguage() === "en" ? "zh-Hans" : "en";
  });
  return button;
}

function themeSwitch() {
  const theme = window.lorebaseTheme;
  const button = iconButton("moon", phrase("theme.dark"), () => theme.toggle());
  const dress = () => {
    const dark = theme.current() === "dark";
    const label = say(phrase(dark ? "theme.light" : "theme.dark"));
    button.setAttribute("aria-label", label);
    button.title = label;
    fill(button, icon(dark ? "sun" : "moon"));
  };
  document.addEventListener("themechange", dress);
  document.addEventListener("languagechange", dress);
  dress();
  return button;
}

function route(moved = true) {
  const name = location.hash.replace(/^#\/?/, "").split("/")[0];
  const chosen = name in VIEWS ? name : "ask";
  if (!views[chosen]) {
    views[chosen] = VIEWS[chosen].create(shell);
    main.append(views[chosen].node);
  }
  for (const [other, view] of Object.entries(views)) view.node.hidden = other !== chosen;
  for (const [other, tab] of Object.entries(tabs)) {
    if (other === chosen) {
      tab.setAttribute("aria-current", "page");
      tab.scrollIntoView({ block: "nearest", inline: "center" });
    } else tab.removeAttribute("aria-current");
  }
  sayLacking(chosen);
  source.close();
  window.scrollTo(0, 0);
  views[chosen].show(moved);
  nameDocument();
}

function nameDocument() {
  const current = Object.keys(tabs).find((name) => tabs[name].hasAttribute("aria-current"));
  if (current) document.title = `${say(phrase(`tab.${current}`))} · Lorebase`;
}

async function start() {
  build();
  applyLanguage();
  try {
    const [shelves, generators] = await Promise.all([api.collections(), api.models()]);
    shell.shelve(shelves, shelves.default);
    shell.know(generators);
  } catch {
    // The view says what is wrong as soon as it needs the service itself.
  }
  await learnCaller();
  main.replaceChildren(lacking);
  route(false);
  document.addEventListener("keychange", async () => {
    await learnCaller();
    sayLacking(location.hash.replace(/^#\/?/, "").split("/")[0]);
  });
  window.addEventListener("hashchange", () => route());
  document.addEventListener("languagechange", nameDocument);
}

start();
