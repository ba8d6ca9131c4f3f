// The tokens of an answer, each in the colours of its author. Tab enters them, arrow keys move among them.

import { element } from "./elements.js";

export class Trace {
    constructor(members, card, label) {
        this.members = members;
        this.card = card;
        this.threshold = null;
        this.tokens = [];
        this.spans = [];
        this.element = element("div", { class: "trace", role: "group", "aria-label": label });
        this.element.addEventListener("pointerover", (event) => this.pointed(event));
        this.element.addEventListener("pointerleave", () => card.hideSoon());
        this.element.addEventListener("click", ({ target }) => target.closest(".token")?.focus());
        this.element.addEventListener("focusin", (event) => this.entered(event.target));
        this.element.addEventListener("focusout", () => card.hide());
        this.element.addEventListener("keydown", (event) => this.pressed(event));
    }

    add(token) {
        const before = this.tokens.at(-1);
        const begins = before?.model !== token.model;
        if (token.doubt && !before?.doubt) (begins ? this.element : this.run).append(remark("double-check: "));
        if (begins) this.element.append(this.beginRun(token.model));
        const span = tokenSpan(token);
        span.tabIndex = this.spans.length ? -1 : 0;
        this.run.append(span);
        this.tokens.push(token);
        this.spans.push(span);
    }

    /** The tokens of one author that follow each other. */
    beginRun(author) {
        this.run = this.members.paint(element("span", { class: "run" }), author);
        return this.run;
    }

    get text() {
        return this.tokens.map((token) => token.text).join("");
    }

    focus(index) {
        this.spans[index]?.focus();
    }

    pointed(event) {
        const index = this.spans.indexOf(event.target.closest(".token"));
        if (event.pointerType === "mouse" && index >= 0) this.show(index);
    }

    entered(span) {
        for (const other of this.element.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
        span.tabIndex = 0;
        this.show(this.spans.indexOf(span));
    }

    pressed(event) {
        const to = this.destination(event.key, this.spans.indexOf(event.target));
        if (to === null) return;
        event.preventDefault();
        this.focus(to);
    }

    /** Left and right go token by token, up and down from author to author. */
    destination(key, from) {
        const isOther = (token) => token.model !== this.tokens[from].model;
        switch (key) {
            case "ArrowRight": return from + 1;
            case "ArrowLeft": return from - 1;
            case "ArrowDown": return this.tokens.findIndex((token, i) => i > from && isOther(token));
            case "ArrowUp": return this.tokens.findLastIndex((token, i) => i < from && isOther(token));
            case "Home": return 0;
            case "End": return this.spans.length - 1;
            default: return null;
        }
    }

    show(index) {
        this.card.show(this.spans[index], this.tokens[index], this.threshold);
    }
}

/** The white space before a word is apart: that before a run stays without its colour. */
function tokenSpan(token) {
    const [space] = token.text.match(/^\s*(?=\S)/) ?? [""];
    const ink = element("span", { class: "ink" }, token.text.slice(space.length));
    const span = element("span", { class: "token" }, element("span", { class: "space" }, space), ink);
    span.classList.toggle("doubt", token.doubt !== null);
    span.classList.toggle("empty", token.text === "");
    return span;
}

/** Said by screen readers; neither seen nor copied. */
const remark = (text) => element("span", { class: "unseen" }, text);
