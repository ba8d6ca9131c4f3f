// The turns on the page; one question at a time.

import { byId } from "./elements.js";
import { Turn } from "./turn.js";

export class Conversation {
    /** `changed` is called when writing begins and ends, `refused` when the server wants another API key. */
    constructor(collaboration, controls, card, { changed, refused }) {
        this.collaboration = collaboration;
        this.controls = controls;
        this.card = card;
        this.changed = changed;
        this.refused = refused;
        this.turns = [];
        this.abort = null; // of what is being written
    }

    get isWriting() {
        return this.abort !== null;
    }

    ask(question) {
        const earlier = this.controls.remembers ? this.turns.flatMap((turn) => turn.said) : [];
        const turn = new Turn(this.collaboration, this.card, question, earlier);
        turn.again.addEventListener("click", () => this.again(turn));
        this.turns.push(turn);
        byId("turns").append(turn.element);
        return this.again(turn);
    }

    /** Writes a turn's answers, with the settings as they are now. */
    async again(turn) {
        if (!this.isWriting) await this.write(turn, async (signal) => turn.write(this.controls.settings, signal));
    }

    /** Lets the base alone answer the last question, unless it has. */
    async compare() {
        const turn = this.turns.at(-1);
        if (!turn || turn.alone || this.isWriting) return;
        await this.write(turn, async (signal) => [await turn.compare(signal)].filter((error) => error !== null));
    }

    async write(turn, work) {
        const abort = (this.abort = new AbortController());
        byId("announcement").textContent = "";
        this.changed();
        try {
            const errors = await work(abort.signal);
            if (errors.some((error) => error.wantsKey)) this.refused();
        } finally {
            if (this.abort === abort) this.finish(turn);
        }
    }

    finish(turn) {
        this.abort = null;
        this.changed();
        byId("announcement").textContent = turn.summary();
    }

    stop() {
        this.abort?.abort();
    }

    clear() {
        this.stop();
        this.abort = null;
        this.turns = [];
        byId("turns").replaceChildren();
        this.changed();
    }
}
