// How much of an answer each model wrote: a bar, and the numbers beside it.

import { element } from "./elements.js";
import { percent } from "./numbers.js";

export class Shares {
    constructor(members) {
        this.counts = new Map(members.names.map((name) => [name, 0]));
        this.segments = members.names.map((name) => members.paint(element("span"), name));
        this.numbers = members.names.map((name) => members.paint(element("li", { hidden: "" }), name));
        this.bar = element("div", { class: "bar", "aria-hidden": "true" }, ...this.segments);
        this.list = element("ul", { class: "shares", "aria-label": "Share of each model" }, ...this.numbers);
    }

    get total() {
        return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
    }

    /** One more token of each of these models. */
    add(names) {
        for (const name of names) this.counts.set(name, this.counts.get(name) + 1);
        [...this.counts].forEach(([name, count], i) => {
            this.segments[i].style.flexGrow = count;
            this.segments[i].hidden = count === 0;
            this.numbers[i].hidden = count === 0;
            this.numbers[i].replaceChildren(name, " ", element("b", {}, percent(count / this.total)), ` (${count})`);
        });
    }

    /** ["base 80 %", "math 20 %"], of those that wrote at all. */
    said() {
        const wrote = [...this.counts].filter(([, count]) => count > 0);
        return wrote.map(([name, count]) => `${name} ${percent(count / this.total)}`);
    }
}
