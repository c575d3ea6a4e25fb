/**
 * Every word of the page, in English and Chinese, and the one place that knows which language is spoken.
 *
 * A `phrase("key", values)` is handed around instead of a string; `bind` writes it into the page and writes it again
 * when the reader changes the language, so that no view has to be drawn anew. Both tables have the same keys (tested).
 */

const plural = (n, one, many) => (n === 1 ? one : many);

export const words = {
  en: {
    "language.other": "中文",
    "language.switch": "用中文显示",
    "theme.dark": "Switch to dark",
    "theme.light": "Switch to light",
    "tab.ask": "Ask",
    "tab.library": "Library",
    "tabs": "Views",
    "skip": "Skip to the content",
    "close": "Close",
    "cancel": "Cancel",
    "page": ({ n }) => `page ${n}`,
    "pages": ({ a, b }) => `pages ${a}–${b}`,

    "ask.title": "What do you want to know?",
    "ask.lead": ({ n }) =>
      `The answer comes from your ${n === 1 ? "document" : `${say.number(n)} documents`}, with every source one click away.`,
    "ask.empty.title": "First, something to read",
    "ask.empty.lead": "Add a few documents, then ask about them. They stay on this machine.",
    "ask.empty.action": "Add documents",
    "ask.recent": "In your library",
    "ask.question": "Question",
    "ask.placeholder": "Ask your documents…",
    "ask.send": "Ask",
    "ask.stop": "Stop",
    "ask.options": "Options",
    "ask.k": "Passages to read",
    "ask.k.usual": "usual",
    "ask.mode": "Answer with",
    "ask.mode.rag": "the words of the model, cited",
    "ask.mode.quote": "quotations only",
    "ask.mode.closed_book": "the model alone, no documents",
    "ask.collection": "Collection",
    "ask.model": "Model",
    "ask.thread": "Questions and answers",
    "ask.clear": "Clear these questions",
    "ask.again": "Ask again",
    "ask.copy": "Copy the answer",
    "ask.copied": "Copied",

    "state.loading": "Waiting until the models are loaded",
    "state.searching": "Searching your documents",
    "state.reading": ({ n }) => `Reading ${say.number(n)} ${plural(n, "passage", "passages")}`,
    "state.waiting": "Waiting for the model",
    "state.thinking": "Thinking",
    "state.writing": "Writing",
    "state.sourced": ({ n }) => `Answered from ${say.number(n)} ${plural(n, "source", "sources")}`,
    "state.unsourced": "Answered without a source: check it elsewhere",
    "state.quoted": ({ n }) => `Quoted from ${say.number(n)} ${plural(n, "source", "sources")}, not written by the model`,
    "state.refused": "Your documents do not seem to answer this",
    "state.stopped": "Stopped",
    "state.failed": "No answer",
    "refused.near": "The nearest passages",
    "refused.near.none": "No passage comes near. Other words may help, or a document that covers it.",
    "refusal.nothing_ingested": "This collection has no documents yet. Add some in the library, then ask again.",
    "refusal.nothing_found": "No passage has any of these words or anything like them.",
    "refusal.nothing_relevant": "No passage is close enough to the question to answer from it.",
    "refusal.not_in_passages": "The passages that were found do not tell.",
    "unsupported.flag": "No passage supports this sentence.",
    "unsupported.legend": "No passage that was read supports the sentence before this mark.",
    "reasoning": "The reasoning of the model",
    "ready.loading": "Loading the models; the first question can be asked in a moment.",
    "ready.failed": "The service could not load its models. Its log says why.",
    "answer.empty": "The model ended without a word.",

    "citation.open": ({ n, title }) => `Source ${n}: ${title}`,
    "citation.marker": ({ n }) => `Open source ${n}`,
    "citation.heading": "Sources",
    "citation.also": ({ n }) => `${say.number(n)} more ${plural(n, "passage", "passages")} read`,
    "citation.reading": "Being read",
    "citation.support": ({ share }) => `${say.percent(share)} supported`,
    "meta.first": ({ ms }) => `first word ${say.seconds(ms)}`,
    "meta.total": ({ ms }) => `${say.seconds(ms)} in all`,
    "meta.confidence": ({ share }) => `confidence ${say.percent(share)}`,
    "meta.dropped": ({ n }) => `${say.number(n)} ${plural(n, "passage", "passages")} did not fit`,

    "source.loading": "Opening the document…",
    "source.text": "Text of the document",
    "source.before": "Earlier text is hidden",
    "source.after": "Later text is hidden",
    "source.all": "Show the whole document",
    "source.previous": "Previous source",
    "source.next": "Next source",
    "source.of": ({ i, n }) => `${i} of ${n}`,
    "source.moved": "The document has changed since this answer: the passage is no longer where it was.",
    "source.found": "The cited passage is highlighted.",

    "library.title": "Library",
    "library.count": ({ documents, chunks }) =>
      `${say.number(documents)} ${plural(documents, "document", "documents")}, ${say.number(chunks)} ${plural(chunks, "passage", "passages")}`,
    "library.loading": "Reading the library…",
    "library.empty.title": "Nothing here yet",
    "library.empty.lead": "Drop PDF, Word, HTML, Markdown or text files above. Each is read once, then you can ask about it.",
    "library.filter": "Find by title or path",
    "library.filter.none": "No document has these words in its title or path.",
    "library.document": "Document",
    "library.pages": "Pages",
    "library.chunks": "Passages",
    "library.added": "Added",
    "library.date": ({ iso }) => say.date(iso),
    "library.warnings": ({ n }) => `${say.number(n)} ${plural(n, "warning", "warnings")}`,
    "library.delete": ({ title }) => `Delete ${title}`,
    "library.delete.title": "Delete this document?",
    "library.delete.lead": ({ title }) =>
      `'${title}' leaves the library at once and no answer will use it again. A file in your own folders is not touched.`,
    "library.delete.action": "Delete",
    "library.deleted": ({ title }) => `'${title}' was deleted.`,

    "upload.title": "Add documents",
    "upload.drop": "Drop files here",
    "upload.or": "or",
    "upload.choose": "choose files",
    "upload.sending": ({ share }) => `Sending, ${say.percent(share)}`,
    "upload.queued": "Waiting for its turn",
    "upload.running": "Reading and indexing",
    "upload.added": "Added",
    "upload.updated": "Updated",
    "upload.unchanged": "Already in the library, unchanged",
    "upload.failed": "Not added",
    "upload.dismiss": "Clear this list",
    "upload.finished": ({ n, failed }) =>
      `${say.number(n)} ${plural(n, "file", "files")} in the library` + (failed ? `, ${say.number(failed)} not added` : ""),

    "error.unreachable": "The service does not answer. Is it still running? Start it with 'python -m service', then try again.",
    "error.broken": "The connection broke before the answer was complete. Try again.",
    "error.unexpected": ({ status }) => `The service answered with an error (${status}).`,
    "error.busy": ({ s }) => `Try again in ${s} s.`,
    "key.title": "This service asks for a key",
    "key.lead": "Whoever runs the service has it. It is kept until this tab is closed.",
    "key.label": "Key",
    "key.send": "Continue",
    "key.wrong": "That is not the key.",

    "error.page": "Something in this page went wrong. Reload it, please.",
  },

  zh: {
    "language.other": "English",
    "language.switch": "Show in English",
    "theme.dark": "切换到深色",
    "theme.light": "切换到浅色",
    "tab.ask": "提问",
    "tab.library": "资料库",
    "tabs": "视图",
    "skip": "跳到正文",
    "close": "关闭",
    "cancel": "取消",
    "page": ({ n }) => `第 ${n} 页`,
    "pages": ({ a, b }) => `第 ${a}–${b} 页`,

    "ask.title": "想了解什么？",
    "ask.lead": ({ n }) => `答案来自你的 ${say.number(n)} 份资料，每个出处一点即到。`,
    "ask.empty.title": "先放几份资料进来",
    "ask.empty.lead": "添加资料后即可提问。资料只留在这台机器上。",
    "ask.empty.action": "添加资料",
    "ask.recent": "资料库中有",
    "ask.question": "问题",
    "ask.placeholder": "向你的资料提问……",
    "ask.send": "提问",
    "ask.stop": "停止",
    "ask.options": "选项",
    "ask.k": "阅读的段落数",
    "ask.k.usual": "默认",
    "ask.mode": "作答方式",
    "ask.mode.rag": "模型作答，注明出处",
    "ask.mode.quote": "只引用资料原文",
    "ask.mode.closed_book": "只凭模型，不查资料",
    "ask.collection": "资料集",
    "ask.model": "模型",
    "ask.thread": "问与答",
    "ask.clear": "清除这些问题",
    "ask.again": "重新提问",
    "ask.copy": "复制答案",
    "ask.copied": "已复制",

    "state.loading": "等待模型载入",
    "state.searching": "正在检索资料",
    "state.reading": ({ n }) => `正在阅读 ${say.number(n)} 个段落`,
    "state.waiting": "等待模型",
    "state.thinking": "正在思考",
    "state.writing": "正在作答",
    "state.sourced": ({ n }) => `依据 ${say.number(n)} 处出处作答`,
    "state.unsourced": "此答案没有出处，请另行核实",
    "state.quoted": ({ n }) => `摘自 ${say.number(n)} 处原文，并非模型撰写`,
    "state.refused": "资料中似乎没有这个问题的答案",
    "state.stopped": "已停止",
    "state.failed": "未能作答",
    "refused.near": "最接近的段落",
    "refused.near.none": "没有接近的段落。换个说法，或添加相关资料再试。",
    "refusal.nothing_ingested": "这个资料集还没有资料。请先在资料库中添加，再来提问。",
    "refusal.nothing_found": "没有任何段落含有这些字词或相近的内容。",
    "refusal.nothing_relevant": "没有足够接近的段落可据以作答。",
    "refusal.not_in_passages": "找到的段落没有说明这一点。",
    "unsupported.flag": "没有段落支持这句话。",
    "unsupported.legend": "所读段落都不支持它前面的这句话。",
    "reasoning": "模型的思考过程",
    "ready.loading": "正在载入模型，稍候即可提问。",
    "ready.failed": "服务未能载入模型，原因见其日志。",
    "answer.empty": "模型没有写出任何内容。",

    "citation.open": ({ n, title }) => `出处 ${n}：${title}`,
    "citation.marker": ({ n }) => `打开出处 ${n}`,
    "citation.heading": "出处",
    "citation.also": ({ n }) => `另外读过 ${say.number(n)} 个段落`,
    "citation.reading": "正在阅读",
    "citation.support": ({ share }) => `支持度 ${say.percent(share)}`,
    "meta.first": ({ ms }) => `首字 ${say.seconds(ms)}`,
    "meta.total": ({ ms }) => `共 ${say.seconds(ms)}`,
    "meta.confidence": ({ share }) => `把握 ${say.percent(share)}`,
    "meta.dropped": ({ n }) => `${say.number(n)} 个段落放不下`,

    "source.loading": "正在打开资料……",
    "source.text": "资料全文",
    "source.before": "前文已隐藏",
    "source.after": "后文已隐藏",
    "source.all": "显示全文",
    "source.previous": "上一处出处",
    "source.next": "下一处出处",
    "source.of": ({ i, n }) => `${i} / ${n}`,
    "source.moved": "作答之后资料有改动，引文已不在原处。",
    "source.found": "引文已标出。",

    "library.title": "资料库",
    "library.count": ({ documents, chunks }) => `${say.number(documents)} 份资料，${say.number(chunks)} 个段落`,
    "library.loading": "正在读取资料库……",
    "library.empty.title": "这里还没有资料",
    "library.empty.lead": "把 PDF、Word、HTML、Markdown 或文本文件拖到上方。读取一次，即可提问。",
    "library.filter": "按标题或路径查找",
    "library.filter.none": "没有标题或路径含这些字的资料。",
    "library.document": "资料",
    "library.pages": "页数",
    "library.chunks": "段落",
    "library.added": "添加时间",
    "library.date": ({ iso }) => say.date(iso),
    "library.warnings": ({ n }) => `${say.number(n)} 条提醒`,
    "library.delete": ({ title }) => `删除 ${title}`,
    "library.delete.title": "删除这份资料？",
    "library.delete.lead": ({ title }) => `《${title}》会立即移出资料库，不再用于作答。你自己文件夹里的文件不受影响。`,
    "library.delete.action": "删除",
    "library.deleted": ({ title }) => `已删除《${title}》。`,

    "upload.title": "添加资料",
    "upload.drop": "把文件拖到这里",
    "upload.or": "或",
    "upload.choose": "选择文件",
    "upload.sending": ({ share }) => `正在发送 ${say.percent(share)}`,
    "upload.queued": "排队中",
    "upload.running": "正在读取并建立索引",
    "upload.added": "已添加",
    "upload.updated": "已更新",
    "upload.unchanged": "已在资料库中，没有变化",
    "upload.failed": "未添加",
    "upload.dismiss": "清除此列表",
    "upload.finished": ({ n, failed }) => `${say.number(n)} 个文件已入库` + (failed ? `，${say.number(failed)} 个未添加` : ""),

    "error.unreachable": "服务没有回应。它还在运行吗？用 “python -m service” 启动后再试。",
    "error.broken": "答案尚未完整，连接就断了。请再试一次。",
    "error.unexpected": ({ status }) => `服务返回了错误（${status}）。`,
    "error.busy": ({ s }) => `请在 ${s} 秒后再试。`,
    "key.title": "此服务需要密钥",
    "key.lead": "密钥由运行此服务的人提供，保存到关闭此标签页为止。",
    "key.label": "密钥",
    "key.send": "继续",
    "key.wrong": "密钥不正确。",

    "error.page": "页面出了问题，请重新加载。",
  },
};

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
