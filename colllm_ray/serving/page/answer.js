// One answer on the page: its tokens as they come, who wrote how much, how fast, what to double-check, what went wrong.

import { ApiError, answerTo } from "./api.js";
import { element } from "./elements.js";
import { counted, duration, listed } from "./numbers.js";
import { Shares } from "./shares.js";
import { tokenTable } from "./table.js";
import { Trace } from "./trace.js";

export class Answer {
    /** `title`: whose answer it is. */
    constructor(title, members, card) {
        this.title = title;
        this.trace = new Trace(members, card, `Answer, ${title}, token by token`);
        this.shares = new Shares(members);
        this.figures = element("p", { class: "figures" });
        this.checks = element("p", { class: "checks", hidden: "" });
        this.notes = element("p", { class: "notes", hidden: "" });
        this.error = element("p", { class: "error", role: "alert", hidden: "" });
        this.table = tokenTable(this);
        this.table.hidden = true;
        const numbers = [this.shares.bar, this.shares.list, this.figures];
        this.numbers = element("div", { class: "numbers", hidden: "" }, ...numbers);
        const parts = [this.trace.element, this.error, this.checks, this.notes, this.numbers, this.table];
        this.element = element("section", { class: "answer" }, element("h3", {}, title), ...parts);
    }

    get text() {
        return this.trace.text;
    }

    /** Asks for the answer and shows it as it comes. Returns the ApiError that it ended with, or null. */
    async write(fields, signal) {
        this.trace.threshold = fields.colllm?.threshold ?? null;
        this.element.classList.add("writing");
        this.begin = performance.now();
        try {
            for await (const part of answerTo(fields, signal)) this.add(part);
        } catch (error) {
            if (error.name === "AbortError") this.note("Stopped.");
            else if (error instanceof ApiError) return this.fail(error);
            else throw error;
        } finally {
            this.element.classList.remove("writing");
            this.table.hidden = !this.shares.total;
        }
        return null;
    }

    add({ tokens, finish, doubleCheck, lost, usage }) {
        for (const token of tokens) this.trace.add(token);
        if (tokens.length) {
            this.shares.add(tokens.map((token) => token.model));
            this.measure();
            this.numbers.hidden = false;
        }
        if (finish === "length") this.note("It ends here because the models’ context is full.");
        if (lost.length) this.note(`Lost while it was written: ${listed(lost)}. The others went on.`);
        if (doubleCheck?.length) this.check(doubleCheck);
        if (usage) this.calls = usage.colllm.models;
    }

    measure() {
        const ms = performance.now() - this.begin;
        this.firstMs ??= ms;
        const { total } = this.shares;
        const speed = `${Math.round((1000 * total) / ms)} tokens/s`;
        const first = `first token after ${duration(this.firstMs)}`;
        this.figures.textContent = [counted(total, "token"), speed, first].join(" · ");
    }

    /** Links to the places that are marked. */
    check(spans) {
        this.checks.replaceChildren("Double-check: ", ...spans.map((span) => this.place(span)));
        this.checks.hidden = false;
    }

    place({ start, text }) {
        const button = element("button", { type: "button", class: "doubt" }, text.trim() || "the end");
        button.addEventListener("click", () => this.trace.focus(start));
        return button;
    }

    note(text) {
        this.notes.append(`${text} `);
        this.notes.hidden = false;
    }

    fail(error) {
        this.error.textContent = error.message;
        this.error.hidden = false;
        return error;
    }

    /** Who wrote how much of it, in words. */
    summary() {
        if (!this.shares.total) return `${this.title}: no answer.`;
        const marks = this.checks.querySelectorAll("button").length;
        const doubts = marks ? `; ${counted(marks, "place")} to double-check` : "";
        return `${this.title}: ${counted(this.shares.total, "token")}, ${listed(this.shares.said())}${doubts}.`;
    }
}
