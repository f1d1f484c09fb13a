"use strict";
// Text is inserted as text nodes only, never as markup.

const byId = (id) => document.getElementById(id);
const textArea = byId("text"), tagButton = byId("tag"), minScore = byId("min-score");
let tagged = null; // the document shown, with offsets in UTF-16 units as JavaScript's strings have them

function createElement(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// A label may hold any character; its class consists of its letters and digits, as in the pages of `musamma predict`.
const classOf = (label) => label.replace(/[^\p{L}\p{N}]/gu, "");

// A status with a `detail`, even an empty one, is an error.
function showStatus(arabic, english, detail) {
  const status = byId("status"), translation = createElement("small", "", english);
  status.classList.toggle("error", detail !== undefined);
  translation.lang = "en";
  translation.dir = "ltr";
  status.replaceChildren(arabic, " ", translation);
  if (detail) {
    const element = createElement("bdi", "", detail);
    element.dir = "auto";
    status.append(element);
  }
}

// Names that are in a list of rules have no minimum score.
const isListed = (span) => ["added", "confirmed"].includes(span.rule);
const shownSpans = () => tagged.spans.filter((span) => isListed(span) || span.score >= Number(minScore.value));
const describeScore = (span, digits) => (span.score === undefined ? "rule" : span.score.toFixed(digits));

function drawLegend(spans) {
  const counts = new Map();
  for (const { label } of tagged.spans) counts.set(label, 0);
  for (const { label } of spans) counts.set(label, counts.get(label) + 1);
  byId("legend").replaceChildren(...[...counts].sort().map(([label, count]) => {
    const item = createElement("li");
    item.append(createElement("mark", classOf(label), `${label} ${count}`));
    return item;
  }));
}

function drawText(spans) {
  const text = tagged.text, nodes = [];
  let position = 0;
  spans.forEach((span, index) => {
    nodes.push(text.slice(position, span.start));
    const mark = createElement("mark", classOf(span.label), text.slice(span.start, span.end));
    mark.title = `${span.label} ${describeScore(span, 3)}`;
    nodes.push(mark);
    // The label follows the word in which the name ends, so that it does not separate the letters of the word.
    const nextStart = index + 1 < spans.length ? spans[index + 1].start : text.length;
    const restOfWord = text.slice(span.end, nextStart).match(/^[\p{L}\p{M}\p{N}\u0640\u200c\u200d]*/u)[0];
    const label = createElement("small", classOf(span.label), `${span.label} ${describeScore(span, 2)}`);
    label.dir = "auto";
    nodes.push(restOfWord, label);
    position = span.end + restOfWord.length;
  });
  nodes.push(text.slice(position));
  byId("tagged").replaceChildren(...nodes);
}

function draw() {
  byId("shown-min-score").textContent = Number(minScore.value).toFixed(2);
  if (!tagged) return;
  const spans = shownSpans();
  drawLegend(spans);
  drawText(spans);
  byId("result").hidden = false;
}

async function tag() {
  if (tagButton.disabled) return;
  tagButton.disabled = true;
  showStatus("يجري الاستخراج…", "Tagging…");
  try {
    const text = textArea.value.toWellFormed ? textArea.value.toWellFormed() : textArea.value;
    const response = await fetch("predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text, offsets: "utf16" }),
    });
    const body = await response.json().catch(() => ({ error: `HTTP ${response.status}` }));
    if (!response.ok) {
      showStatus("تعذّر الاستخراج.", "Tagging failed.", body.error);
      return;
    }
    [tagged] = body.documents;
    draw();
    const count = tagged.spans.length;
    showStatus(count ? `عدد الأسماء: ${count}` : "لا أسماء في النص.", count ? `Names: ${count}` : "No names.");
  } catch (error) {
    showStatus("لا يصل الخادم.", "The service cannot be reached.", String(error));
  } finally {
    tagButton.disabled = false;
  }
}

// The copied offsets count code points, as in Musamma's files.
function toJson() {
  const codePoints = (offset) => [...tagged.text.slice(0, offset)].length;
  const spans = shownSpans().map((span) => ({ ...span, start: codePoints(span.start), end: codePoints(span.end) }));
  return JSON.stringify({ text: tagged.text, spans }, null, 2);
}

async function copy() {
  const json = toJson();
  try {
    await navigator.clipboard.writeText(json);
  } catch {
    // Without HTTPS, browsers offer the clipboard only to pages from the same machine.
    const temporary = createElement("textarea", "", "");
    temporary.value = json;
    document.body.append(temporary);
    temporary.select();
    const copied = document.execCommand("copy");
    temporary.remove();
    byId("copy").focus();
    if (!copied) {
      showStatus("تعذّر النسخ.", "Copying failed.", "");
      return;
    }
  }
  showStatus("نُسخ.", "Copied.");
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  tag();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    tag();
  }
});
byId("example").addEventListener("click", (event) => {
  textArea.value = event.currentTarget.dataset.text;
  tag();
});
minScore.addEventListener("input", draw);
byId("copy").addEventListener("click", copy);
