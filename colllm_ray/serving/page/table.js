// The tokens of an answer as a table, made when it is opened.

import { DOUBTS, shown } from "./card.js";
import { element } from "./elements.js";
import { chance, listed, logarithm, probability } from "./numbers.js";

const HEADINGS = ["Token", "Author", "p_defer", "Log-prob", "Also likely", "Double-check"];

const LEAST = Math.log(0.001); // of a token that is told as likely

export function tokenTable(answer) {
    const summary = element("summary", {}, "Tokens as a table");
    const details = element("details", { class: "tokens" }, summary);
    details.addEventListener("toggle", () => {
        const scroller = element("div", { class: "scroller" }, table(answer));
        if (details.open) details.replaceChildren(summary, scroller);
    });
    return details;
}

function table({ trace, calls }) {
    const headings = HEADINGS.map((heading) => element("th", { scope: "col" }, heading));
    const head = element("thead", {}, element("tr", {}, ...headings));
    return element("table", {}, caption(calls), head, element("tbody", {}, ...trace.tokens.map(row)));
}

/** What the answer cost; unknown of one that was stopped. */
function caption(calls) {
    const asked = Object.entries(calls ?? {}).filter(([, model]) => model.calls > 0);
    const told = asked.map(([name, model]) => `${name} ${model.calls}`);
    return element("caption", {}, told.length ? `Times that each model was asked: ${listed(told)}.` : "");
}

function row(token) {
    const others = token.top.filter(({ token: name, logprob }) => name !== token.name && logprob > LEAST);
    const cells = [
        token.model,
        token.p_defer === null ? "" : probability(token.p_defer),
        logarithm(token.logprob),
        others.map(({ token: name, logprob }) => `${shown(name)} ${chance(logprob)}`).join(", "),
        DOUBTS[token.doubt] ?? "",
    ];
    const name = element("th", { scope: "row" }, element("code", {}, shown(token.name)));
    return element("tr", {}, name, ...cells.map((cell) => element("td", {}, cell)));
}
