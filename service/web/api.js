/**
 * The service's HTTP routes, one function each. Every failure is an ApiError whose message a person can read.
 *
 * Addresses are relative to the page, so that it also works behind a proxy that serves it under a path.
 */

import { phrase, say } from "./i18n.js";
import { readEvents } from "./events.js";
import { anotherKey, authorization, currentKey } from "./key.js";

/** What went wrong: `code` for the program, `text` (a Phrase or the service's own sentence) for the reader. */
export class ApiError extends Error {
  constructor(code, text, status = 0) {
    super(say(text));
    this.code = code;
    this.text = text;
    this.status = status;
  }
}

/** A failure that the page found itself. */
export const problem = (text) => new ApiError("page", text);

const address = (path) => new URL(path, document.baseURI);

async function call(path, init = {}) {
  const key = currentKey();
  let response;
  try {
    response = await fetch(address(path), { ...init, headers: { ...init.headers, ...authorization(key) } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable", phrase("error.unreachable"));
  }
  if (response.status === 401 && (await anotherKey(key))) return call(path, init);
  if (!response.ok) throw refused(response.status, await response.text().catch(() => ""), response.headers.get("Retry-After"));
  return response;
}

/** The service's error reply as an ApiError, whatever came back in its place. */
function refused(status, body, retryAfter = null) {
  let error;
  try {
    error = JSON.parse(body).error;
  } catch {
    // Not JSON: a proxy's page, perhaps.
  }
  if (typeof error?.message !== "string" || !error.message) {
    return new ApiError(error?.code ?? "unexpected", phrase("error.unexpected", { status }), status);
  }
  const wait = status === 429 && Number(retryAfter) > 0 ? ` ${say(phrase("error.busy", { s: Number(retryAfter) }))}` : "";
  return new ApiError(error.code ?? "unexpected", error.message + wait, status);
}

const json = (body, method = "POST") => ({
  method,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

const get = async (path, signal) => (await call(path, { signal })).json();
const named = (path, name) => `${path}/${encodeURIComponent(name)}`;

/**
 * Asks, and yields the events `sources`, `reasoning`, `token`, `citation` and `final` as they come.
 * Aborting the signal closes the connection, which frees the service's slot.
 */
export async function* ask(request, signal) {
  const response = await call("ask", { ...json({ ...request, stream: true }), signal });
  try {
    for await (const item of readEvents(response.body)) {
      if (item.event === "error") throw refused(item.data.status ?? 500, JSON.stringify(item.data));
      yield item;
      if (item.event === "final") return; // whatever the connection still does, the answer is complete
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("broken", phrase("error.broken"));
  }
  if (!signal.aborted) throw new ApiError("broken", phrase("error.broken"));
}

const list = async (path, name) => (await get(path))[name];

export const documents = (collection) => list(`documents?collection=${encodeURIComponent(collection)}`, "documents");

/** `{collections, default, embedders}`. */
export const collections = () => get("collections");
export const makeCollection = async (request) => (await call("collections", json(request))).json();
export const deleteCollection = (name) => call(named("collections", name), { method: "DELETE" });

/** `{models, adapters, upstreams, default}`. */
export const models = () => get("models");

/** Loads, unloads, attaches, detaches or switches; resolves to the models afterwards. */
export const loadModel = async (request) => (await call("models/load", json(request))).json();

export const classifiers = () => list("classifiers", "classifiers");
export const classifier = (name) => get(named("classifiers", name));
export const putClassifier = async (name, body) => (await call(named("classifiers", name), json(body, "PUT"))).json();
export const deleteClassifier = (name) => call(named("classifiers", name), { method: "DELETE" });

/** `{results, model, likelihood, weights, left_out}`. */
export const classify = async (request, signal) => (await call("classify", { ...json(request), signal })).json();

/** `{status: "ready" | "loading" | "failed", parts}`; it is no failure of this call that the service is not ready. */
export async function readiness() {
  let response;
  try {
    response = await fetch(address("readyz"));
  } catch {
    throw new ApiError("unreachable", phrase("error.unreachable"));
  }
  return response.json().catch(() => ({ status: "failed", parts: {} }));
}

const inCollection = (collection) => `?collection=${encodeURIComponent(collection)}`;

/**
 * A document's stored text as `{text, base, characters}`: `base` is the code point of the document that `text` begins
 * with. With `span`, only that span of code points and `context` code points on either side; else all of it.
 */
export async function documentText(id, collection, signal, span = null) {
  const path = `documents/${encodeURIComponent(id)}/text${inCollection(collection)}`;
  if (!span) {
    const { text, characters } = await (await call(path, { signal })).json();
    return { text, base: 0, characters };
  }
  const { start, end, context } = span;
  const reply = await (await call(`${path}&char_start=${start}&char_end=${end}&context=${context}`, { signal })).json();
  return {
    text: reply.before + reply.passage + reply.after,
    base: Math.max(0, reply.char_start - context),
    characters: reply.characters,
  };
}

/** A page of a document as an address that holds the picture itself: a key cannot be sent with an image's request. */
export async function pagePicture(id, collection, page, signal) {
  const reply = await call(`documents/${encodeURIComponent(id)}/pages/${page}.png${inCollection(collection)}`, { signal });
  return dataAddress(await reply.blob());
}

/** Saves a document's original file. */
export async function saveOriginal(id, collection, name) {
  const reply = await call(`documents/${encodeURIComponent(id)}/file${inCollection(collection)}`);
  save(await reply.blob(), name);
}

/** Saves a comparison's report. */
export async function saveReport(name) {
  save(await (await call(reportAddress(name))).blob(), `${name}.html`);
}

function dataAddress(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new ApiError("broken", phrase("error.broken"))));
    reader.readAsDataURL(blob);
  });
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** A document's passages in order. */
export const documentChunks = (id, collection) =>
  list(`documents/${encodeURIComponent(id)}/chunks${inCollection(collection)}`, "chunks");

/** `{hits}` of a search without an answer. */
export const search = async (request) => (await call("search", json(request))).json();

/** `{name, role, collections, key}`: what whoever calls may do. */
export const whoami = () => get("whoami");

/** Saves a collection as one file. */
export async function saveCollection(name) {
  save(await (await call(`${named("collections", name)}/export`)).blob(), `${name}.zip`);
}

export const sessions = () => list("sessions", "sessions");
export const session = (id) => get(named("sessions", id));
export const deleteSession = (id) => call(named("sessions", id), { method: "DELETE" });

/** Sets fields of a document; null takes one away. */
export const setFields = (id, collection, metadata) =>
  call(`documents/${encodeURIComponent(id)}${inCollection(collection)}`, json({ metadata }, "PATCH"));

export const deleteDocument = (id, collection) =>
  call(`documents/${encodeURIComponent(id)}${inCollection(collection)}`, { method: "DELETE" });

export const job = async (id, signal) => (await call(`jobs/${encodeURIComponent(id)}`, { signal })).json();

/** Sends one file and resolves to its job. `onProgress` gets the share sent, 0 to 1 (fetch cannot tell it). */
export function upload(file, collection, onProgress) {
  const key = currentKey();
  const form = new FormData();
  form.append("files", file, file.name);
  form.append("collection", collection);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address("documents"));
    for (const [name, value] of Object.entries(authorization(key))) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener("load", async () => {
      if (request.status === 401 && (await anotherKey(key))) return resolve(upload(file, collection, onProgress));
      if (request.status >= 400) return reject(refused(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      try {
        return resolve(JSON.parse(request.responseText));
      } catch {
        return reject(new ApiError("unexpected", phrase("error.unexpected", { status: request.status })));
      }
    });
    request.addEventListener("error", () => reject(new ApiError("unreachable", phrase("error.unreachable"))));
    request.send(form);
  });
}

// --- models are made and measured -----------------------------------------------------------------------------------

export const mergeAdapter = async (request) => (await call("models/merge", json(request))).json();

/** `{folder, files, next}`. */
export const exportModel = async (request) => (await call("models/export", json(request))).json();

export const datasets = () => list("datasets", "datasets");
export const deleteDataset = (name) => call(named("datasets", name), { method: "DELETE" });

/** Sends one file; resolves to what it holds. */
export async function addDataset(file) {
  const form = new FormData();
  form.append("file", file, file.name);
  return (await call("datasets", { method: "POST", body: form })).json();
}

export const runs = () => list("runs", "runs");
export const run = (name) => get(named("runs", name));
export const startRun = async (request) => (await call("runs", json(request))).json();
export const stopRun = async (name) => (await call(named("runs", name), { method: "DELETE" })).json();

/** `{events, next}`: what the run recorded past the first `after` events. */
export const runMetrics = (name, after) => get(`${named("runs", name)}/metrics?after=${after}`);

export const evaluations = () => list("evaluations", "evaluations");
export const evaluation = (name) => get(named("evaluations", name));
export const startEvaluation = async (request) => (await call("evaluations", json(request))).json();
export const stopEvaluation = async (name) => (await call(named("evaluations", name), { method: "DELETE" })).json();

/** The address of a comparison's report, for a frame. */
export const reportAddress = (name) => `${named("evaluations", name)}/report.html`;
