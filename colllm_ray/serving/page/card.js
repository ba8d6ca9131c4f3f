// The card with a token's details, beside the token that is pointed at or has the focus.

import { element } from "./elements.js";
import { chance, logarithm, probability } from "./numbers.js";

export const DOUBTS = {
    unsure: "its author was unsure of it",
    tie: "who should write it was nearly a tie",
};

const LINGER_MS = 150; // so that the pointer can move from the token to the card
const GAP = 10; // pixels between a token and the card

/** A token's text, with its white space to be seen. */
export const shown = (name) => name.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");

export class Card {
    constructor(card, members) {
        this.card = card;
        this.members = members;
        this.anchor = null;
        card.addEventListener("pointerenter", () => clearTimeout(this.timer));
        card.addEventListener("pointerleave", () => this.hideSoon());
        document.addEventListener("keydown", ({ key }) => key === "Escape" && this.hide());
        document.addEventListener("pointerdown", ({ target }) => target.closest("#card, .token") || this.hide());
    }

    /** `threshold`: that the token was written with; null where one model wrote alone. */
    show(anchor, token, threshold) {
        this.hide();
        this.anchor = anchor;
        anchor.setAttribute("aria-describedby", this.card.id);
        this.members.paint(this.card, token.model);
        this.card.replaceChildren(heading(token), facts(token, threshold), ...alternatives(token));
        this.card.hidden = false;
        const column = anchor.parentElement.parentElement.getBoundingClientRect();
        this.place(anchor.querySelector(".ink").getClientRects()[0], column.right);
    }

    hideSoon() {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.hide(), LINGER_MS);
    }

    hide() {
        clearTimeout(this.timer);
        this.card.hidden = true;
        this.anchor?.removeAttribute("aria-describedby");
    }

    /** Below the token, or above where there is no room below; to the left of `right` and within the window. */
    place(token, right) {
        const { offsetWidth: width, offsetHeight: height } = this.card;
        const isBelow = token.bottom + GAP + height < window.innerHeight || token.top < height + GAP;
        const top = isBelow ? token.bottom + GAP : token.top - GAP - height;
        this.card.style.left = `${window.scrollX + Math.max(GAP, Math.min(token.left, right - width))}px`;
        this.card.style.top = `${window.scrollY + top}px`;
    }
}

function heading(token) {
    const author = element("span", { class: "author" }, token.model);
    return element("p", { class: "title" }, element("code", {}, shown(token.name)), " by ", author);
}

function facts(token, threshold) {
    const list = element("dl");
    if (token.p_defer !== null) {
        const side = token.p_defer > threshold ? "above" : "not above";
        const p = element("span", {}, probability(token.p_defer));
        const note = element("small", {}, `${side} threshold ${probability(threshold)}`);
        list.append(element("dt", {}, "p", element("sub", {}, "defer")), element("dd", {}, p, " ", note));
    }
    const logprob = element("small", {}, `a chance of ${chance(token.logprob)}`);
    list.append(element("dt", {}, "log-prob"), element("dd", {}, logarithm(token.logprob), " ", logprob));
    if (token.doubt) list.append(element("dt", {}, "double-check"), element("dd", {}, DOUBTS[token.doubt]));
    return list;
}

function alternatives(token) {
    if (!token.top.length) return [];
    const rows = token.top.map(({ token: name, logprob }) => {
        const row = element("li", {}, element("code", {}, shown(name)), element("span", {}, chance(logprob)));
        row.style.setProperty("--part", Math.exp(logprob));
        row.classList.toggle("taken", name === token.name);
        return row;
    });
    return [element("p", {}, `The likeliest here, for ${token.model}:`), element("ul", {}, ...rows)];
}
