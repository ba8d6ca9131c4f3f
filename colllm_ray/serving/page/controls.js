// What is asked beside the question: the threshold, the experts that may write, the comparison, the earlier turns.

import { byId, element } from "./elements.js";
import { percent, probability } from "./numbers.js";
import { Scale } from "./scale.js";

export class Controls {
    constructor({ threshold, budgets }, members) {
        this.calibrated = threshold;
        this.scale = new Scale(budgets);
        this.switches = new Map(members.experts.map((name) => [name, switchOf(name)]));
        const experts = [...this.switches].map(([name, input]) => author(members, name, input));
        byId("authors").replaceChildren(author(members, members.base, "always on"), ...experts);
        byId("threshold").addEventListener("input", ({ target }) => this.slide(target.value / 100));
        byId("calibrated").addEventListener("click", () => this.reset());
        this.reset();
    }

    get settings() {
        const experts = [...this.switches].filter(([, input]) => input.checked).map(([name]) => name);
        return { threshold: this.threshold, experts, compare: byId("compare").checked };
    }

    get remembers() {
        return byId("remember").checked;
    }

    slide(share) {
        this.set(this.scale.thresholdAt(share));
    }

    reset() {
        byId("threshold").value = 100 * this.scale.shareAt(this.calibrated);
        this.set(this.calibrated);
    }

    set(threshold) {
        this.threshold = threshold;
        const share = percent(this.scale.shareAt(threshold));
        byId("threshold-value").textContent = probability(threshold);
        byId("threshold-effect").textContent = `Experts can be expected to write ${share} of the tokens.`;
        byId("threshold").setAttribute("aria-valuetext", `${probability(threshold)}, experts write ${share}`);
        byId("calibrated").disabled = threshold === this.calibrated;
    }
}

/** A line of the legend. */
function author(members, name, control) {
    const sample = element("span", { class: "sample" }, element("span", { class: "ink" }, name));
    return element("li", {}, element("label", {}, members.paint(sample, name), control));
}

const switchOf = (name) => {
    const input = element("input", { type: "checkbox", role: "switch", "aria-label": `${name} may write` });
    input.checked = true;
    return input;
};
