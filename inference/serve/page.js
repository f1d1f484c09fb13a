"use strict";
// Texts get into the page as text nodes only, never as markup.

const byId = (id) => document.getElementById(id);
const area = byId("text"), tagButton = byId("tag"), least = byId("least");
let found = null; // the document that is shown, its offsets in UTF-16 units, as strings have them here

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// A label is free text: as a class only its letters count, as in the pages that `musamma predict` writes.
const classOf = (label) => label.replace(/[^\p{L}\p{N}]/gu, "");

function say(arabic, english, detail) {
  const line = byId("status"), second = element("small", "", english);
  line.classList.toggle("wrong", detail !== undefined);
  second.lang = "en";
  second.dir = "ltr";
  line.replaceChildren(arabic, " ", second);
  if (detail) {
    const told = element("bdi", "", detail);
    told.dir = "auto";
    line.append(told);
  }
}

const kept = () => found.spans.filter((span) => span.score >= Number(least.value));

function drawLegend(spans) {
  const counts = new Map();
  for (const { label } of found.spans) counts.set(label, 0);
  for (const { label } of spans) counts.set(label, counts.get(label) + 1);
  byId("legend").replaceChildren(...[...counts].sort().map(([label, count]) => {
    const item = element("li");
    item.append(element("mark", classOf(label), `${label} ${count}`));
    return item;
  }));
}

function drawText(spans) {
  const text = found.text, parts = [];
  let at = 0;
  spans.forEach((span, index) => {
    parts.push(text.slice(at, span.start));
    const mark = element("mark", classOf(span.label), text.slice(span.start, span.end));
    mark.title = `${span.label} ${span.score.toFixed(3)}`;
    parts.push(mark);
    // The label stands behind the word that the name ends in, so that it does not part the word's letters.
    const next = index + 1 < spans.length ? spans[index + 1].start : text.length;
    const rest = text.slice(span.end, next).match(/^[\p{L}\p{M}\p{N}\u0640\u200c\u200d]*/u)[0];
    const tag = element("small", classOf(span.label), `${span.label} ${span.score.toFixed(2)}`);
    tag.dir = "auto";
    parts.push(rest, tag);
    at = span.end + rest.length;
  });
  parts.push(text.slice(at));
  byId("tagged").replaceChildren(...parts);
}

function draw() {
  byId("shown-least").textContent = Number(least.value).toFixed(2);
  if (!found) return;
  const spans = kept();
  drawLegend(spans);
  drawText(spans);
  byId("result").hidden = false;
}

async function tag() {
  if (tagButton.disabled) return;
  tagButton.disabled = true;
  say("يجري الاستخراج…", "Tagging…");
  try {
    const text = area.value.toWellFormed ? area.value.toWellFormed() : area.value;
    const response = await fetch("predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text, offsets: "utf16" }),
    });
    const answer = await response.json().catch(() => ({ error: `HTTP ${response.status}` }));
    if (!response.ok) {
      say("تعذّر الاستخراج.", "It could not be tagged.", answer.error);
      return;
    }
    [found] = answer.documents;
    draw();
    const count = found.spans.length;
    say(count ? `عدد الأسماء: ${count}` : "لا أسماء في النص.", count ? `Names: ${count}` : "No names.");
  } catch (error) {
    say("لا يصل الخادم.", "The service cannot be reached.", String(error));
  } finally {
    tagButton.disabled = false;
  }
}

// Copied are code points, which musamma's files count in.
function asJson() {
  const points = (offset) => [...found.text.slice(0, offset)].length;
  const spans = kept().map((span) => ({ ...span, start: points(span.start), end: points(span.end) }));
  return JSON.stringify({ text: found.text, spans }, null, 2);
}

async function copy() {
  const json = asJson();
  try {
    await navigator.clipboard.writeText(json);
  } catch {
    // Without HTTPS there is no clipboard but on the machine itself.
    const hidden = element("textarea", "", "");
    hidden.value = json;
    document.body.append(hidden);
    hidden.select();
    const done = document.execCommand("copy");
    hidden.remove();
    byId("copy").focus();
    if (!done) {
      say("تعذّر النسخ.", "It could not be copied.", "");
      return;
    }
  }
  say("نُسخ.", "Copied.");
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
  area.value = event.currentTarget.dataset.text;
  tag();
});
least.addEventListener("input", draw);
byId("copy").addEventListener("click", copy);
