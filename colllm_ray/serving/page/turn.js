// A question, the answer to it, and the base's own answer beside it.

import { Answer } from "./answer.js";
import { element } from "./elements.js";

export class Turn {
    /** `earlier`: the messages before the question. */
    constructor(collaboration, card, question, earlier) {
        this.collaboration = collaboration;
        this.card = card;
        this.messages = [...earlier, { role: "user", content: question }];
        this.again = element("button", { type: "button", class: "again" }, "Ask again");
        this.answers = element("div", { class: "answers" });
        const head = element("header", {}, element("h2", {}, question), this.again);
        this.element = element("article", { class: "turn" }, head, this.answers);
    }

    /** The turn as messages of later questions; none where nothing was answered. */
    get said() {
        const text = this.together?.text;
        return text ? [this.messages.at(-1), { role: "assistant", content: text }] : [];
    }

    /** Writes the answers anew. Returns the ApiErrors that they ended with. */
    async write({ threshold, experts, compare }, signal) {
        const { name, members } = this.collaboration;
        this.together = new Answer("together", members, this.card);
        this.alone = null;
        this.answers.replaceChildren(this.together.element);
        const fields = { model: name, messages: this.messages, colllm: { threshold, experts } };
        const errors = [this.together.write(fields, signal), compare ? this.compare(signal) : null];
        return (await Promise.all(errors)).filter((error) => error !== null);
    }

    /** Lets the base alone answer as well. Returns the ApiError that this ended with, or null. */
    compare(signal) {
        const { name, members } = this.collaboration;
        this.alone = new Answer(`${members.base} alone`, members, this.card);
        this.alone.element.classList.add("alone");
        this.answers.append(this.alone.element);
        return this.alone.write({ model: `${name}/${members.base}`, messages: this.messages }, signal);
    }

    /** What is said aloud once the answers are there. */
    summary() {
        const answers = [this.together, this.alone].filter((answer) => answer !== null);
        return answers.map((answer) => answer.summary()).join(" ");
    }
}
