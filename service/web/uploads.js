/**
 * Files on their way into the library: sent one by one, then followed as jobs until each is in or has failed.
 *
 * One file is one request and one job, so that a file that fails takes no other with it and shows its own reason.
 */

import * as api from "./api.js";
import { announce, fill, icon, make } from "./elements.js";
import { phrase } from "./i18n.js";

const POLL_MS = 400;
const ENDED = new Set(["done", "failed", "cancelled"]);

export class Uploads {
  #queue = [];
  #active = false;
  #counts = { n: 0, failed: 0 };

  /** `collection()` names the target, `changed()` is called whenever something new is in the library. */
  constructor(collection, changed) {
    this.collection = collection;
    this.changed = changed;
    this.rows = make("ul", { class: "uploads" });
    this.dismiss = make(
      "button",
      { type: "button", class: "text-button", hidden: true, on: { click: () => this.#dismiss() } },
      phrase("upload.dismiss"),
    );
    this.input = make("input", {
      type: "file",
      multiple: true,
      id: "files",
      class: "unseen",
      on: {
        change: () => {
          this.add(this.input.files);
          this.input.value = "";
        },
      },
    });
    this.zone = make(
      "div",
      { class: "drop" },
      icon("upload"),
      make("p", { class: "drop-title" }, phrase("upload.drop")),
      make("p", {}, phrase("upload.or"), " ", make("label", { for: "files", class: "drop-choose" }, phrase("upload.choose"))),
      this.input,
    );
    this.#listen();
    this.node = make(
      "section",
      { class: "upload", "aria-label": phrase("upload.title") },
      this.zone,
      this.rows,
      make("div", { class: "upload-end" }, this.dismiss),
    );
  }

  /** Queues files (a FileList). */
  add(files) {
    for (const file of files) {
      const row = new UploadRow(file, this.collection()); // where it was dropped, whatever is shown when its turn comes
      this.rows.append(row.node);
      this.#queue.push(row);
    }
    this.#work();
  }

  #listen() {
    // The whole page takes a drop while the library is shown; the zone only says so.
    let depth = 0;
    const shown = () => this.node.isConnected && this.node.offsetParent !== null;
    const hasFiles = (event) => shown() && Array.from(event.dataTransfer?.types ?? []).includes("Files");
    const over = (entered) => {
      depth = Math.max(0, depth + entered);
      this.zone.classList.toggle("over", depth > 0);
    };
    document.addEventListener("dragenter", (event) => hasFiles(event) && over(1));
    document.addEventListener("dragleave", (event) => hasFiles(event) && over(-1));
    document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      over(-depth);
      this.add(event.dataTransfer.files);
    });
  }

  async #work() {
    if (this.#active) return;
    this.#active = true;
    this.dismiss.hidden = true;
    while (this.#queue.length) {
      const ended = await this.#send(this.#queue.shift());
      this.#counts.n += ended ? 1 : 0;
      this.#counts.failed += ended ? 0 : 1;
      if (ended) this.changed();
    }
    this.#active = false;
    this.dismiss.hidden = false;
    announce(phrase("upload.finished", this.#counts));
    this.#counts = { n: 0, failed: 0 };
  }

  /** Whether the file is in the library at the end. */
  async #send(row) {
    try {
      row.progress(0);
      let job = await api.upload(row.file, row.collection, (share) => row.progress(share));
      while (!ENDED.has(job.status)) {
        row.say(job.status === "queued" ? "upload.queued" : "upload.running");
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        job = await api.job(job.id);
      }
      return row.end(job);
    } catch (error) {
      row.fail(error.text ?? phrase("error.page"));
      if (!(error instanceof api.ApiError)) throw error;
      return false;
    }
  }

  #dismiss() {
    this.rows.replaceChildren();
    this.dismiss.hidden = true;
    this.input.focus();
  }
}

class UploadRow {
  constructor(file, collection) {
    this.file = file;
    this.collection = collection;
    this.state = make("span", { class: "upload-state" }, phrase("upload.queued"));
    this.bar = make("progress", { class: "upload-bar", max: "1", value: "0", "aria-label": file.name });
    this.reason = make("p", { class: "upload-reason", hidden: true });
    this.node = make(
      "li",
      { class: "upload-row" },
      make("span", { class: "upload-name" }, file.name),
      this.state,
      this.bar,
      this.reason,
    );
  }

  progress(share) {
    this.bar.value = share;
    fill(this.state, phrase("upload.sending", { share }));
  }

  say(key) {
    this.bar.removeAttribute("value"); // how long the reading takes is not known
    fill(this.state, phrase(key));
  }

  end(job) {
    const file = job.files[0];
    if (!file || file.status === "failed") {
      this.fail(file?.reason || job.error?.message);
      return false;
    }
    this.bar.hidden = true;
    this.node.classList.add("good");
    fill(this.state, icon("tick"), phrase(`upload.${file.status}`));
    this.#because(file.reason); // what could not be read of it
    return true;
  }

  fail(reason) {
    this.bar.hidden = true;
    this.node.classList.add("bad");
    fill(this.state, icon("warn"), phrase("upload.failed"));
    this.#because(reason);
  }

  #because(reason) {
    this.reason.hidden = !reason;
    if (reason) fill(this.reason, reason);
  }
}
