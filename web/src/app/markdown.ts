// Markdown to DOM, block by block. Model output is never trusted: HTML in it is shown as text, images become links (an
// image's address could carry the conversation away), and what marked makes goes through DOMPurify's short list of tags.

import DOMPurify from "dompurify";
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { Marked, type Token, type TokensList } from "marked";

const languages = { bash, c, cpp, css, diff, go, java, javascript, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);

const maxHighlighted = 50_000; // characters; longer code is shown plain

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (ch) => `&#${ch.charCodeAt(0)};`);
}

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => (/^<br\s*\/?>$/i.test(text.trim()) ? "<br>" : escape(text)),
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
  },
});

const allowed = {
  ALLOWED_TAGS: [
    ..."p br hr h1 h2 h3 h4 h5 h6 strong em del code pre blockquote ul ol li a table thead tbody tr th td input".split(" "),
  ],
  ALLOWED_ATTR: ["href", "class", "align", "start", "type", "checked", "disabled"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ADD_URI_SAFE_ATTR: ["align", "start", "type", "checked", "disabled"], // not addresses, so not held to the pattern above
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true as const,
};

// blocks splits a text at its top level. A block whose raw text is unchanged need not be rendered again.
export function blocks(text: string): Token[] {
  const tokens: TokensList = marked.lexer(text);
  return tokens.filter((t) => t.type !== "space" && t.type !== "def");
}

// renderBlock gives the DOM of one block.
export function renderBlock(token: Token): DocumentFragment {
  const fragment = DOMPurify.sanitize(marked.parser([token]), allowed);
  for (const a of fragment.querySelectorAll("a")) {
    a.target = "_blank";
    a.rel = "noopener noreferrer nofollow";
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "table-frame";
    frame.tabIndex = 0;
    frame.role = "group";
    frame.ariaLabel = "Table";
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const pre of fragment.querySelectorAll("pre")) decorate(pre);
  for (const e of fragment.querySelectorAll("[class]")) {
    // A class may style code and nothing else of the page.
    if (!e.closest(".code, .table-frame")) e.removeAttribute("class");
  }
  return fragment;
}

// decorate highlights a code block and puts its language and a copy button above it.
function decorate(pre: HTMLPreElement): void {
  const code = pre.querySelector("code") ?? pre;
  const text = code.textContent ?? "";
  const name = /\blanguage-(\S+)/.exec(code.className)?.[1] ?? "";
  const language = hljs.getLanguage(name) ? name : "";
  code.removeAttribute("class");
  if (language && text.length <= maxHighlighted) {
    const { value } = hljs.highlight(text, { language, ignoreIllegals: true });
    code.replaceChildren(
      DOMPurify.sanitize(value, { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true }),
    );
  }
  pre.tabIndex = 0; // so that the keyboard can scroll it

  const frame = document.createElement("div");
  frame.className = "code";
  const bar = document.createElement("div");
  bar.className = "code-bar";
  const label = document.createElement("span");
  label.textContent = name || "text";
  const copy = document.createElement("button");
  copy.type = "button";
  copy.className = "code-copy";
  copy.textContent = "Copy";
  copy.setAttribute("aria-label", "Copy code");
  bar.append(label, copy);
  pre.replaceWith(frame);
  frame.append(bar, pre);
}
