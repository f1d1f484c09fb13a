"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const form = byId("filter"), kind = byId("kind"), label = byId("label"), search = byId("search");
  const wrong = byId("wrong"), shown = byId("shown"), none = byId("none");

  // For the search only: remove vowel signs and tatweel, and map letters often confused in writing to one.
  const fold = (text) =>
    text
      .normalize("NFKD")
      .replace(/[\p{M}\u0640]/gu, "")
      .replace(/\u0671/g, "\u0627")
      .replace(/[\u0649\u06CC]/g, "\u064A")
      .replace(/\u0629/g, "\u0647")
      .replace(/\u06A9/g, "\u0643")
      .replace(/\s+/gu, " ")
      .toLowerCase()
      .trim();

  // The text of an article, without the tags of its names.
  const articleText = (element) => {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, (node) =>
      node.nodeType === Node.ELEMENT_NODE
        ? node.classList.contains("tag") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_SKIP
        : NodeFilter.FILTER_ACCEPT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode.data);
    return texts.join("");
  };

  const articles = Array.from(document.querySelectorAll("#documents > article"), (element) => ({
    element,
    errors: Number(element.dataset.errors),
    text: fold(element.querySelector("h3").textContent + " " + articleText(element.querySelector(".text"))),
    tags: Array.from(element.querySelectorAll(".tag"), (tag) => ({
      element: tag,
      kind: tag.dataset.kind,
      labels: tag.dataset.labels.split("\t"),
    })),
  }));

  const apply = () => {
    const query = fold(search.value), chosen = Boolean(kind.value || label.value);
    let count = 0;
    for (const article of articles) {
      let hits = 0;
      for (const tag of article.tags) {
        const hit = (!kind.value || tag.kind === kind.value) && (!label.value || tag.labels.includes(label.value));
        tag.element.classList.toggle("hit", chosen && hit);
        hits += hit;
      }
      const matches =
        (!chosen || hits > 0) && (!wrong.checked || article.errors > 0) && (!query || article.text.includes(query));
      article.element.hidden = !matches;
      count += matches;
    }
    shown.textContent = count + " of " + articles.length + " shown";
    none.hidden = count > 0;
  };

  const write = () => {
    const state = new URLSearchParams();
    if (kind.value) state.set("kind", kind.value);
    if (label.value) state.set("label", label.value);
    if (wrong.checked) state.set("errors", "1");
    if (search.value) state.set("search", search.value);
    const hash = state.toString();
    try {
      history.replaceState(null, "", hash ? "#" + hash : "#articles");
    } catch {
      // A page in a frame must not change its address; the filter works anyway.
    }
  };

  const read = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    const known = ["kind", "label", "errors", "search"].some((key) => state.has(key));
    const target = known ? null : document.querySelector("article:target");
    if (!known && !(target && target.hidden)) return;
    kind.value = state.get("kind") || "";
    label.value = state.get("label") || "";
    wrong.checked = state.get("errors") === "1";
    search.value = state.get("search") || "";
    for (const select of [kind, label]) if (select.selectedIndex < 0) select.value = "";
    apply();
    (target || byId("articles")).scrollIntoView();
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { apply(); write(); });
  form.addEventListener("reset", () => setTimeout(() => { apply(); write(); }));
  window.addEventListener("hashchange", read);
  form.hidden = false;
  apply();
  read();
})();
